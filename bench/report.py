"""Figures as text: the tables that `make bench` prints, and BENCHMARK.md."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.cases import DIRECTIONS, MODULES

HEADINGS = {
    "forward": "Forward",
    "backward": "Backward",
    "backward, random gradient": "Backward with a random upstream gradient",
}


def reference_name(times: dict[str, float]) -> str | None:
    """The peer that a ratio is against: PyTorch on the same device."""
    return next((name for name in ("torch cuda", "torch cpu") if name in times), None)


def seconds(value: float | None) -> str:
    """Three significant digits at any size, never an exponent: 0.00000860, 0.0124."""
    if value is None:
        return "-"
    digits = max(2, 2 - math.floor(math.log10(value))) if value > 0 else 2
    return f"{value:.{digits}f}"


def markdown(header: list[str], lines: Iterable[list[str]]) -> str:
    table = [header, *lines]
    widths = [max(len(line[i]) for line in table) for i in range(len(header))]

    def row(line: list[str]) -> str:
        cells = [line[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:])]
        return "| " + " | ".join(cells) + " |"

    rule = "|" + "|".join("-" * (width + 2) if i == 0 else "-" * (width + 1) + ":" for i, width in enumerate(widths))
    return "\n".join([row(header), rule + "|", *(row(line) for line in table[1:])])


def module_table(rows: list[dict[str, Any]], origin: list[dict[str, Any]] | None = None) -> str:
    """One table of the layout `inputs | torch, s. | tensorgrad, s. | ratio`; `overall` is the median of each column.
    With `origin`, the first tensorgrad's published figures stand beside."""
    names = [name for name in ("torch cpu", "torch cuda", "tensorgrad") if name in rows[0]["times"]]
    header = ["inputs", *(f"{name}, s." for name in names), "ratio"]
    lines = []
    for row in rows:
        ratio = f"{row['ratio']:.3f}" if "ratio" in row else "-"
        lines.append([row["inputs"], *(seconds(row["times"][name]) for name in names), ratio])
    medians = [seconds(statistics.median(row["times"][name] for row in rows)) for name in names]
    ratios = [row["ratio"] for row in rows if "ratio" in row]
    lines.append(["overall", *medians, f"{statistics.median(ratios):.3f}" if ratios else "-"])
    if origin:
        header += ["first: torch cpu, s.", "first: tensorgrad, s.", "first: ratio"]
        by_inputs = {entry["inputs"]: entry for entry in origin}
        found = [by_inputs.get(row["inputs"]) for row in rows]
        for line, entry in zip(lines, found):
            line += (
                [f"{entry['torch']:.5f}", f"{entry['tensorgrad']:.5f}", f"{entry['ratio']:.2f}"] if entry else ["-"] * 3
            )
        known = [entry for entry in found if entry]
        for key, digits in (("torch", 5), ("tensorgrad", 5), ("ratio", 2)):
            lines[-1].append(f"{statistics.median(entry[key] for entry in known):.{digits}f}" if known else "-")
    return markdown(header, lines)


def overhead_table(entries: list[dict[str, Any]]) -> str:
    lines = []
    for entry in entries:
        ours, theirs = entry.get("tensorgrad"), entry.get("torch cpu")
        lines.append(
            [
                f"{entry['language']}: {entry['name']}",
                f"{theirs:.0f}" if theirs else "-",
                f"{ours:.0f}" if ours else "-",
                f"{ours / theirs:.3f}" if ours and theirs else "-",
            ]
        )
    return markdown(["operation", "torch, ns", "tensorgrad, ns", "ratio"], lines)


def summary(rows: list[dict[str, Any]]) -> str:
    """How the rows of the two main directions stand to PyTorch."""
    ratios = [row["ratio"] for row in rows if "ratio" in row and row["direction"] in ("forward", "backward")]
    if not ratios:
        return ""
    mean = math.exp(statistics.fmean(math.log(ratio) for ratio in ratios))
    below = sum(ratio <= 1.0 for ratio in ratios)
    return (
        f"{below} of {len(ratios)} rows take at most PyTorch's time; "
        f"geometric mean {mean:.3f}, best {min(ratios):.3f}, worst {max(ratios):.3f}."
    )


def tables(result: dict[str, Any], origin: list[dict[str, Any]] | None = None, level: int = 1) -> str:
    mark = "#" * level
    device = "cuda" if result["meta"]["device"].startswith("cuda") else "cpu"
    parts = []
    for module in MODULES:
        for direction in DIRECTIONS:
            rows = [row for row in result["rows"] if row["module"] == module and row["direction"] == direction]
            if not rows:
                continue
            if direction == DIRECTIONS[0]:
                parts.append(f"{mark} {module}\n\n{mark}# {device.upper()}")
            matching = [
                entry
                for entry in origin or []
                if (entry["module"], entry["device"], entry["direction"]) == (module, device, direction)
            ]
            parts.append(f"{mark}## {HEADINGS[direction]}\n\n{module_table(rows, matching)}")
    if result["overhead"]:
        parts.append(f"{mark} Operation overhead\n\n{overhead_table(result['overhead'])}")
    parts.append(summary(result["rows"]))
    return "\n\n".join(part for part in parts if part)


