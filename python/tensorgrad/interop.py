"""Taking over weights from PyTorch."""

from . import _C


def init_from_torch(module, source=None):
    """Copies a PyTorch module's parameters and buffers into one of the same structure, or a tensor into a new one.

    ``init_from_torch(mine, theirs)`` copies by name; every name and shape must match.
    ``init_from_torch(tensor)`` copies a tensor.
    """
    if source is None:
        return _to_tensor(module)
    state = source.state_dict() if hasattr(source, "state_dict") else source
    module.load_state_dict({name: _to_tensor(value) for name, value in state.items()})
    return module


def _to_tensor(value):
    if isinstance(value, _C.Tensor) or not hasattr(value, "detach"):
        return value
    value = value.detach().cpu()
    kind = str(value.dtype).split(".")[-1]
    if kind == "bfloat16":
        return _C._tensor_from_data(value.float().numpy(), _C.bfloat16)
    return _C._tensor_from_data(value.contiguous().numpy(), None)
