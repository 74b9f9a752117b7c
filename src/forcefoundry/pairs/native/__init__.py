"""The compiled part of the CPU finder: plain loops that numba turns into machine code for the processor at hand."""
