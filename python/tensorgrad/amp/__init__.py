"""Automatic mixed precision: autocast chooses the dtype of each operation, GradScaler keeps small gradients from
rounding to zero. The names of torch.amp."""

from .autocast_mode import autocast, custom_bwd, custom_fwd, is_autocast_available
from .grad_scaler import GradScaler

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]
