"""Loss scaling for float16."""

import warnings
from enum import Enum

from .. import _C


class OptState(Enum):
    """Where an optimizer stands between two updates of the scale."""

    READY = 0
    UNSCALED = 1
    STEPPED = 2


class GradScaler:
    """Multiplies losses by a scale, so that small float16 gradients do not round to zero, and steps optimizers with the
    gradients divided by it; leaves out a step whose gradients are not finite, and lowers the scale then.

    Example::

        scaler = tg.amp.GradScaler("cuda")
        for x, y in batches:
            optimizer.zero_grad()
            with tg.autocast("cuda", dtype=tg.float16):
                loss = F.cross_entropy(model(x), y)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()

    An optimizer with fused=True is given the scale and what was found, and needs no word from the device.
    """

    def __init__(
        self,
        device="cuda",
        init_scale=2.0**16,
        growth_factor=2.0,
        backoff_factor=0.5,
        growth_interval=2000,
        enabled=True,
    ):
        self._device = device
        self._enabled = enabled
        if enabled and device == "cuda" and not _C._cuda_is_available():
            warnings.warn("GradScaler: CUDA is not available; the scaler does nothing", stacklevel=2)
            self._enabled = False
        self._init_scale = init_scale
        self._growth_factor, self._backoff_factor = growth_factor, backoff_factor
        self._growth_interval = growth_interval
        self._init_growth_tracker = 0
        self._scale = self._growth_tracker = None
        self._per_optimizer_states = {}
        if self._enabled:
            assert growth_factor > 1.0, "The growth factor must be > 1.0."
            assert backoff_factor < 1.0, "The backoff factor must be < 1.0."

    def _state_of(self, optimizer):
        """The optimizer's stage, and found_inf by device."""
        return self._per_optimizer_states.setdefault(id(optimizer), {"stage": OptState.READY, "found": {}})

    def _prepare(self, device):
        if self._scale is None:
            self._scale = _C.full((), self._init_scale, dtype=_C.float32, device=device)
            self._growth_tracker = _C.full((), self._init_growth_tracker, dtype=_C.int32, device=device)

    def _check_used(self, name):
        if self._scale is None:
            raise AssertionError(
                f"Attempted {name} but _scale is None.  This may indicate your script did not use scaler.scale(loss or "
                "outputs) earlier in the iteration."
            )

    def scale(self, outputs):
        """A tensor, or the tensors of nested lists and tuples, times the scale."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, _C.Tensor):
            self._prepare(outputs.device)
            return outputs * self._scale.to(outputs.device)
        if isinstance(outputs, (list, tuple)) or hasattr(outputs, "__iter__"):
            made = [self.scale(o) for o in outputs]
            return type(outputs)(made) if isinstance(outputs, (list, tuple)) else made
        raise ValueError("outputs must be a Tensor or an iterable of Tensors")

    def _unscale(self, optimizer, inverse, allow_fp16):
        """Divides the gradients in place; what was found, by device."""
        lists = {}
        for group in optimizer.param_groups:
            for p in group["params"]:
                grad = p.grad
                if grad is None:
                    continue
                if not allow_fp16 and grad.dtype is _C.float16:
                    raise ValueError("Attempting to unscale FP16 gradients.")
                lists.setdefault(str(grad.device), []).append(grad)
        found = {}
        with _C.no_grad_guard():
            for device, grads in lists.items():
                found[device] = _C.zeros((), dtype=_C.float32, device=device)
                _C._amp_foreach_non_finite_check_and_unscale_(grads, found[device], inverse.to(device))
        return found

    def unscale_(self, optimizer):
        """Divides the optimizer's gradients by the scale, in place; step() does it where nobody did."""
        if not self._enabled:
            return
        self._check_used("unscale_")
        state = self._state_of(optimizer)
        if state["stage"] is OptState.UNSCALED:
            raise RuntimeError("unscale_() has already been called on this optimizer since the last update().")
        if state["stage"] is OptState.STEPPED:
            raise RuntimeError("unscale_() is being called after step().")
        inverse = self._scale.double().reciprocal().float()
        state["found"] = self._unscale(optimizer, inverse, False)
        state["stage"] = OptState.UNSCALED

    def step(self, optimizer, *args, **kwargs):
        """Steps the optimizer if its gradients are finite, and returns what its step() returned."""
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        self._check_used("step")
        state = self._state_of(optimizer)
        if state["stage"] is OptState.STEPPED:
            raise RuntimeError("step() has already been called since the last update().")
        if getattr(optimizer, "_step_supports_amp_scaling", False):
            return self._fused_step(optimizer, state, args, kwargs)
        if state["stage"] is OptState.READY:
            self.unscale_(optimizer)
        if not state["found"]:
            raise AssertionError("No inf checks were recorded for this optimizer.")
        result = None
        if not sum(found.item() for found in state["found"].values()):
            result = optimizer.step(*args, **kwargs)
        state["stage"] = OptState.STEPPED
        return result

    def _fused_step(self, optimizer, state, args, kwargs):
        """The optimizer divides by the scale and looks at what was found itself."""
        import inspect  # a tenth of the package's import time, for whoever steps an optimizer of their own

        if "grad_scaler" in inspect.signature(optimizer.step).parameters:
            kwargs["grad_scaler"] = self
            result = optimizer.step(*args, **kwargs)
            state["stage"] = OptState.STEPPED
            return result
        divided = state["stage"] is OptState.UNSCALED
        if not divided:
            state["found"] = self._check(optimizer)
        if not state["found"]:
            raise AssertionError("No inf checks were recorded for this optimizer.")
        optimizer.grad_scale = None if divided else self._scale
        optimizer.found_inf = sum(found.to(self._scale.device) for found in state["found"].values())
        try:
            result = optimizer.step(*args, **kwargs)
        finally:
            del optimizer.grad_scale, optimizer.found_inf
        state["stage"] = OptState.STEPPED
        return result

    def _check(self, optimizer):
        """What is found in the gradients, which stay as they are."""
        one = _C.ones((), dtype=_C.float32, device=self._scale.device)
        return self._unscale(optimizer, one, True)

    def update(self, new_scale=None):
        """The next scale: from what the steps since the last update found, or a given number or tensor."""
        if not self._enabled:
            return
        self._check_used("update")
        with _C.no_grad_guard():
            if new_scale is not None:
                if isinstance(new_scale, _C.Tensor):
                    if new_scale.numel() != 1 or new_scale.requires_grad:
                        raise AssertionError("new_scale should be a float or a 1-element tensor without gradient")
                    self._scale.copy_(new_scale.reshape(()))
                else:
                    self._scale.fill_(new_scale)
            else:
                found = [
                    f.to(self._scale.device)
                    for state in self._per_optimizer_states.values()
                    for f in state["found"].values()
                ]
                if not found:
                    raise AssertionError("No inf checks were recorded prior to update.")
                _C._amp_update_scale_(
                    self._scale,
                    self._growth_tracker,
                    sum(found[1:], found[0]),
                    self._growth_factor,
                    self._backoff_factor,
                    self._growth_interval,
                )
        self._per_optimizer_states = {}

    def get_scale(self):
        """The scale as a number; on CUDA this waits for the device."""
        if not self._enabled:
            return 1.0
        return self._init_scale if self._scale is None else self._scale.item()

    def get_growth_factor(self):
        return self._growth_factor

    def set_growth_factor(self, new_factor):
        self._growth_factor = new_factor

    def get_backoff_factor(self):
        return self._backoff_factor

    def set_backoff_factor(self, new_factor):
        self._backoff_factor = new_factor

    def get_growth_interval(self):
        return self._growth_interval

    def set_growth_interval(self, new_interval):
        self._growth_interval = new_interval

    def _get_growth_tracker(self):
        if not self._enabled:
            return 0
        return self._init_growth_tracker if self._growth_tracker is None else self._growth_tracker.item()

    def is_enabled(self):
        """Whether the scaler does anything."""
        return self._enabled

    def state_dict(self):
        """Numbers that load_state_dict takes; empty when not enabled."""
        if not self._enabled:
            return {}
        return {
            "scale": self.get_scale(),
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": self._get_growth_tracker(),
        }

    def load_state_dict(self, state_dict):
        """Goes on from a state_dict()."""
        if not self._enabled:
            return
        if len(state_dict) == 0:
            raise RuntimeError(
                "The source state dict is empty, possibly because it was saved from a disabled instance of GradScaler."
            )
        self._init_scale = state_dict["scale"]
        self._growth_factor = state_dict["growth_factor"]
        self._backoff_factor = state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]
        self._init_growth_tracker = state_dict["_growth_tracker"]
        if self._scale is not None:
            self._scale.fill_(self._init_scale)
            self._growth_tracker.fill_(self._init_growth_tracker)

    def __getstate__(self):
        if self._enabled and self._per_optimizer_states:
            raise AssertionError(
                "A GradScaler instance may only be pickled at the beginning of an iteration, or at the end after "
                "scaler.update()."
            )
        state = dict(self.__dict__)
        state["_init_scale"], state["_init_growth_tracker"] = self.get_scale(), self._get_growth_tracker()
        state["_scale"] = state["_growth_tracker"] = None
        return state
