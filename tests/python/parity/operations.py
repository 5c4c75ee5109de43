"""One operation of op_db: its samples for one dtype, forward and gradient, its method and in-place forms, and the
inputs it must refuse. Runs in a process of its own (see runner.py) and reports line by line."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import tensorgrad
import torch

from parity import catalogue, compare, convert


@dataclass
class Outcome:
    kind: str  # "sample", "form" (method or in-place), "out" (out= of every sort), "error" (bad input)
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


def outs(sample: Any, result: Any) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """What may be given as out=: a name, and how it is made from the sample. Good and bad ones; PyTorch says which."""
    results = convert.tensors(result, torch.Tensor)
    first = results[0]

    def each(make: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Any], Any]:
        return lambda _: make(first) if isinstance(result, torch.Tensor) else tuple(make(r) for r in results)

    yield "fitting", each(lambda r: torch.zeros(r.shape, dtype=r.dtype))
    yield "of no elements", each(lambda r: torch.zeros(0, dtype=r.dtype))
    yield "with strides", each(lambda r: torch.zeros((*r.shape, 2), dtype=r.dtype)[..., 0])
    for dtype in (torch.float64, torch.float32, torch.int64, torch.int32, torch.bool):
        if dtype != first.dtype:
            yield f"{convert.dtype_name(dtype)}", each(lambda r, d=dtype: torch.zeros(r.shape, dtype=d))
    if first.numel() > 1:
        repeating = each(lambda r: torch.zeros(1, dtype=r.dtype).expand(r.shape))
        repeating.__name__ = "repeating"
        yield "repeating one element", repeating
    if len(results) == 1 and first.dim() > 0 and first.numel() > 0:
        arguments = convert.tensors((sample.input, sample.args), torch.Tensor)
        for i, t in enumerate(arguments):
            if t.shape == first.shape and t.dtype == first.dtype and t.dim() > 0 and t.size(0) > 1:

                def argument(s: Any, i: int = i) -> Any:
                    return convert.tensors((s.input, s.args), torch.Tensor)[i]

                yield f"argument {i}", argument


def check_out(
    op: Any, function: Callable[..., Any], sample: Any, make: Callable[[Any], Any], dtypes: list[torch.dtype]
) -> None:
    """out= on a fresh copy of the sample: the same values in the same tensor, or refused with the same class."""
    plain = sample.transform(lambda t: t.detach().clone() if isinstance(t, torch.Tensor) else t)
    target = make(plain)
    x, args, kwargs, out = convert.from_torch((plain.input, plain.args, plain.kwargs, target))
    if target is not plain.input and all(target is not a for a in plain.args):
        target = make(plain)  # conversion goes through NumPy, after which PyTorch does not resize a tensor any more
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected, refused = attempt(lambda: op(plain.input, *plain.args, **plain.kwargs, out=target))
        actual, error = attempt(lambda: function(x, *args, **kwargs, out=out))
    if make.__name__ == "repeating" and not refused and error:
        return  # PyTorch writes several values into one place where it does not look
    if refused:
        if not error:
            raise compare.Difference(f"accepted what PyTorch refuses ({describe(refused)})")
        if not isinstance(error, type(refused)):
            raise compare.Difference(f"{describe(error)}, but PyTorch raises {describe(refused)}")
        return
    if error:
        raise error
    if op.name in catalogue.TIES:
        return compare.same(expected[0], actual[0])
    values = not catalogue.has_random_values(op.name, sample.args, sample.kwargs)
    if make.__name__ == "argument":  # PyTorch's products into one of their own factors are garbage
        plain = sample.transform(lambda t: t.detach() if isinstance(t, torch.Tensor) else t)
        expected = op(plain.input, *plain.args, **plain.kwargs)
    wanted, found = convert.tensors(expected, torch.Tensor), convert.tensors(out, tensorgrad.Tensor)
    assert actual is out or len(found) > 1, "another object than out was returned"
    for w, f, plain in zip(wanted, found, dtypes, strict=True):
        compare.same_tensor(w, f, "out", values=values and w.dtype == plain)
        if values and w.dtype != plain:  # computed in the result's dtype, so that it is no more exact than that
            torch.testing.assert_close(convert.to_torch(f).to(plain), w.to(plain), equal_nan=True)


def out_outcomes(op: Any, function: Callable[..., Any]) -> Iterator[Outcome]:
    """Of the first samples whose result has elements, every sort of out=."""
    checked = 0
    for what, sample in samples(op, dtypes_of(op, (torch.float32,))[0]):
        result, refused = attempt(lambda s=sample: op(s.input, *s.args, **s.kwargs))
        results = convert.tensors(result, torch.Tensor)
        if refused or not results or results[0].numel() == 0:
            continue
        for name, make in outs(sample, result):
            dtypes = [r.dtype for r in results]
            yield run(f"out {name}: {what}", "out", lambda s=sample, m=make, d=dtypes: check_out(op, function, s, m, d))
        checked += 1
        if checked == 3:
            return


def check_refusal(function: Callable[..., Any], bad: Any) -> None:
    sample = bad.sample_input

    def call() -> Any:  # what cannot even be made is refused too
        x, args, kwargs = convert.from_torch((sample.input, sample.args, sample.kwargs))
        result = function(x, *args, **kwargs)
        convert.wait()
        return result

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
    if op.supports_out:
        yield from out_outcomes(op, function)
    if op.error_inputs_func is not None:
        for i, bad in enumerate(op.error_inputs("cpu")):
            sample = bad.sample_input
            _, refused = attempt(lambda s=sample: op(s.input, *s.args, **s.kwargs))
            if refused:
                yield run(f"bad input {i} {bad.error_regex!s:.80}", "error", lambda b=bad: check_refusal(function, b))
