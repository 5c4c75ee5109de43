"""Modules of PyTorch's module_db: same construction, same weights, same input; output, gradients and buffers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tensorgrad
import torch

from parity import compare, convert
from parity.operations import Outcome, attempt, describe, run

# The text of modules is that of one version of PyTorch; others print some arguments differently.
SAME_TEXT = torch.__version__.startswith("2.13.")


def class_name(info: Any) -> str:
    return info.module_cls.__name__


def copy_state(theirs: torch.nn.Module, ours: Any) -> None:
    ours.load_state_dict({name: convert.tensor_from_torch(t.detach()) for name, t in theirs.state_dict().items()})


def is_random(name: str, module: torch.nn.Module) -> bool:
    if not module.training:
        return False
    return (name == "Dropout" and module.p not in (0.0, 1.0)) or (name == "MultiheadAttention" and module.dropout > 0.0)


def check(info: Any, sample: Any, dtype: torch.dtype, training: bool) -> None:
    name = class_name(info)
    args, kwargs = sample.constructor_input.args, sample.constructor_input.kwargs
    if "dtype" not in kwargs and name not in ("Flatten", "Identity"):
        # Modules without parameters take neither.
        probe = attempt(lambda: info.module_cls(*args, **kwargs, dtype=dtype))[1]
        kwargs = kwargs if probe else {**kwargs, "dtype": dtype}
    theirs = info.module_cls(*args, **kwargs).train(training)
    cls = getattr(tensorgrad.nn, name)
    ours = cls(*convert.from_torch(tuple(args)), **convert.from_torch(dict(kwargs))).train(training)
    if set(theirs.state_dict()) != set(ours.state_dict()):
        raise compare.Difference(f"state_dict has {sorted(ours.state_dict())}, not {sorted(theirs.state_dict())}")
    if SAME_TEXT and repr(ours) != repr(theirs):
        raise compare.Difference(f"printed as {ours!r}, not {theirs!r}")
    ours.to(convert.DEVICE)
    copy_state(theirs, ours)
    forward = sample.forward_input
    their_args = (forward.args, forward.kwargs)
    our_args = convert.from_torch((tuple(forward.args), dict(forward.kwargs)))
    expected, refused = attempt(lambda: theirs(*forward.args, **forward.kwargs))
    actual, error = attempt(lambda: ours(*our_args[0], **our_args[1]))
    if refused:
        if not error:
            raise compare.Difference(f"accepted what PyTorch refuses ({describe(refused)})")
        return
    if error:
        raise error
    values = not is_random(name, theirs)
    compare.same(expected, actual, values=values)
    if values:
        check_gradients(theirs, ours, their_args, our_args, expected, actual)
        compare.same(dict(theirs.named_buffers()), dict(ours.named_buffers()), "buffers")


def check_gradients(theirs: Any, ours: Any, their_args: Any, our_args: Any, expected: Any, actual: Any) -> None:
    of_theirs = [t for t in convert.tensors(their_args, torch.Tensor) if t.requires_grad] + list(theirs.parameters())
    of_ours = [t for t in convert.tensors(our_args, tensorgrad.Tensor) if t.requires_grad] + list(ours.parameters())
    out_theirs = [t for t in convert.tensors(expected, torch.Tensor) if t.requires_grad]
    out_ours = [t for t in convert.tensors(actual, tensorgrad.Tensor) if t.requires_grad]
    if not of_theirs or not out_theirs:
        return
    upstream = [torch.randn(t.shape, dtype=t.dtype) for t in out_theirs]
    wanted = torch.autograd.grad(out_theirs, of_theirs, upstream, allow_unused=True)
    copies = [convert.tensor_from_torch(t) for t in upstream]
    found = tensorgrad.autograd.grad(out_ours, of_ours, copies, allow_unused=True)
    compare.same_gradients(list(wanted), list(found))


def outcomes(info: Any, dtypes: tuple[torch.dtype, ...]) -> Iterator[Outcome]:
    for dtype in dtypes:
        if dtype not in info.dtypes:
            continue
        for training in (True, False):
            torch.manual_seed(3)
            inputs = info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=True, training=training)
            for i, sample in enumerate(inputs):
                made = sample.constructor_input
                mode = "train" if training else "eval"
                what = f"{convert.dtype_name(dtype)} {mode} sample {i} {made.args} {made.kwargs}"[:200]
                yield run(what, "sample", lambda s=sample, d=dtype, t=training: check(info, s, d, t))
