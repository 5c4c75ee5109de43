"""The recorded history: every kind of file compared with its like, and merged into a release point."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from bench import compare, kernels, page, peers, record

ROOT = Path(__file__).resolve().parents[2]


def models_file(path, ms, mb=100.0):
    row = {"set": "steps", "name": "MLP", "ms": {"torch eager": 2.0, "tensorgrad": ms}}
    row["peak_mb"] = {"torch eager": 200.0, "tensorgrad": mb}
    path.write_text(json.dumps({"meta": {"commit": "abc"}, "models": [row]}))
    return str(path)


def kernels_file(path, us, share):
    row = {"family": "gemm", "kernel": "f32 NN", "shape": "8x8x8", "isa": "avx2", "limit": "float32 peak"}
    path.write_text(json.dumps({"meta": {}, "limits": {}, "kernels": [{**row, "rate": 1e9, "share": share, "us": us}]}))
    return str(path)


def test_models_are_compared_by_time_and_memory(tmp_path, capsys):
    old, new = models_file(tmp_path / "old.json", 1.0), models_file(tmp_path / "new.json", 0.5, 150.0)
    assert compare.main([old, new]) == 1
    printed = capsys.readouterr().out
    assert "slower: models: steps: MLP, memory: 1.50" in printed and "slower: models: steps: MLP, time" not in printed
    assert "0.500 |     0.250 |  0.500" in printed
    assert compare.main([old, new, "--only", "time"]) == 0


def test_kernels_are_compared_by_their_share_of_the_limit(tmp_path, capsys):
    # Twice the time on a machine half as fast is no change.
    old, new = kernels_file(tmp_path / "old.json", 10.0, 0.8), kernels_file(tmp_path / "new.json", 20.0, 0.8)
    assert compare.main([old, new]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "| kernels: avx2 gemm f32 NN, 8x8x8 | 2.000 | 1.250 | 1.250 | 1.000 |" in printed
    assert compare.main([old, kernels_file(tmp_path / "worse.json", 10.0, 0.4)]) == 1
    assert "slower: kernels: avx2 gemm f32 NN, 8x8x8: 2.00" in capsys.readouterr().out


def test_sweeps_are_compared_with_pytorch(tmp_path, capsys):
    for name, ours in (("old", 2.0), ("new", 1.0)):
        row = {"name": "conv 1x1", "direction": "forward", "ours": ours, "theirs": 4.0}
        (tmp_path / f"{name}.json").write_text(json.dumps({"rows": [row]}))
    assert compare.main([str(tmp_path / "old.json"), str(tmp_path / "new.json")]) == 0
    assert "| sweep: conv 1x1, forward | 0.500 | 0.500 | 0.250 | 0.500 |" in " ".join(capsys.readouterr().out.split())


def test_files_that_are_no_runs_are_refused(tmp_path, capsys):
    good = models_file(tmp_path / "good.json", 1.0)
    for name, text in [("empty", "{}"), ("text", "not json"), ("list", "[1]"), ("odd", '{"models": [{"name": "x"}]}')]:
        bad = tmp_path / f"{name}.json"
        bad.write_text(text)
        assert compare.main([good, str(bad)]) == 2
    assert compare.main([good, str(tmp_path / "absent.json")]) == 2
    assert compare.main([good, kernels_file(tmp_path / "other.json", 1.0, 0.5)]) == 2
    assert "no row in common" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted((ROOT / "bench/history").rglob("*.json")), ids=lambda path: path.name)
def test_every_recorded_run_can_be_compared(path, capsys):
    assert compare.main([str(path), str(path)]) == 0
    assert "geometric mean of the changes 1.000" in capsys.readouterr().out


def test_a_release_point_has_everything_of_its_files(tmp_path, capsys):
    files = [models_file(tmp_path / "models.json", 1.0), kernels_file(tmp_path / "kernels.json", 10.0, 0.8)]
    assert record.main(["point", *files, "--to", str(tmp_path)]) == 0
    found, meta = compare.load(tmp_path / "point.json")
    names = ["kernels: avx2 gemm f32 NN, 8x8x8", "models: steps: MLP, memory", "models: steps: MLP, time"]
    assert sorted(found) == names
    assert meta == {"commit": "abc"}
    assert json.loads((tmp_path / "point.json").read_text())["metas"] == {"models": {"commit": "abc"}, "kernels": {}}
    assert record.main(["twice", files[0], files[0], "--to", str(tmp_path)]) == 2
    assert "both have the row" in capsys.readouterr().err


PROGRAM = """#!/bin/sh
case "$*" in
  *--levels*) echo baseline; echo avx2 ;;
  *--list*) printf 'gemm\\tf32\\t8x8\\tfloat32 peak\\nnorm\\tlayer\\t4\\tcopy\\n' ;;
  *) rate=1e9 beside=0; [ $TENSORGRAD_ISA = avx2 ] && rate=4e9 beside=5e9
     printf 'limit\\tfloat32 peak\\t6e9\\nlimit\\tcopy\\t2e10\\n'
     printf "gemm\\tf32\\t8x8\\tfloat32 peak\\t$rate\\t12.5\\t$beside\\nnorm\\tlayer\\t4\\tcopy\\t5e9\\t3\\t0\\n"
     printf 'limit\\tfloat32 peak\\t8e9\\nlimit\\tcopy\\t1e10\\n' ;;
