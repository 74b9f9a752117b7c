"""Packed batches from columns and pairs."""

from forcefoundry.batches.batch import Batch, Packer
from forcefoundry.batches.sampling import in_order, shuffled

__all__ = ["Batch", "Packer", "in_order", "shuffled"]
