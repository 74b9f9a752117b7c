"""The CUDA part of the GPU finder: kernels that Triton compiles. Imported only where Triton is installed."""
