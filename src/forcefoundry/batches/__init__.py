"""Packed batches from columns and pairs: which structures, as tensors, and made ahead of time."""

from forcefoundry.batches.batch import Packer
from forcefoundry.batches.joined import Batch
from forcefoundry.batches.prefetch import prefetched
from forcefoundry.batches.sampling import Budget, Sampler, in_order

__all__ = ["Batch", "Budget", "Packer", "Sampler", "in_order", "prefetched"]
