"""What importing costs: time, and modules that a user did not ask for."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("tensorgrad")


def run(code: str) -> str:
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=True
    )
    return done.stdout.strip()


def test_import_takes_under_a_tenth_of_a_second():
    code = "import time; begin = time.process_time(); import tensorgrad; print(time.process_time() - begin)"
    assert min(float(run(code)) for _ in range(5)) < 0.1


def test_import_brings_neither_torch_nor_matplotlib():
    loaded = run("import sys, tensorgrad; print(' '.join(sys.modules))").split()
    assert not {"torch", "matplotlib", "scipy", "jax"} & set(loaded)


def test_the_package_has_type_information():
    import tensorgrad

    folder = os.path.dirname(tensorgrad.__file__)
    assert os.path.exists(os.path.join(folder, "py.typed"))
