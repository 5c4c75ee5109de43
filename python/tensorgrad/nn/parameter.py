"""Tensors that a Module registers by assignment."""

from .. import _C

Tensor = _C.Tensor


class Parameter(Tensor):
    """A tensor that is a module's parameter: a leaf that shares `data`'s memory and requires a gradient."""

    def __new__(cls, data=None, requires_grad=True):
        if data is None:
            data = _C.empty(0)
        if not isinstance(data, Tensor):
            raise TypeError(f"Parameter expects a Tensor, got {type(data).__name__}")
        return Tensor._make_subclass(cls, data, requires_grad)

    def __deepcopy__(self, memo):
        if id(self) in memo:
            return memo[id(self)]
        result = type(self)(self.data.clone(), self.requires_grad)
        result.__dict__.update(_deepcopy_dict(self, memo))
        memo[id(self)] = result
        return result

    def __reduce_ex__(self, proto):
        return _rebuild_parameter, (type(self), self.data, self.requires_grad, dict(self.__dict__))


class UninitializedTensorMixin:
    """Marks parameters without a shape; modules here always know their shapes, so none is ever made."""


def is_lazy(param):
    return isinstance(param, UninitializedTensorMixin)


class _BufferMeta(type(Tensor)):
    def __instancecheck__(cls, instance):
        if cls is Buffer:
            return isinstance(instance, Tensor) and getattr(instance, "_is_buffer", False)
        return super().__instancecheck__(instance)


class Buffer(Tensor, metaclass=_BufferMeta):
    """A tensor that is a module's state but not trained; `persistent` says whether it is in the state dict."""

    def __new__(cls, data=None, *, persistent=True):
        if data is None:
            data = _C.empty(0)
        buffer = data.detach().requires_grad_(data.requires_grad)
        buffer.persistent = persistent
        buffer._is_buffer = True
        return buffer


def _deepcopy_dict(tensor, memo):
    if not tensor.__dict__:
        return {}
    from copy import deepcopy

    return {name: deepcopy(value, memo) for name, value in tensor.__dict__.items()}


def _rebuild_parameter(cls, data, requires_grad, attributes):
    result = cls(data, requires_grad)
    result.__dict__.update(attributes)
    return result
