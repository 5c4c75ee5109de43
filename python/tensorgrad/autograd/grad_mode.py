"""Switching the recording of gradients on and off: as context managers, decorators, and set_grad_enabled as a "
"function."""

import functools

from .. import _C


class _Mode:
    """A context manager that is a decorator too; generators keep the mode while they run."""

    def __call__(self, function):
        if isinstance(function, type):
            function.__init__ = self(function.__init__)
            return function
        if getattr(getattr(function, "__code__", None), "co_flags", 0) & 0x20:

            @functools.wraps(function)
            def generate(*args, **kwargs):
                generator = function(*args, **kwargs)
                value = None
                while True:
                    with self._again():
                        try:
                            item = generator.send(value)
                        except StopIteration as stop:
                            return stop.value
                    value = yield item

            return generate

        @functools.wraps(function)
        def run(*args, **kwargs):
            with self._again():
                return function(*args, **kwargs)

        return run

    def _again(self):
        return type(self)()


class no_grad(_Mode):
    """Nothing inside records a gradient."""

    def __new__(cls, function=None):
        self = object.__new__(cls)
        return self if function is None else self(function)

    def __init__(self, function=None):
        self._before = True

    def __enter__(self):
        self._before = _C.is_grad_enabled()
        _C._set_grad_enabled(False)

    def __exit__(self, *exc):
        _C._set_grad_enabled(self._before)


class enable_grad(_Mode):
    """Operations inside record gradients, also within no_grad."""

    def __new__(cls, function=None):
        self = object.__new__(cls)
        return self if function is None else self(function)

    def __init__(self, function=None):
        self._before = True

    def __enter__(self):
        self._before = _C.is_grad_enabled()
        _C._set_grad_enabled(True)

    def __exit__(self, *exc):
        _C._set_grad_enabled(self._before)


class inference_mode(no_grad):
    """no_grad under the name for inference; ``inference_mode(False)`` changes nothing."""

    def __new__(cls, mode=True):
        self = object.__new__(cls)
        return self(mode) if callable(mode) else self

    def __init__(self, mode=True):
        super().__init__()
        self.mode = True if callable(mode) else mode

    def __enter__(self):
        self._before = _C.is_grad_enabled()
        if self.mode:
            _C._set_grad_enabled(False)

    def _again(self):
        return type(self)(self.mode)


class set_grad_enabled(_Mode):
    """Sets the mode at once; as a context manager it is set back at the end."""

    def __init__(self, mode):
        self.mode = bool(mode)
        self._before = _C.is_grad_enabled()
        _C._set_grad_enabled(self.mode)

    def __call__(self, function):
        _C._set_grad_enabled(self._before)
        return super().__call__(function)

    def _again(self):
        return type(self)(self.mode)

    def __enter__(self):
        _C._set_grad_enabled(self.mode)

    def __exit__(self, *exc):
        _C._set_grad_enabled(self._before)
