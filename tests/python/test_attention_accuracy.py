"""Where float32 attention and PyTorch's differ by more than PyTorch's tolerance (see parity/exceptions.py), the
arithmetic is to blame and not the formula: against float64 ours is no further off than PyTorch's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tensorgrad
import torch

Results = list[torch.Tensor]


def attention(lib: Any, dtype: str, tensors: list[torch.Tensor]) -> Results:
    """The output and the gradients of query, key and value."""
    to = getattr(torch, dtype)
    values = [t.to(to, copy=True) for t in tensors]
    if lib is tensorgrad:
        values = [tensorgrad.from_numpy(t.numpy()) for t in values]
    *inputs, upstream = values
    for t in inputs:
        t.requires_grad_()
    out = lib.nn.functional.scaled_dot_product_attention(*inputs)
    return [torch.from_numpy(t.detach().numpy()) for t in (out, *lib.autograd.grad(out, inputs, upstream))]


def multi_head(need_weights: bool) -> Callable[[Any, str, list[torch.Tensor]], Results]:
    def run(lib: Any, dtype: str, tensors: list[torch.Tensor]) -> Results:
        module = lib.nn.MultiheadAttention(3, 3, batch_first=True, dtype=getattr(lib, dtype))
        x, upstream, *weights = [t.to(getattr(torch, dtype), copy=True) for t in tensors]
        if lib is tensorgrad:
            x, upstream, *weights = [tensorgrad.from_numpy(t.numpy()) for t in (x, upstream, *weights)]
        with lib.no_grad():
            for parameter, value in zip(module.parameters(), weights, strict=True):
                parameter.copy_(value)
        x.requires_grad_()
        out = module(x, x, x, need_weights=need_weights)[0]
        found = lib.autograd.grad(out, [x, *module.parameters()], upstream)
        return [torch.from_numpy(t.detach().numpy()) for t in (out, *found)]

    return run


def error_ratios(
    run: Callable[[Any, str, list[torch.Tensor]], Results], shapes: list[tuple[int, ...]], size: float, rounds: int
) -> list[float]:
    """Of each result, tensorgrad's root mean square distance from float64 over PyTorch's."""
    generator = torch.Generator().manual_seed(11)
    squares: list[list[float]] = []
    for _ in range(rounds):
        tensors = [(torch.rand(s, generator=generator) * 2 - 1) * size for s in shapes]
        exact = run(torch, "float64", tensors)
        pairs = zip(run(torch, "float32", tensors), run(tensorgrad, "float32", tensors), exact, strict=True)
        squares.append([float((f - e).square().mean()) for theirs, ours, e in pairs for f in (theirs, ours)])
    totals = torch.tensor(squares, dtype=torch.float64).mean(0).reshape(-1, 2)
    return (totals[:, 1] / totals[:, 0]).sqrt().tolist()


@pytest.mark.parametrize(
    "query, key, size",
    [((4, 4, 3, 8), (4, 4, 6, 8), 9.0), ((4, 3, 8), (4, 6, 8), 9.0), ((2, 4, 40, 32), (2, 4, 300, 32), 2.0)],
)
def test_attention_is_as_exact_as_pytorch(query: tuple[int, ...], key: tuple[int, ...], size: float) -> None:
    ratios = error_ratios(attention, [query, key, key, query], size, rounds=100 if size > 2 else 20)
    assert max(ratios) < 1.3, ratios


@pytest.mark.parametrize("need_weights", [False, True])
def test_multi_head_attention_is_as_exact_as_pytorch(need_weights: bool) -> None:
    shapes = [(3, 3, 3), (3, 3, 3), (9, 3), (9,), (3, 3), (3,)]
    ratios = error_ratios(multi_head(need_weights), shapes, 5.0, rounds=400)
    assert max(ratios) < 1.3, ratios
