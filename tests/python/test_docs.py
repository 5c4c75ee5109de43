"""Every public name has a docstring, and the examples in the operations' docstrings are right: with tensorgrad, and
with PyTorch in its place."""

import doctest
import importlib
import inspect

import pytest

tensorgrad = pytest.importorskip("tensorgrad")
from tensorgrad import _C, _docs  # noqa: E402

MODULES = (
    "tensorgrad tensorgrad.nn tensorgrad.nn.functional tensorgrad.nn.init tensorgrad.nn.utils tensorgrad.optim "
    "tensorgrad.optim.lr_scheduler tensorgrad.utils.data tensorgrad.autograd"
).split()
OPERATIONS = sorted({name for name, *_ in _C._operations() if not name.startswith("_")})


def examples(lib):
    """Runs every example with the names of `lib`; what went wrong."""
    names = {name: getattr(lib, name) for name in dir(lib) if not name.startswith("_")}
    wrong = []
    for name, text in _docs.texts().items():
        scope = {**names, "max": lib.max, "float": float} if "float('" in text else dict(names)
        test = doctest.DocTestParser().get_doctest(text, scope, name, "_docs.txt", 0)
        runner = doctest.DocTestRunner(verbose=False)
        report: list[str] = []
        runner.run(test, out=report.append)
        wrong += report
    return "".join(wrong)


def test_every_operation_has_a_text():
    known = _docs.texts()
    for name in OPERATIONS:
        if name.rstrip("_") not in _WITHOUT_TEXT:
            assert name in known or name.rstrip("_") in known, name
            operation = getattr(tensorgrad.Tensor, name, None) or getattr(_C, name)
            assert known[name if name in known else name.rstrip("_")] in operation.__doc__


# Forms in place of operations that have another name without the underscore.
_WITHOUT_TEXT = {"normal", "random", "uniform", "fill", "zero", "requires_grad", "detach", "copy"}


def test_examples_hold():
    assert examples(tensorgrad) == ""


def test_examples_hold_in_pytorch():
    assert examples(pytest.importorskip("torch")) == ""


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_has_a_docstring(module):
    found = importlib.import_module(module)
    for name in dir(found):
        value = getattr(found, name)
        if name.startswith("_") or not callable(value):
            continue
        assert (inspect.getdoc(value) or "").strip(), f"{module}.{name} has no docstring"
