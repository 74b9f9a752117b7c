"""Losses: what the model says against what the database says, and penalties on weights."""

from forcefoundry.losses.compare import MAE, MSE, R2, RMSE, LossNode
from forcefoundry.losses.penalty import L2

__all__ = ["L2", "MAE", "MSE", "R2", "RMSE", "LossNode"]
