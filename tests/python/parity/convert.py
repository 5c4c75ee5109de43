"""PyTorch's samples as tensorgrad's arguments, and tensorgrad's results as PyTorch's tensors, through NumPy."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import tensorgrad
import torch

# Where tensorgrad computes; PyTorch's answers come from the CPU either way.
DEVICE = os.environ.get("PARITY_DEVICE", "cpu")
WIDER = {torch.bfloat16: torch.float32, torch.float16: torch.float32}


def wait() -> None:
    """A device's work is asynchronous: a bad index is raised by the next wait."""
    if DEVICE != "cpu":
        tensorgrad.cuda.synchronize()


def on_device(array: np.ndarray) -> Any:
    """A copy of the array."""
    tensor = tensorgrad.from_numpy(array.copy())
    return tensor if DEVICE == "cpu" else tensor.to(DEVICE)


def dtype_name(dtype: Any) -> str:
    return str(dtype).rpartition(".")[2]


def tensor_from_torch(tensor: torch.Tensor) -> Any:
    return Converter(tensor).tensor(tensor)


def from_torch(value: Any) -> Any:
    """Any argument of a sample."""
    return Converter(value).convert(value)


class Converter:
    """Copies that share nothing with PyTorch's tensors, and share with one another what the originals share: the same
    tensor twice is one tensor, and views of one storage are views of one storage."""

    def __init__(self, value: Any):
        self.made: dict[int, Any] = {}
        self.storages: dict[int, Any] = {}
        pointers = [t.untyped_storage().data_ptr() for t in {id(t): t for t in tensors(value, torch.Tensor)}.values()]
        self.shared = {pointer for pointer in pointers if pointer and pointers.count(pointer) > 1}

    def tensor(self, tensor: torch.Tensor) -> Any:
        """The same values, layout (strides, offset) and requires_grad."""
        if id(tensor) not in self.made:
            result = self.copy(tensor.detach())
            self.made[id(tensor)] = result.requires_grad_() if tensor.requires_grad else result
        return self.made[id(tensor)]

    def copy(self, plain: torch.Tensor) -> Any:
        dtype = plain.dtype
        if dtype in WIDER:
            wide = on_device(plain.to(WIDER[dtype]).numpy())
            return wide.to(getattr(tensorgrad, dtype_name(dtype)))
        pointer = plain.untyped_storage().data_ptr()
        if pointer not in self.shared and (plain.is_contiguous() or plain.numel() == 0):
            if plain.dim() > 32:  # more than NumPy has
                return on_device(plain.reshape(-1).numpy()).reshape(tuple(plain.shape))
            return on_device(plain.contiguous().numpy())
        # The whole storage is copied, and the view laid over the copy.
        if pointer not in self.storages:
            whole = torch.empty(0, dtype=dtype).set_(plain.untyped_storage())
            self.storages[pointer] = on_device(whole.numpy())
        return self.storages[pointer].as_strided(tuple(plain.shape), tuple(plain.stride()), plain.storage_offset())

    def convert(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self.tensor(value)
        if isinstance(value, torch.dtype | torch.memory_format | torch.layout):
            return getattr(tensorgrad, dtype_name(value))
        if isinstance(value, str) and value == "cpu":
            return DEVICE
        if isinstance(value, torch.device):
            return tensorgrad.device(DEVICE if str(value) == "cpu" else str(value))
        if isinstance(value, torch.Generator):
            return tensorgrad.Generator(DEVICE).manual_seed(value.initial_seed())
        if isinstance(value, torch.Size):
            return tuple(value)
        if isinstance(value, dict):
            return {key: self.convert(entry) for key, entry in value.items()}
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*(self.convert(entry) for entry in value))
        if isinstance(value, list | tuple):
            return type(value)(self.convert(entry) for entry in value)
        if isinstance(value, slice):
            return slice(self.convert(value.start), self.convert(value.stop), self.convert(value.step))
        return value


def to_torch(tensor: Any) -> torch.Tensor:
    name = dtype_name(tensor.dtype)
    plain = tensor.detach().cpu()
    if name in ("bfloat16", "float16"):
        return torch.from_numpy(np.array(plain.float().numpy())).to(getattr(torch, name))
    return torch.from_numpy(np.array(plain.numpy()))


def is_tensor(value: Any) -> bool:
    return isinstance(value, tensorgrad.Tensor)


def tensors(value: Any, kind: type) -> list[Any]:
    """The tensors of a nested structure, in order."""
    if isinstance(value, kind):
        return [value]
    if isinstance(value, dict):
        return [t for entry in value.values() for t in tensors(entry, kind)]
    if isinstance(value, list | tuple):
        return [t for entry in value for t in tensors(entry, kind)]
    return []
