"""The benchmark of whole models: the same work on both sides, and differences are found."""

import json

import numpy as np
import pytest
import tensorgrad
import torch

from bench import models, profile
from bench.peers import PeerError
from bench.table import disagreement
from bench.training import Training, peak_megabytes
from bench.zoo import SETS, STEPS


def test_names_are_unique_within_a_set():
    for programs in SETS.values():
        names = [program.name for program in programs]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("program", STEPS, ids=lambda program: program.name)
def test_both_libraries_build_the_same_model(program):
    ours, theirs = (
        [(name, tuple(value.shape)) for name, value in program.make(lib).state_dict().items()]
        for lib in (tensorgrad, torch)
    )
    assert ours == theirs


@pytest.mark.parametrize(
    "chosen, name",
    [
        ("steps", STEPS[0].name),
        ("shapes", "demo CNN with dropout 0.25, batch 64"),
        ("shapes", "LSTM of small operations, 64 steps, batch 1"),
        ("inference", "MLP, batch 64"),
    ],
)
def test_both_libraries_compute_the_same(chosen, name, tmp_path):
    for lib in (torch, tensorgrad):
        for exact in (True, False):
            training = Training(lib, chosen, name, False)
            training.check(tmp_path / "weights.npz", tmp_path / f"{lib.__name__}-{exact}.npz", exact)
        assert len(training.measure(0.0, 3)) == 3
    for exact, allowed in ((True, models.EXACT_TOLERANCE), (False, models.TOLERANCE)):
        error, where = disagreement(tmp_path / f"tensorgrad-{exact}.npz", tmp_path / f"torch-{exact}.npz")
        assert error <= allowed, where
    found = np.load(tmp_path / "tensorgrad-True.npz")
    assert sum(key.startswith("gradient of ") for key in found.files) == len(list(training.model.parameters()))
    if chosen != "inference":
        losses = np.load(tmp_path / "tensorgrad-False.npz")["losses"]
        assert losses[-1] < losses[0]


class FakePeer:
    def __init__(self, name, losses):
        self.name, self.losses = name, losses

    def ask(self, do, weights, result, exact):
        assert do == "check_model"
        np.savez(result, losses=np.array(self.losses))


def test_a_library_that_computes_something_else_is_named(tmp_path):
    good, same, other = FakePeer("torch eager", [2.0, 1.0]), FakePeer("a", [2.0, 1.0001]), FakePeer("b", [2.0, 1.1])
    models.check([good, same], tmp_path, exact=False)
    with pytest.raises(PeerError, match="b: losses differs from torch eager by 5.00e-02"):
        models.check([good, same, other], tmp_path, exact=False)
    with pytest.raises(PeerError, match="a: losses in float64 differs"):
        models.check([good, same], tmp_path, exact=True)


def test_the_table_and_the_file(monkeypatch, tmp_path, capsys):
    def run(name, args, kinds):
        if "CNN" in name:
            raise PeerError("torch eager: no memory")
        return {
            "name": name,
            "ms": {label: 4.0 if label == "torch eager" else 1.0 for label, _, _ in kinds},
            "best_ms": {label: 2.0 if label == "torch eager" else 1.0 for label, _, _ in kinds},
            "peak_mb": {label: 100.0 for label, _, _ in kinds},
        }

    monkeypatch.setattr(models, "run_model", run)
    path = tmp_path / "models.json"
    assert models.main(["--no-compile", "--only", "MLP", "--json", str(path)]) == 0
    assert "| 0.250 |" in " ".join(capsys.readouterr().out.split())
    [row] = json.loads(path.read_text())["models"]
    assert row["set"] == "steps" and row["name"] == STEPS[0].name
    assert models.main(["--no-compile", "--best"]) == 1
    printed = capsys.readouterr()
    assert "0.500" in printed.out and "LeNet-like" not in printed.out
    assert "LeNet-like CNN 28x28, batch 64: torch eager: no memory" in printed.err


def test_peak_memory_grows_with_what_is_touched():
    before = peak_megabytes()
    array = np.ones(64 << 20, dtype=np.uint8)
    assert peak_megabytes() >= before
    assert peak_megabytes() > 64
    del array


def test_the_profile_counts_every_operation():
    rows, elapsed = profile.Profile("steps", STEPS[0].name, 1).run(4)
    by_key = {(name, shape, backward): (calls, seconds) for name, shape, backward, calls, seconds in rows}
    # In a Sequential a Linear and the ReLU behind it are one operation.
    for name, shape in (("LinearRelu", "64x512"), ("LinearRelu", "64x256"), ("Linear", "64x10")):
        assert by_key[name, shape, False][0] == 4
        assert by_key[name, shape, True][0] == 4
    assert by_key["optimizer.step", "", False][0] == 4
    assert 0.5 * elapsed < sum(seconds for _, seconds in by_key.values()) <= elapsed
    text = profile.table(rows, elapsed, 4, 3)
    assert len(text.splitlines()) == 5
    # Off again: nothing is counted any more.
    tensorgrad.ones(2, requires_grad=True).sum().backward()
    assert tensorgrad._C._profile_stop() == []
