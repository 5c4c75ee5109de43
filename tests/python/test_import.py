"""What importing costs: modules that a user did not ask for."""

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


def test_import_brings_little():
    # The time itself (about 0.06 s) depends on what else the machine does; what is loaded decides about it.
    before, after = (
        set(run(f"import sys{also}; print(' '.join(sys.modules))").split()) for also in ("", ", tensorgrad")
    )
    assert not {"torch", "numpy", "matplotlib", "scipy", "jax"} & after
    others = {name for name in after - before if name.split(".")[0] != "tensorgrad"}
    assert len(others) < 40, sorted(others)


def test_the_package_has_type_information():
    import tensorgrad

    folder = os.path.dirname(tensorgrad.__file__)
    assert os.path.exists(os.path.join(folder, "py.typed"))
