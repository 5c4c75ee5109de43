"""torch.cuda.amp: autocast and GradScaler for CUDA; tensorgrad.cuda.amp."""

import functools

from . import GradScaler as _GradScaler
from . import autocast as _autocast
from . import custom_bwd as _custom_bwd
from . import custom_fwd as _custom_fwd


class autocast(_autocast):
    """amp.autocast("cuda", ...)."""

    def __init__(self, enabled=True, dtype=None, cache_enabled=True):
        super().__init__("cuda", dtype=dtype, enabled=enabled, cache_enabled=cache_enabled)


class GradScaler(_GradScaler):
    """amp.GradScaler("cuda", ...)."""

    def __init__(self, init_scale=2.0**16, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000, enabled=True):
        super().__init__("cuda", init_scale, growth_factor, backoff_factor, growth_interval, enabled)


custom_fwd = functools.partial(_custom_fwd, device_type="cuda")
custom_bwd = functools.partial(_custom_bwd, device_type="cuda")
