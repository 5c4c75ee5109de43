"""The benchmark's arithmetic: tables, the comparison of outputs, the comparison of two runs."""

import json

import numpy as np
import pytest

from bench import compare, report
from bench.cases import CASES, DIRECTIONS
from bench.table import disagreement, make_data


def result(ratio: float) -> dict:
    rows = []
    for case in CASES:
        for direction in DIRECTIONS:
            times = {"torch cpu": 1e-3, "tensorgrad": 1e-3 * ratio}
            row = {"module": case.module, "inputs": case.inputs, "direction": direction, "times": times}
            rows.append({**row, "ratio": ratio})
    overhead = [{"language": "C++", "name": "empty({4})", "torch cpu": 180.0, "tensorgrad": 180.0 * ratio}]
    return {"meta": {"device": "cpu"}, "rows": rows, "overhead": overhead}


@pytest.mark.parametrize("value, text", [(8.6e-6, "0.00000860"), (0.0124, "0.0124"), (1.5, "1.50"), (None, "-")])
def test_seconds_never_use_an_exponent(value, text):
    assert report.seconds(value) == text


def test_tables_have_every_row_and_the_overall_row():
    text = report.tables(result(0.5))
    for case in CASES:
        assert text.count(f"| {case.inputs} ") == 3
    assert text.count("| overall") == 12
    assert "24 of 24 rows take at most PyTorch's time; geometric mean 0.500" in text


def test_a_table_without_pytorch_has_one_column():
    alone = result(0.5)
    for row in alone["rows"]:
        del row["times"]["torch cpu"], row["ratio"]
    text = report.tables(alone)
    assert "torch" not in text.split("Operation overhead")[0]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.key)
def test_published_figures_match_the_rows(case):
    origin = json.loads((report.Path(__file__).resolve().parents[2] / "bench/origin.json").read_text())
    assert sum(entry["module"] == case.module and entry["inputs"] == case.inputs for entry in origin) == 4


def test_disagreement_finds_wrong_values_shapes_and_nan(tmp_path):
    good, bad = tmp_path / "good.npz", tmp_path / "bad.npz"
    np.savez(good, output=np.ones(4), gradient=np.full(3, 2.0))
    assert disagreement(good, good)[0] == 0.0
    np.savez(bad, output=np.ones(4), gradient=np.array([2.0, 2.0, 2.1]))
    assert disagreement(bad, good) == (pytest.approx(0.05), "gradient")
    np.savez(bad, output=np.ones(4), gradient=np.array([2.0, 2.0, np.nan]))
    assert not disagreement(bad, good)[0] <= 1e-4
    np.savez(bad, output=np.ones((1, 4)), gradient=np.full(3, 2.0))
    assert disagreement(bad, good)[0] == float("inf")


def test_data_is_the_same_every_time(tmp_path):
    make_data(CASES[0], tmp_path / "a.npz")
    make_data(CASES[0], tmp_path / "b.npz")
    a, b = np.load(tmp_path / "a.npz"), np.load(tmp_path / "b.npz")
    assert all(np.array_equal(a[name], b[name]) for name in a.files)


def test_compare_reports_what_became_slower(tmp_path, capsys):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text(json.dumps(result(0.5)))
    new.write_text(json.dumps(result(0.4)))
    assert compare.main([str(old), str(new)]) == 0
    assert "geometric mean of the changes 0.800" in capsys.readouterr().out
    assert compare.main([str(new), str(old), "--limit", "1.1"]) == 1
    assert "slower: table: nn.Softmax input=1024x512 dim=-1, forward: 1.25" in capsys.readouterr().out


def test_the_short_table_has_a_line_for_each_row():
    example = result(0.5)
    example["meta"] |= {
        "cpu": "a processor",
        "threads": 2,
        "versions": {"torch cpu": "2.13.0+cpu"},
        "date": "2026-01-02",
    }
    text = report.short_table(example)
    assert "a processor, 2 threads, float32, against PyTorch 2.13.0, 2026-01-02." in text
    for case in CASES:
        assert sum(line.startswith(f"| {case.key} ") and line.count("**0.50**") == 2 for line in text.splitlines()) == 1
    assert "e+" not in text
