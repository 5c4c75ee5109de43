"""PyTorch's own samples of operations, modules and optimizers: every one runs (in a process of its own), at least 99 %
must match, and what does not is listed with its reason in parity/exceptions.py. `make parity` prints it all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the judge of parity: scripts/setup --torch")
pytest.importorskip("tensorgrad")

from parity.__main__ import jobs  # noqa: E402
from parity.exceptions import EXCEPTIONS  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
NAMES = list(jobs(everything=False))


@pytest.fixture(scope="session")
def found(tmp_path_factory):
    report = tmp_path_factory.mktemp("parity") / "parity.json"
    path = os.pathsep.join([str(ROOT / "tests/python"), *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", "parity", "--json", str(report)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert report.exists(), done.stdout[-3000:] + done.stderr[-3000:]
    result = json.loads(report.read_text())
    result["reports"] = {entry["name"]: entry for entry in result["reports"]}
    return result


@pytest.mark.parametrize("name", NAMES)
def test_matches_pytorch(found, name):
    report = found["reports"][name]
    allowed, reason = EXCEPTIONS.get(name, (0, ""))
    text = "\n".join(report["problems"][:20])
    assert len(report["problems"]) <= allowed, (
        f"{len(report['problems'])} problems, {allowed} known ({reason}):\n{text}"
    )


@pytest.mark.parametrize("group", ["operations", "modules", "optimizers"])
def test_at_least_99_percent_of_the_samples_match(found, group):
    passed, total = found["summary"][group]["sample"]
    assert passed >= 0.99 * total, f"{passed} of {total}"


def test_every_exception_exists_and_has_a_reason():
    for name, (count, reason) in EXCEPTIONS.items():
        assert name in NAMES and count > 0 and len(reason) > 20
