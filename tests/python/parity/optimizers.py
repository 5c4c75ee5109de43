"""Optimizers of PyTorch's optim_db: every combination of options, ten steps with the same gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tensorgrad
import torch

from parity import compare, convert
from parity.operations import Outcome, attempt, describe, run

# How PyTorch computes the step, not what it computes.
IMPLEMENTATION = {"foreach", "fused", "capturable", "differentiable"}
STEPS = 10


def shapes_and_gradients(dtype: torch.dtype) -> tuple[list[torch.Tensor], list[list[torch.Tensor]]]:
    generator = torch.Generator().manual_seed(11)
    shapes = [(3, 4), (5,), (), (2, 1, 3)]
    weights = [torch.randn(shape, dtype=dtype, generator=generator) for shape in shapes]
    gradients = [[torch.randn(shape, dtype=dtype, generator=generator) for shape in shapes] for _ in range(STEPS)]
    return weights, gradients


def check(info: Any, kwargs: dict[str, Any], dtype: torch.dtype, groups: bool) -> None:
    weights, gradients = shapes_and_gradients(dtype)
    theirs = [w.clone().requires_grad_() for w in weights]
    ours = [convert.tensor_from_torch(w).requires_grad_() for w in weights]

    def arranged(parameters: list[Any]) -> list[Any]:
        if not groups:
            return parameters
        return [{"params": parameters[:2], "lr": 0.05}, {"params": parameters[2:], "weight_decay": 0.1}]

    kwargs = {key: value for key, value in kwargs.items() if key not in IMPLEMENTATION}
    their_optimizer = info.optim_cls(arranged(theirs), **kwargs)
    cls = getattr(tensorgrad.optim, info.optim_cls.__name__)
    our_optimizer = cls(arranged(ours), **convert.from_torch(kwargs))
    for step, one in enumerate(gradients):
        for i, gradient in enumerate(one):
            # A parameter without a gradient in a step is left alone.
            absent = i == 1 and step == 4
            theirs[i].grad = None if absent else gradient.clone()
            ours[i].grad = None if absent else convert.tensor_from_torch(gradient)
        their_optimizer.step()
        our_optimizer.step()
        for i, (a, b) in enumerate(zip(theirs, ours)):
            compare.same_tensor(a, b, f"parameter {i} after step {step + 1}")
    check_state(their_optimizer, our_optimizer)


def check_state(theirs: Any, ours: Any) -> None:
    """state_dict has the same structure and values."""
    expected, actual = theirs.state_dict(), ours.state_dict()
    if set(expected["state"]) != set(actual["state"]):
        raise compare.Difference(f"state of {sorted(actual['state'])}, expected {sorted(expected['state'])}")
    for key, entries in expected["state"].items():
        for name, value in entries.items():
            if name not in actual["state"][key]:
                raise compare.Difference(f"state {key} has no {name}")
            found = actual["state"][key][name]
            if name == "step":
                value, found = float(value), float(found)
            compare.same(value, found, f"state {key} {name}")
    for wanted, found in zip(expected["param_groups"], actual["param_groups"]):
        for name in ("lr", "weight_decay", "params"):
            compare.same(wanted[name], found[name], f"param_groups {name}")


def check_refusal(cls: Any, bad: Any) -> None:
    given = bad.optimizer_error_input
    parameters = convert.from_torch(given.params)
    _, error = attempt(lambda: cls(parameters, **given.kwargs))
    if not error:
        raise compare.Difference(f"accepted what PyTorch refuses with {bad.error_type}: {bad.error_regex}")
    if not isinstance(error, bad.error_type):
        raise compare.Difference(f"{describe(error)}, but PyTorch raises {bad.error_type}: {bad.error_regex}")


def outcomes(info: Any, dtypes: tuple[torch.dtype, ...]) -> Iterator[Outcome]:
    for dtype in dtypes:
        for given in info.optim_inputs_func(device="cpu"):
            for groups in (False, True):
                what = f"{convert.dtype_name(dtype)} {given.desc}{' in groups' if groups else ''}"
                yield run(what, "sample", lambda g=given, d=dtype, p=groups: check(info, g.kwargs, d, p))
    cls = getattr(tensorgrad.optim, info.optim_cls.__name__)
    for bad in info.optim_error_inputs_func(device="cpu", dtype=torch.float32):
        given = bad.optimizer_error_input
        _, refused = attempt(lambda g=given: info.optim_cls(g.params, **g.kwargs))
        if refused:
            yield run(f"bad input {given.desc}", "error", lambda b=bad: check_refusal(cls, b))
