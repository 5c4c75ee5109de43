"""The type stubs of the extension are those that its signatures give, and they are valid Python."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def test_stubs_are_current():
    done = subprocess.run([sys.executable, ROOT / "scripts/stubs.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_stubs_parse_and_name_what_there_is():
    import tensorgrad

    text = (ROOT / "python/tensorgrad/_C.pyi").read_text()
    tree = ast.parse(text)
    tensor = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Tensor")
    methods = {n.name for n in tensor.body if isinstance(n, ast.FunctionDef)}
    assert {"sum", "view", "add_", "backward", "to"} <= methods
    assert all(hasattr(tensorgrad.Tensor, name) for name in methods)
    functions = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)} - {"__getattr__"}
    assert all(hasattr(tensorgrad._C, name) for name in functions)
