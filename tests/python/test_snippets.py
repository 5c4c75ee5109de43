"""Everyday PyTorch code, one snippet a block of snippets/*.txt, run through both libraries: the value of its last
expression (values, dtypes, shapes, requires_grad, text), or the class of the error that it raises."""

from __future__ import annotations

import ast
import re
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy
import pytest

tensorgrad = pytest.importorskip("tensorgrad")
torch = pytest.importorskip("torch")

FOLDER = Path(__file__).parent / "snippets"


def snippets() -> list[Any]:
    found = []
    for path in sorted(FOLDER.glob("*.txt")):
        blocks = [block for block in re.split(r"\n\s*\n", path.read_text()) if block.strip()]
        found += [pytest.param(block, id=f"{path.stem}-{i}") for i, block in enumerate(blocks)]
    return found


def names(lib: ModuleType) -> dict[str, Any]:
    """What a snippet starts with: small tensors of exact values."""
    lib.manual_seed(0)
    return {
        "torch": lib,
        "nn": lib.nn,
        "F": lib.nn.functional,
        "optim": lib.optim,
        "numpy": numpy,
        "m": (lib.arange(12.0).reshape(3, 4) * 7 % 12 - 5) / 4,
        "a": lib.arange(24.0).reshape(2, 3, 4) / 8 - 1,
        "v": lib.tensor([0.5, -1.5, 2.0, 0.25]),
        "i": lib.tensor([1, 2, 3]),
        "b": lib.tensor([True, False, True]),
        "s": lib.tensor(2.5),
    }


def run(code: str, lib: ModuleType) -> Any:
    """The value of the last expression; None when the last statement is not one."""
    scope = names(lib)
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "snippet", "exec"), scope)
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), "snippet", "eval"), scope)  # type: ignore[attr-defined]


def attempt(code: str, lib: ModuleType) -> tuple[Any, Exception | None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return run(code, lib), None
    except Exception as error:
        return None, error


def to_torch(t: Any) -> Any:
    name = str(t.dtype).rpartition(".")[2]
    plain = t.detach()
    if name in ("bfloat16", "float16"):
        return torch.from_numpy(numpy.array(plain.float().numpy())).to(getattr(torch, name))
    return torch.from_numpy(numpy.array(plain.numpy()))


def same(expected: Any, actual: Any, where: str = "result") -> None:
    if isinstance(expected, torch.Tensor):
        assert isinstance(actual, tensorgrad.Tensor), f"{where}: {type(actual).__name__}, expected a tensor"
        assert str(actual.dtype) == str(expected.dtype), f"{where}: {actual.dtype}, expected {expected.dtype}"
        assert tuple(actual.shape) == tuple(expected.shape), f"{where}: {actual.shape}, expected {expected.shape}"
        assert actual.requires_grad == expected.requires_grad, f"{where}: requires_grad is {actual.requires_grad}"
        torch.testing.assert_close(to_torch(actual), expected.detach(), equal_nan=True, msg=lambda m: f"{where}: {m}")
    elif isinstance(expected, dict):
        assert list(map(str, actual)) == list(map(str, expected)), f"{where}: {list(actual)}, expected {list(expected)}"
        for key, value in zip(expected, actual, strict=True):
            same(expected[key], actual[value], f"{where}[{key!r}]")
    elif isinstance(expected, list | tuple):
        assert isinstance(actual, type(expected).__mro__[-2]), f"{where}: {type(actual)}, expected {type(expected)}"
        assert len(actual) == len(expected), f"{where}: {actual!r}, expected {expected!r}"
        for i, (e, a) in enumerate(zip(expected, actual, strict=True)):
            same(e, a, f"{where}[{i}]")
    elif isinstance(expected, float):
        assert type(actual) is float and actual == pytest.approx(expected, rel=1e-6, abs=1e-6, nan_ok=True), where
    elif isinstance(expected, int | str | bytes | type(None) | complex):
        assert type(actual) is type(expected) and actual == expected, f"{where}: {actual!r}, expected {expected!r}"
    elif isinstance(expected, numpy.ndarray | numpy.generic):
        assert actual.dtype == expected.dtype, where
        numpy.testing.assert_allclose(actual, expected, rtol=1e-6)
    else:  # dtypes, devices, modules and the like: their text
        assert str(actual).replace("tensorgrad", "torch") == str(expected), f"{where}: {actual!r}, not {expected!r}"


@pytest.mark.parametrize("code", snippets())
def test_snippet(code: str) -> None:
    expected, refused = attempt(code, torch)
    actual, error = attempt(code, tensorgrad)
    if refused is None:
        if error is not None:
            raise AssertionError(f"{code}\n{type(error).__name__}: {error}") from error
        same(expected, actual)
        return
    assert error is not None, f"{code}\naccepted ({actual!r}), PyTorch raises {type(refused).__name__}: {refused}"
    assert isinstance(error, type(refused)), (
        f"{code}\n{type(error).__name__}: {error}\nPyTorch raises {type(refused).__name__}: {refused}"
    )


def test_there_are_hundreds() -> None:
    assert len(snippets()) >= 300
