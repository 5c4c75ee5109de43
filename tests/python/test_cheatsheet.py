"""docs/cheatsheet.md is true: its PyTorch column runs in PyTorch, the same text runs in the tensorgrad package, and its
C++ column compiles."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/cheatsheet.md").read_text()

# What the snippets may use.
PYTHON_PRELUDE = """
import numpy as np
x, y = torch.rand(4, 3) + 0.1, torch.rand(4, 3) + 0.1
a, b = torch.rand(4, 3), torch.rand(3, 5)
mask = x > 0.5
rows = torch.tensor([0, 2])
columns = torch.tensor([[0, 2], [1, 1], [2, 0], [0, 0]])
labels = torch.tensor([0, 2, 1, 0])
images = torch.rand(2, 3, 8, 8)
w = torch.rand(4, 3, 3, 3)
q = k = v = torch.rand(2, 4, 5, 8)
model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
params = list(model.parameters())
opt = torch.optim.SGD(params, lr=0.1)
leaf = torch.rand(3, requires_grad=True)
loss = (model(x) ** 2).sum() + leaf.sum()
"""
CPP_PRELUDE = """
#include <tensorgrad/tensorgrad.h>
using namespace tensorgrad;
struct Net : nn::Module {
  nn::Linear fc = register_module("fc", nn::Linear(3, 3));
  Tensor forward(const Tensor& x) override { return fc(x); }
};
"""
CPP_VARIABLES = """
  Tensor x = rand({4, 3}), y = rand({4, 3}), a = rand({4, 3}), b = rand({3, 5}), mask = x > 0.5;
  Tensor rows = tensor({0, 2}), columns = tensor({{0, 2}, {1, 1}, {2, 0}, {0, 0}}), labels = tensor({0, 2, 1, 0});
  Tensor images = rand({2, 3, 8, 8}), w = rand({4, 3, 3, 3}), q = rand({2, 4, 5, 8}), k = q, v = q;
  Tensor leaf = rand({3}, {.requires_grad = true}), loss = leaf.sum();
  nn::Sequential model(nn::Linear(3, 3), nn::ReLU());
  std::vector<Tensor> params = model.parameters();
  optim::SGD opt(params, {.lr = 0.1});
"""


def rows_of_tables() -> list[tuple[str, str]]:
    found = []
    for line in TEXT.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
        if line.startswith("|") and len(cells) >= 2 and all(cell.startswith("`") for cell in cells[:2]):
            found.append(tuple(cell.strip("`").replace("\\|", "|") for cell in cells[:2]))
    return found


ROWS = rows_of_tables()


def test_there_are_rows():
    assert len(ROWS) > 60


@pytest.mark.parametrize("library", ["torch", "tensorgrad"])
def test_the_python_column_runs(library, tmp_path, monkeypatch):
    torch = pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    failures = []
    for python, _ in ROWS:
        names = {"torch": torch, "nn": torch.nn, "F": torch.nn.functional}
        exec(PYTHON_PRELUDE, names)
        try:
            exec(python, names)
        except Exception as error:
            failures.append(f"{python}: {type(error).__name__}: {error}")
    assert not failures, "\n".join(failures)


def test_the_cpp_column_compiles(tmp_path):
    source = [CPP_PRELUDE, "void variables() {", CPP_VARIABLES]
    for i, (_, cpp) in enumerate(ROWS):
        source += [f'#line {i + 1} "row"', f"  [&] {{ {cpp.rstrip(';')}; }};"]
    (tmp_path / "rows.cpp").write_text("\n".join([*source, "}", ""]))
    command = [os.environ.get("CXX", "c++"), "-std=c++20", "-fsyntax-only", "-w", f"-I{ROOT / 'include'}"]
    done = subprocess.run([*command, str(tmp_path / "rows.cpp")], capture_output=True, text=True, timeout=120)
    wrong = sorted({int(number) for number in re.findall(r"^row:(\d+):.*error:", done.stderr, re.MULTILINE)})
    assert done.returncode == 0, "\n".join(ROWS[number - 1][1] for number in wrong) + "\n" + done.stderr[:3000]