INTRODUCTION = """# Benchmark

`make bench` makes this page and `make bench-compare` compares two recorded runs. A ratio below 1 means that tensorgrad
takes less time than PyTorch on the same machine in the same run.

How it is measured: PyTorch and tensorgrad run in processes of their own and take turns (ABAB), the idle one blocked on
a pipe; the same number of threads; warmed processes; medians. `Forward` runs under `no_grad`. `Backward` is
`o.sum().backward()` alone, with the forward outside the timer, the input requiring a gradient and all gradients None
before; the third section passes a random upstream gradient to `o.backward(g)`. MultiheadAttention is `batch_first`
self-attention with biases and `need_weights=False`. Outputs and all gradients were compared (1e-4 relative to the
largest value; convolutions on CUDA, which multiply in TF32 on both sides as PyTorch does by default, 3e-3) before
anything was timed. `overall` is the median of its column. The columns named `first` are those of
the table published with the first tensorgrad, measured on another machine against the PyTorch of its time: compare the
ratios.
"""


def settings(meta: dict[str, Any]) -> str:
    turns = meta["settings"]
    lines = [["date", meta["date"]], ["CPU", meta["cpu"]]]
    if meta.get("gpu"):
        lines.append(["GPU and driver", meta["gpu"]])
    lines += [
        ["system", meta["system"]],
        ["compiler", meta["compiler"]],
        ["Python", meta["python"]],
        *([name, version] for name, version in meta["versions"].items()),
        ["commit", meta["commit"]],
        ["threads", str(meta["threads"])],
        ["turns", f"{turns['rounds']} of {turns['seconds_per_turn']} s for each library and row"],
        ["CPU use of other programs, before and after", ", ".join(f"{v:.1%}" for v in meta["others_cpu_share"])],
        ["CPU use of an idle library", ", ".join(f"{k} {v:.1%}" for k, v in meta["idle_cpu_share"].items())],
    ]
    width = max(len(name) for name, _ in lines)
    body = "\n".join(f"| {name.ljust(width)} | {value} |" for name, value in lines)
    return f"| {'setting'.ljust(width)} | |\n|{'-' * (width + 2)}|---|\n{body}"


def short_table(result: dict[str, Any]) -> str:
    """The table of the README: one line a row, forward and backward beside each other, in microseconds."""
    lines: dict[str, list[str]] = {}
    for row in result["rows"]:
        if row["direction"] not in ("forward", "backward") or "ratio" not in row:
            continue
        torch = row["times"][reference_name(row["times"])]
        cells = [f"{torch * 1e6:.3g}", f"{row['times']['tensorgrad'] * 1e6:.3g}", f"**{row['ratio']:.2f}**"]
        lines.setdefault(f"{row['module']} {row['inputs']}", []).extend(f"{cell}" for cell in cells)
    header = ["microseconds"]
    for direction in ("forward", "backward"):
        header += [f"{direction}: torch", "tensorgrad", "ratio"]
    complete = [[_plain(name), *map(_plain, cells)] for name, cells in lines.items() if len(cells) == 6]
    meta = result["meta"]
    version = meta["versions"].get("torch cpu", "?").split("+")[0]
    caption = f"{meta['cpu']}, {meta['threads']} threads, float32, against PyTorch {version}, {meta['date'][:10]}."
    return f"{caption} {summary(result['rows'])}\n\n{markdown(header, complete)}"


def _plain(cell: str) -> str:
    """Large figures without an exponent: 1.24e+04 becomes 12400."""
    if "e+" not in cell:
        return cell
    return f"{float(cell):.0f}"


def write_readme_table(root: Path, result: dict[str, Any]) -> None:
    begin, end = "<!-- table: written by make bench -->", "<!-- end of table -->"
    path = root / "README.md"
    if not path.exists() or begin not in path.read_text():
        return
    before, _, rest = path.read_text().partition(begin)
    path.write_text(f"{before}{begin}\n\n{short_table(result)}\n\n{end}{rest.partition(end)[2]}")


def write_benchmark_md(root: Path) -> None:
    """BENCHMARK.md from the latest recorded runs of each device."""
    origin = json.loads((root / "bench/origin.json").read_text())
    parts = [INTRODUCTION.strip()]
    for kind, title in (("cpu", "CPU"), ("cuda", "CUDA")):
        path = root / f"bench/history/latest-{kind}.json"
        if not path.exists():
            continue
        result = json.loads(path.read_text())
        parts.append(f"# {title}: the run\n\n{settings(result['meta'])}")
        parts.append(f"{summary(result['rows'])}\n\n![ratios to PyTorch](docs/images/benchmark-{kind}.svg)")
        parts.append(tables(result, origin))
        if kind == "cpu":
            write_readme_table(root, result)
    (root / "BENCHMARK.md").write_text("\n\n".join(parts) + "\n")
