"""What a case of the operation sweep is made of: tensors from a seed, the same in every library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


class Kit:
    """Makes the inputs of one case and remembers which of them want a gradient."""

    def __init__(self, lib: Any, seed: int, device: str = "cpu"):
        self.lib = lib
        self.device = device
        self.f = lib.nn.functional
        self.rng = np.random.default_rng(seed)
        self.leaves: list[Any] = []

    def keep(self, array: np.ndarray, grad: bool) -> Any:
        tensor = self.lib.from_numpy(np.ascontiguousarray(array)).to(self.device)
        if grad:
            self.leaves.append(tensor.requires_grad_())
        return tensor

    def normal(self, *shape: int, dtype: str = "float32", grad: bool = True) -> Any:
        """Standard normal numbers; whole numbers of -50 to 50 for an integer dtype, where none wants a gradient."""
        if dtype == "bool":
            return self.keep(self.rng.integers(0, 2, shape).astype(bool), False)
        if not dtype.startswith("float"):
            return self.keep(self.rng.integers(-50, 51, shape).astype(dtype), False)
        return self.keep(self.rng.standard_normal(shape, dtype=np.float32).astype(dtype), grad)

    def bfloat16(self, *shape: int, grad: bool = True) -> Any:
        """Standard normal numbers, rounded."""
        array = self.rng.standard_normal(shape, dtype=np.float32)
        tensor = self.lib.from_numpy(array).to(self.device).to(self.lib.bfloat16)
        if grad:
            self.leaves.append(tensor.requires_grad_())
        return tensor

    def uniform(self, low: float, high: float, *shape: int, dtype: str = "float32", grad: bool = True) -> Any:
        return self.keep((self.rng.random(shape, dtype=np.float32) * (high - low) + low).astype(dtype), grad)

    def index(self, high: int, *shape: int) -> Any:
        return self.keep(self.rng.integers(0, high, shape), False)

    def mask(self, *shape: int, share: float = 0.5) -> Any:
        return self.keep(self.rng.random(shape, dtype=np.float32) < share, False)


@dataclass(frozen=True)
class OpCase:
    family: str
    name: str
    build: Callable[[Kit], Callable[[], Any]]  # makes the inputs and returns the call to time
    backward: bool = False
    exact: bool = True  # results of both libraries can be compared: not for random numbers, or for empty memory
    tolerance: float = 2e-4

    @property
    def key(self) -> str:
        return f"{self.family}: {self.name}"


def outputs_of(result: Any) -> list[Any]:
    """The tensors in a result: a tensor, or a tuple or list of them."""
    if hasattr(result, "dtype"):
        return [result]
    if isinstance(result, (tuple, list)):
        return [tensor for part in result for tensor in outputs_of(part)]
    return []


class OpRun:
    """One case in one library: the call, and its gradient against a random upstream one."""

    def __init__(self, lib: Any, case: OpCase, device: str = "cpu"):
        self.lib = lib
        self.case = case
        self.kit = Kit(lib, sum(case.key.encode()), device)
        with lib.enable_grad():
            self.call = case.build(self.kit)
        self.upstream: Any = None

    def forward(self) -> Any:
        return self.call()

    def prepare_backward(self) -> Any:
        for leaf in self.kit.leaves:
            leaf.grad = None
        output = outputs_of(self.call())[0]
        if self.upstream is None:
            array = np.random.default_rng(7).standard_normal(tuple(output.shape), dtype=np.float32)
            self.upstream = self.lib.from_numpy(np.asarray(array)).to(self.kit.device, output.dtype)
        return output

    def backward(self, output: Any) -> None:
        output.backward(self.upstream)

    def samples(self) -> list[Any]:
        """At most a thousand values of each output and gradient, to compare."""
        if not self.case.exact:
            return []
        with self.lib.no_grad():
            tensors = outputs_of(self.call())
        if self.case.backward:
            self.backward(self.prepare_backward())
            tensors = tensors + [leaf.grad for leaf in self.kit.leaves if leaf.grad is not None]
        found = []
        for tensor in tensors:
            some = tensor.detach().reshape(-1)[:: max(1, tensor.numel() // 1000)].cpu()
            half = some.dtype in (self.lib.bfloat16, self.lib.float16)  # NumPy may have no such type
            array = (some.float() if half else some).numpy()
            values = [repr(float(v)) for v in array.astype(np.float64)]
            kind = str(some.dtype).rpartition(".")[2] if half else str(array.dtype)
            found.append([list(tensor.shape), kind, values])
        return found
