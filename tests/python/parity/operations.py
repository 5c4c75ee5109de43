"""One operation of op_db: its samples for one dtype, forward and gradient, its method and in-place forms, and the
inputs it must refuse. Runs in a process of its own (see runner.py) and reports line by line."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import tensorgrad
import torch

from parity import catalogue, compare, convert


@dataclass
class Outcome:
    kind: str  # "sample", "form" (method or in-place), "error" (bad input)
    what: str
    problem: str | None  # None: passed


def dtypes_of(op: Any, wanted: tuple[torch.dtype, ...]) -> list[torch.dtype]:
    """float32 and float64, or integers and bool for an operation that has no floating point."""
    found = [dtype for dtype in wanted if dtype in op.dtypes]
    return found or [dtype for dtype in (torch.int64, torch.int32, torch.bool) if dtype in op.dtypes]


def attempt(call: Callable[[], Any]) -> tuple[Any, Exception | None]:
    try:
        return call(), None
    except Exception as error:
        return None, error


def describe(error: Exception) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]} ({place.name}:{place.lineno})"


def check_forward(
    op: Any, sample: Any, args: tuple[Any, ...], kwargs: dict[str, Any], expected: Any, actual: Any
) -> None:
    if op.name in catalogue.TIES:
        dim = kwargs.get("dim", args[0] if op.name == "sort" and args else -1)
        if op.name == "topk":
            dim = kwargs.get("dim", args[1] if len(args) > 1 else -1)
        compare.same_up_to_ties(sample.input, dim if isinstance(dim, int) else -1, expected, actual)
    else:
        compare.same(expected, actual, values=not catalogue.has_random_values(op.name, args, kwargs))


def check_gradients(op: Any, sample: Any, inputs: list[Any], expected: Any, actual: Any) -> None:
    """Gradients of a random upstream gradient with respect to every input that requires one."""
    theirs = [t for t in convert.tensors((sample.input, sample.args, sample.kwargs), torch.Tensor) if t.requires_grad]
    ours = [t for t in inputs if t.requires_grad]
    out_theirs = [t for t in convert.tensors(expected, torch.Tensor) if t.requires_grad]
    out_ours = [t for t in convert.tensors(actual, tensorgrad.Tensor) if t.requires_grad]
    if not theirs or not out_theirs:
        return
    generator = torch.Generator().manual_seed(7)
    upstream = [torch.randn(t.shape, dtype=t.dtype, generator=generator) for t in out_theirs]
    wanted, failed = attempt(lambda: torch.autograd.grad(out_theirs, theirs, upstream, allow_unused=True))
    if failed:
        return
    copies = [convert.tensor_from_torch(t) for t in upstream]
    found = tensorgrad.autograd.grad(out_ours, ours, copies, allow_unused=True)
    compare.same_gradients(list(wanted), list(found))


def check_sample(op: Any, function: Callable[..., Any], sample: Any) -> None:
    x, args, kwargs = convert.from_torch((sample.input, sample.args, sample.kwargs))
    torch.manual_seed(0)
    expected, refused = attempt(lambda: op(sample.input, *sample.args, **sample.kwargs))
    actual, error = attempt(lambda: function(x, *args, **kwargs))
    if refused:
        if not error:
            raise compare.Difference(f"accepted what PyTorch refuses ({describe(refused)})")
        return
    if error:
        raise error
    check_forward(op, sample, sample.args, sample.kwargs, expected, actual)
    if op.supports_autograd and not catalogue.has_random_values(op.name, sample.args, sample.kwargs):
        check_gradients(op, sample, convert.tensors((x, args, kwargs), tensorgrad.Tensor), expected, actual)


def detached(value: Any) -> Any:
    """Without requires_grad, which views made under no_grad keep in one library and not in the other."""
    if isinstance(value, (list, tuple)):
        return [detached(v) for v in value]
    return value.detach() if hasattr(value, "detach") else value


def check_form(op: Any, function: Callable[..., Any], variant: Callable[..., Any], sample: Any, in_place: bool) -> None:
    """The method or in-place form on the same sample, values only, without gradients."""
    with torch.no_grad(), tensorgrad.no_grad():
        x, args, kwargs = convert.from_torch((sample.input, sample.args, sample.kwargs))
        source = sample.input.detach().clone(memory_format=torch.preserve_format) if in_place else sample.input
        torch.manual_seed(0)
        expected, refused = attempt(lambda: variant(source, *sample.args, **sample.kwargs))
        if variant.__name__ == "<lambda>":  # a function of nn.functional with inplace=True
            actual, error = attempt(lambda: function(x, *args, **kwargs, inplace=True))
        else:
            actual, error = attempt(lambda: getattr(tensorgrad.Tensor, variant.__name__)(x, *args, **kwargs))
        if refused:
            if not error:
                raise compare.Difference(f"accepted what PyTorch refuses ({describe(refused)})")
            return
        if error:
            raise error
        values = not catalogue.has_random_values(op.name, sample.args, sample.kwargs)
        if op.name in catalogue.TIES:
            compare.same(expected[0], actual[0], values=values)
        else:
            expected, actual = detached(expected), detached(actual)
            compare.same(expected, actual, values=values)


def run(what: str, kind: str, check: Callable[[], None]) -> Outcome:
    try:
        check()
    except compare.Difference as error:
        return Outcome(kind, what, str(error))
    except Exception as error:
        return Outcome(kind, what, describe(error))
    return Outcome(kind, what, None)


def samples(op: Any, dtype: torch.dtype) -> Iterator[tuple[str, Any]]:
    torch.manual_seed(1)
    differentiable = bool(op.supports_autograd) and dtype.is_floating_point
    for i, sample in enumerate(op.sample_inputs("cpu", dtype, requires_grad=differentiable)):
        yield f"{convert.dtype_name(dtype)} sample {i} {sample.summary()!s:.160}", sample


def forms(op: Any, sample: Any) -> Iterator[tuple[str, Callable[..., Any], bool]]:
    if isinstance(sample.input, torch.Tensor):
        method = op.method_variant
        if method is not None and hasattr(method, "__name__") and hasattr(torch.Tensor, method.__name__):
            yield "method", method, False
        if op.inplace_variant is not None and not sample.broadcasts_input:
            yield "in-place", op.inplace_variant, True


def check_refusal(function: Callable[..., Any], bad: Any) -> None:
    sample = bad.sample_input

    def call() -> Any:  # what cannot even be made is refused too
        x, args, kwargs = convert.from_torch((sample.input, sample.args, sample.kwargs))
        return function(x, *args, **kwargs)

    _, error = attempt(call)
    if not error:
        raise compare.Difference(f"accepted what PyTorch refuses with {bad.error_type}: {bad.error_regex}")
    if not isinstance(error, bad.error_type):
        raise compare.Difference(f"{describe(error)}, but PyTorch raises {bad.error_type}: {bad.error_regex}")


def outcomes(op: Any, wanted: tuple[torch.dtype, ...]) -> Iterator[Outcome]:
    try:
        function = catalogue.resolve(op, tensorgrad)
    except AttributeError as error:
        problem = str(error)

        def function(*_args: Any, **_kwargs: Any) -> Any:
            raise NotImplementedError(problem)

    for dtype in dtypes_of(op, wanted):
        for what, sample in samples(op, dtype):
            yield run(what, "sample", lambda s=sample: check_sample(op, function, s))
            for name, variant, in_place in forms(op, sample):
                yield run(
                    f"{name}: {what}", "form", lambda v=variant, s=sample, p=in_place: check_form(op, function, v, s, p)
                )
    if op.error_inputs_func is not None:
        for i, bad in enumerate(op.error_inputs("cpu")):
            sample = bad.sample_input
            _, refused = attempt(lambda s=sample: op(s.input, *s.args, **s.kwargs))
            if refused:
                yield run(f"bad input {i} {bad.error_regex!s:.80}", "error", lambda b=bad: check_refusal(function, b))
