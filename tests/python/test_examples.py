"""Every example in its short form, in Python and, where they are built, in C++: both write the same bytes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "data" / "digits"
WRITTEN = {
    "xor": ["xor.safetensors"],
    "draw_graph": ["formula.svg", "formula.dot", "network.svg", "network.dot"],
    "fashion_mnist": ["model.safetensors", "curves.svg", "confusion.svg"],
    "fashion_mnist_vit": ["model.safetensors"],
}


def program(name):
    """The built C++ example, or None: beside the Python package that is being tested, or in build/."""
    import tensorgrad

    for build in (Path(tensorgrad.__file__).resolve().parents[2], ROOT / "build"):
        if os.access(build / "examples" / "cpp" / name, os.X_OK):
            return str(build / "examples" / "cpp" / name)
    return None


def run(command, *arguments):
    environment = {**os.environ, "TENSORGRAD_DIGITS": str(DIGITS)}
    done = subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def python(name):
    return [sys.executable, str(ROOT / "examples" / "python" / f"{name}.py")]


@pytest.mark.parametrize("name", WRITTEN)
def test_twins_write_the_same(name, tmp_path):
    run(python(name), "--quick", "--out", tmp_path / "python")
    for file in WRITTEN[name]:
        assert (tmp_path / "python" / file).stat().st_size > 0
    if program(name) is None:
        pytest.skip("the C++ examples are not built")
    run([program(name)], "--quick", "--out", tmp_path / "cpp")
    for file in WRITTEN[name]:
        assert (tmp_path / "python" / file).read_bytes() == (tmp_path / "cpp" / file).read_bytes(), file


@pytest.mark.parametrize("language", ["python", "cpp"])
def test_an_interrupted_training_goes_on_bit_by_bit(language, tmp_path):
    command = python("fashion_mnist") if language == "python" else [program("fashion_mnist")]
    if command[0] is None:
        pytest.skip("the C++ examples are not built")
    common = ["--data", DIGITS, "--batch-size", 50, "--out"]
    run(command, *common, tmp_path / "whole")
    assert "To continue" in run(command, *common, tmp_path / "parts", "--stop-after", 37)
    assert "continuing with epoch 2" in run(command, *common, tmp_path / "parts", "--resume")
    for file in ("model.safetensors", "checkpoint.safetensors", "curves.svg", "confusion.svg"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "parts" / file).read_bytes(), file


def test_control_c_saves_and_says_how_to_go_on(tmp_path):
    if program("fashion_mnist") is None:
        pytest.skip("the C++ examples are not built")
    command = [program("fashion_mnist"), "--data", DIGITS, "--epochs", "1000", "--out", tmp_path]
    running = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not (tmp_path / "checkpoint.safetensors").exists() and time.monotonic() < end:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    output, _ = running.communicate(timeout=60)
    assert running.returncode == 0
    assert "--resume" in output


def test_help_and_mistakes():
    if program("fashion_mnist") is None:
        pytest.skip("the C++ examples are not built")
    assert "--batch-size" in run([program("fashion_mnist")], "--help")
    for wrong in (["--batches", "3"], ["--epochs", "many"], ["--epochs"], ["word"], ["--data", "/nowhere"]):
        done = subprocess.run([program("fashion_mnist"), *wrong], capture_output=True, text=True, timeout=60)
        assert done.returncode in (1, 2)
        assert done.stderr


def test_a_checkpoint_goes_on_in_the_other_language(tmp_path):
    if program("fashion_mnist") is None:
        pytest.skip("the C++ examples are not built")
    common = ["--data", DIGITS, "--batch-size", 50, "--out"]
    run([program("fashion_mnist")], *common, tmp_path / "whole")
    for first, second in (
        (python("fashion_mnist"), [program("fashion_mnist")]),
        ([program("fashion_mnist")], python("fashion_mnist")),
    ):
        run(first, *common, tmp_path / "parts", "--stop-after", 37)
        run(second, *common, tmp_path / "parts", "--resume")
        assert (tmp_path / "whole" / "model.safetensors").read_bytes() == (
            tmp_path / "parts" / "model.safetensors"
        ).read_bytes()