esac
"""


def test_kernels_are_run_on_every_instruction_set(tmp_path, capsys):
    program = tmp_path / "bench/bench_kernels"
    program.parent.mkdir()
    program.write_text(PROGRAM)
    program.chmod(0o755)
    out = tmp_path / "out.json"
    assert kernels.main(["--build", str(tmp_path), "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    # The limit measured in turns with a case, or the larger of those before and after: 8 GFLOP/s and 20 GB/s.
    assert "| f32, 8x8 | GFLOP/s |      1.0 |   12% |  4.0 |   80% |" in printed
    assert "| layer, 4 | GB/s |      5.0 |   25% |  5.0 |   25% |" in printed
    assert len(json.loads(out.read_text())["kernels"]) == 4
    assert kernels.main(["--build", str(tmp_path), "--isa", "avx2", "--worst", "1"]) == 0
    assert "| norm: layer, 4" in capsys.readouterr().out
    program.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(RuntimeError, match="ended with 3"):
        kernels.main(["--build", str(tmp_path)])
    assert kernels.main(["--build", str(tmp_path / "absent")]) == 1


def test_the_performance_page_is_written_from_a_release_point(tmp_path):
    meta = {"cpu": "a processor", "threads": 2, "commit": "abc", "date": "2026-01-02", "others_cpu_share": [0.0, 0.3]}
    models = [
        {
            "set": "steps",
            "name": name,
            "ms": {"torch eager": 10.0, "tensorgrad": ms},
            "best_ms": {"torch eager": 5.0, "tensorgrad": ms / 10},
            "peak_mb": {"torch eager": 300.0, "tensorgrad": 50.0},
        }
        for name, ms in (("quick", 1.0), ("slow", 9.0))
    ]
    rows = [
        {"family": family, "kernel": "k", "shape": shape, "isa": isa, "limit": "copy", "share": share}
        for family, shape, isa, share in [
            ("good", "1", "avx2", 0.8),
            ("good", "1", "avx512", 0.9),
            ("bad", "1", "avx2", 0.2),
            ("bad", "1", "avx512", 0.3),
            ("bad", "2", "avx512", 0.1),
        ]
    ]
    point = tmp_path / "point.json"
    metas = {"models": meta, "kernels": {**meta, "threads": 7}}
    point.write_text(json.dumps({"meta": meta, "metas": metas, "models": models, "kernels": rows}))
    written = tmp_path / "page.md"
    text = "# Page\n\n<!-- measured: models -->\nold\n<!-- end -->\nkept\n<!-- measured: kernels -->\n<!-- end -->\n"
    written.write_text(text)
    for _ in range(2):  # again over its own result
        assert page.main([str(point), "--page", str(written)]) == 0
    found = " ".join(written.read_text().split())
    assert "old" not in found and " kept " in found and found.count("<!-- measured") == 2
    assert found.index("steps: slow | 9.00 | 0.90 | - | 300 | 50") < found.index("steps: quick | 1.00 | 0.10")
    assert found.index("| bad | 20% | 20% | k, 2: 10% of copy |") < found.index("| good | 80% | 90% |")
    assert "2 threads, commit abc, 2026-01-02. Other programs used 30%" in found and "7 threads" in found
    assert page.main([str(point), "--page", str(written), "--best"]) == 0
    assert "steps: slow | 0.90 | 0.18 | - | 300 | 50" in " ".join(written.read_text().split())
    with pytest.raises(ValueError, match="no line <!-- measured: models -->"):
        page.filled("# Page", json.loads(point.read_text()))


def test_the_repository_s_page_has_places_for_the_tables():
    text = page.PAGE.read_text()
    assert text.count("<!-- measured: models -->") == text.count("<!-- measured: kernels -->") == 1
    assert text.count("<!-- end -->") == 2


def test_the_program_of_the_kernels_runs(tmp_path):
    """Where it is built: a case whose arrays no longer fit its kernel's contract crashes it."""
    build = next((Path(p).parent for p in sys.path if (Path(p).parent / "bench/bench_kernels").exists()), None)
    if build is None:
        pytest.skip("bench_kernels is not built")
    out = tmp_path / "out.json"
    for only, count in (("attention backward 64x4x49x32", 1), ("cross_entropy", 4)):
        quick = ["--build", str(build), "--isa", "baseline", "--seconds", "1e-3"]
        assert kernels.main([only, *quick, "--json", str(out)]) == 0
        rows = json.loads(out.read_text())["kernels"]
        assert len(rows) == count and all(row["us"] > 0 and row["share"] > 0 for row in rows)


def test_a_sweep_that_is_stopped_keeps_what_it_has(capsys):
    done = []

    def work(item):
        if item == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        done.append(item)

    peers.until_stopped(range(10), work)
    assert done == [0, 1, 2]
    assert "stopped" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is not signal.default_int_handler
