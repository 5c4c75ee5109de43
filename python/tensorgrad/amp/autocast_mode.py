"""Scopes in which operations choose their dtypes."""

import functools
import warnings

from .. import _C

_TYPES = ("cpu", "cuda")


def is_autocast_available(device_type):
    """Whether autocast knows the type of device."""
    return device_type in _TYPES


def _device_type(device_type):
    if not isinstance(device_type, str):
        raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
    if device_type not in _TYPES:
        raise RuntimeError(f"User specified an unsupported autocast device_type '{device_type}'")
    return device_type


class autocast:
    """Inside the scope products, convolutions and attention run in `dtype`, what is sensitive in float32.

    The lists are PyTorch's, one for each type of device (docs/cuda.md). Works as a context manager and as a decorator.

    device_type: "cpu" or "cuda". dtype: bfloat16 or float16; by default bfloat16 on the CPU, float16 on CUDA.
    enabled: False makes a scope in which nothing is cast. cache_enabled: whether a parameter that is used twice is cast
    once.

    Example::

        with tg.autocast("cpu", dtype=tg.bfloat16):
            loss = F.cross_entropy(model(x), y)  # products in bfloat16, the loss in float32
        loss.backward()
    """

    def __init__(self, device_type, dtype=None, enabled=True, cache_enabled=None):
        self.device = _device_type(device_type)
        self.fast_dtype = _C.get_autocast_dtype(self.device) if dtype is None else dtype
        self._cache_enabled = _C.is_autocast_cache_enabled() if cache_enabled is None else cache_enabled
        self._enabled = bool(enabled)
        self._before = []
        if self.device == "cuda" and self._enabled and not _C._cuda_is_available():
            warnings.warn(
                "autocast: device_type 'cuda' was given, but CUDA is not available; the scope casts nothing",
                stacklevel=2,
            )
            self._enabled = False
        if self._enabled and self.fast_dtype not in (_C.bfloat16, _C.float16):
            if not (self.device == "cuda" and self.fast_dtype == _C.float32):
                warnings.warn(
                    f"autocast: the dtype must be bfloat16 or float16, got {self.fast_dtype}; the scope casts nothing",
                    stacklevel=2,
                )
                self._enabled = False

    def __enter__(self):
        device = self.device
        self._before.append(
            (_C.is_autocast_enabled(device), _C.get_autocast_dtype(device), _C.is_autocast_cache_enabled())
        )
        _C.set_autocast_enabled(device, self._enabled)
        if self._enabled:
            _C.set_autocast_dtype(device, self.fast_dtype)
        _C.autocast_increment_nesting()
        _C.set_autocast_cache_enabled(self._cache_enabled)
        return self

    def __exit__(self, kind, error, trace):
        enabled, dtype, cache = self._before.pop()
        _C.autocast_decrement_nesting()
        _C.set_autocast_enabled(self.device, enabled)
        _C.set_autocast_dtype(self.device, dtype)
        _C.set_autocast_cache_enabled(cache)
        return False

    def __call__(self, function):
        @functools.wraps(function)
        def wrapped(*args, **kwargs):
            with self:
                return function(*args, **kwargs)

        return wrapped


def _cast(value, device_type, dtype):
    """Floats on the device in `dtype`, in nested lists, tuples and dicts too."""
    if isinstance(value, _C.Tensor):
        wanted = value.is_floating_point() and value.device.type == device_type and value.dtype is not _C.float64
        return value.to(dtype) if wanted else value
    if isinstance(value, dict):
        return {_cast(k, device_type, dtype): _cast(v, device_type, dtype) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_cast(v, device_type, dtype) for v in value)
    return value


def custom_fwd(fwd=None, *, device_type, cast_inputs=None):
    """Decorates the forward of an autograd.Function, so that its backward runs as the forward did (custom_bwd).

    cast_inputs: in an autocast scope, floats among the arguments are cast to it and autocast is off inside.
    """
    _device_type(device_type)
    if fwd is None:
        return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)

    @functools.wraps(fwd)
    def decorated(ctx, *args, **kwargs):
        ctx._dtype = _C.get_autocast_dtype(device_type)
        enabled = _C.is_autocast_enabled(device_type)
        if cast_inputs is None or not enabled:
            ctx._fwd_used_autocast = enabled
            return fwd(ctx, *args, **kwargs)
        ctx._fwd_used_autocast = False
        with autocast(device_type, enabled=False):
            return fwd(ctx, *_cast(args, device_type, cast_inputs), **_cast(kwargs, device_type, cast_inputs))

    return decorated


def custom_bwd(bwd=None, *, device_type):
    """Decorates the backward that belongs to a forward with custom_fwd: autocast is on if it was there."""
    _device_type(device_type)
    if bwd is None:
        return functools.partial(custom_bwd, device_type=device_type)

    @functools.wraps(bwd)
    def decorated(ctx, *args, **kwargs):
        with autocast(device_type, enabled=ctx._fwd_used_autocast, dtype=ctx._dtype):
            return bwd(ctx, *args, **kwargs)

    return decorated


def rule(name, *tensors):
    """A function made of operations takes part in autocast as one operation: `tensors` names its tensor arguments.

    `name`: lower, lower_cuda, wide, wide_cuda, wide_cpu, widest or unit (core/autocast.h).
    """

    def decorate(function):
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        places = [names.index(t) for t in tensors]

        @functools.wraps(function)
        def wrapped(*args, **kwargs):
            if not _C._autocasting():
                return function(*args, **kwargs)
            values = [args[i] if i < len(args) else kwargs.get(t) for i, t in zip(places, tensors)]
            cast = _C._autocast_cast(name, values)
            if cast is None:
                return function(*args, **kwargs)
            args = list(args)
            for i, t, value in zip(places, tensors, cast):
                if i < len(args):
                    args[i] = value
                elif t in kwargs:
                    kwargs[t] = value
            before = _C._autocast_flags(0)
            try:
                return function(*args, **kwargs)
            finally:
                _C._autocast_flags(before)

        return wrapped

    return decorate
