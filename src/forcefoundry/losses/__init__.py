"""Losses: what the model says against what the database says, statistics of predictions, and penalties on weights."""

from forcefoundry.losses.compare import MAE, MSE, R2, RMSE, Huber, LossNode
from forcefoundry.losses.nodes import ReductionNode, SpreadNode, per_atom
from forcefoundry.losses.penalty import L1, L2
from forcefoundry.losses.phases import Phases
from forcefoundry.losses.statistics import Mean, MeanSq

__all__ = [
    "L1",
    "L2",
    "MAE",
    "MSE",
    "R2",
    "RMSE",
    "Huber",
    "LossNode",
    "Mean",
    "MeanSq",
    "Phases",
    "ReductionNode",
    "SpreadNode",
    "per_atom",
]
