"""Is this the result PyTorch gives? Structure, dtype, shape, requires_grad, values at PyTorch's default tolerances."""

from __future__ import annotations

from typing import Any

import torch

from parity.convert import DEVICE, dtype_name, is_tensor, to_torch

HALF_TOLERANCE = {torch.bfloat16: 1.6e-2, torch.float16: 1e-3}


class Difference(Exception):
    pass


def tolerance(wanted: torch.Tensor) -> dict[str, float]:
    """PyTorch's defaults on the CPU. Another device adds up in another order: 1e-4, relative to the largest value.

    16-bit floats: PyTorch's relative tolerance, of the largest value too. Both libraries add up in float32, but round
    to 16 bits at other places on the way, and a difference of large numbers keeps that."""
    if wanted.dtype in HALF_TOLERANCE and wanted.numel() > 0:
        rtol = HALF_TOLERANCE[wanted.dtype]
        finite = wanted.float().abs().nan_to_num(0.0, 0.0, 0.0)
        return {"rtol": rtol, "atol": max(1e-5, rtol * float(finite.max()))}
    if DEVICE == "cpu" or wanted.dtype != torch.float32 or wanted.numel() == 0:
        return {}
    largest = float(wanted.abs().nan_to_num(0.0, 0.0, 0.0).max())
    return {"rtol": 1e-4, "atol": 1e-5 * max(1.0, largest)}


def same_tensor(expected: torch.Tensor, actual: Any, where: str, values: bool = True) -> None:
    if not is_tensor(actual):
        raise Difference(f"{where}: a tensor expected, got {type(actual).__name__}")
    if dtype_name(actual.dtype) != dtype_name(expected.dtype):
        raise Difference(f"{where}: dtype {dtype_name(actual.dtype)}, expected {dtype_name(expected.dtype)}")
    if tuple(actual.shape) != tuple(expected.shape):
        raise Difference(f"{where}: shape {tuple(actual.shape)}, expected {tuple(expected.shape)}")
    if bool(actual.requires_grad) != expected.requires_grad:
        raise Difference(f"{where}: requires_grad {actual.requires_grad}, expected {expected.requires_grad}")
    if values:
        try:
            wanted = expected.detach().contiguous()
            torch.testing.assert_close(to_torch(actual), wanted, equal_nan=True, **tolerance(wanted))
        except AssertionError as error:
            raise Difference(f"{where}: {' '.join(str(error).split())[:300]}") from None


def same(expected: Any, actual: Any, where: str = "result", values: bool = True) -> None:
    if isinstance(expected, torch.Tensor):
        same_tensor(expected, actual, where, values)
    elif isinstance(expected, list | tuple):
        if not isinstance(actual, list | tuple) or len(actual) != len(expected):
            raise Difference(
                f"{where}: a sequence of {len(expected)} expected, got {type(actual).__name__} {actual!r:.80}"
            )
        for i, (e, a) in enumerate(zip(expected, actual)):
            same(e, a, f"{where}[{i}]", values)
    elif isinstance(expected, dict):
        if set(expected) != set(actual):
            raise Difference(f"{where}: keys {sorted(actual)}, expected {sorted(expected)}")
        for key in expected:
            same(expected[key], actual[key], f"{where}[{key!r}]", values)
    elif isinstance(expected, float):
        if not (actual == expected or abs(actual - expected) <= 1e-6 * abs(expected) or expected != expected):
            raise Difference(f"{where}: {actual!r}, expected {expected!r}")
    elif isinstance(expected, torch.dtype):
        if dtype_name(actual) != dtype_name(expected):
            raise Difference(f"{where}: {actual!r}, expected {expected!r}")
    elif actual != expected:
        raise Difference(f"{where}: {actual!r}, expected {expected!r}")


def same_up_to_ties(source: torch.Tensor, dim: int, expected: Any, actual: Any) -> None:
    """(values, indices) of a sort or topk: equal values, and indices that point at them."""
    same_tensor(expected[0], actual[0], "values")
    same_tensor(expected[1], actual[1], "indices", values=False)
    if source.dim() == 0:
        return same_tensor(expected[1], actual[1], "indices")
    pointed = torch.gather(source.detach(), dim, to_torch(actual[1]))
    try:
        torch.testing.assert_close(pointed, expected[0].detach(), equal_nan=True, rtol=0, atol=0)
    except AssertionError:
        raise Difference("indices: they do not point at the values") from None


def same_gradients(expected: list[Any], actual: list[Any]) -> None:
    """A gradient that does not exist counts as zeros, as PyTorch's optimizers take it."""
    for i, (e, a) in enumerate(zip(expected, actual)):
        where = f"gradient {i}"
        if e is None and a is None:
            continue
        if e is None:
            e = torch.zeros_like(to_torch(a))
        if a is None:
            if e.abs().max() != 0 if e.numel() else False:
                raise Difference(f"{where}: none, expected values")
            continue
        same_tensor(e.detach(), a.detach(), where)
