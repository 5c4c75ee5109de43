"""Two recorded runs as ratios, new to old.

    make bench-compare ARGS="bench/history/A.json bench/history/B.json"
    make bench-compare ARGS="A.json B.json --only kernels --limit 1.1 --changed"

Reads what `make bench`, `make bench-models` and `make bench-kernels` write with --json, and the merged files of
bench/history (bench/record.py); rows that both have are compared. A run on another machine, or on a busy one, has other
absolute times, so beside the times stands how each run's ratio changed: to PyTorch in the same run, for kernels to the
limit of the machine measured in the same run. Ends with 1 if a row became slower than --limit times (by its ratio, or
by its time where the runs had no ratio), or takes that many times the memory.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.report import markdown


class NotARun(ValueError):
    pass


@dataclass(frozen=True)
class Entry:
    value: float  # seconds, or megabytes
    ratio: float | None = None  # to PyTorch's, or to what the machine's limit would allow; below 1 is better


def _table(result: dict[str, Any]) -> Iterator[tuple[str, Entry]]:
    for row in result.get("rows", []):
        if "times" in row:
            what = row["direction"] if "direction" in row else f"{row['part']} as a CUDA graph"
            name = f"table: {row['module']} {row['inputs']}, {what}"
            yield name, Entry(row["times"]["tensorgrad"], row.get("ratio"))
    for entry in result.get("overhead", []):
        if "tensorgrad" in entry:
            other = entry.get("torch cpu")
            ratio = entry["tensorgrad"] / other if other else None
            yield f"overhead: {entry['language']}: {entry['name']}", Entry(entry["tensorgrad"] * 1e-9, ratio)


def _shapes(result: dict[str, Any]) -> Iterator[tuple[str, Entry]]:
    """A sweep's rows: seconds of both sides."""
    for row in result.get("rows", []):
        if "ours" in row:
            yield f"sweep: {row['name']}, {row['direction']}", Entry(row["ours"], row["ours"] / row["theirs"])


def _models(result: dict[str, Any]) -> Iterator[tuple[str, Entry]]:
    """Steps and passes of models on the CPU, and what bench.cuda_gpt measures."""
    for row in [*result.get("models", []), *(row for row in result.get("rows", []) if "ms" in row)]:
        for what, key, scale in (("time", "ms", 1e-3), ("memory", "peak_mb", 1.0)):
            if key not in row:
                continue
            ours, other = row[key]["tensorgrad"], row[key].get("torch eager")
            name = f"models: {row.get('set', 'cuda')}: {row['name']}, {what}"
            yield name, Entry(ours * scale, ours / other if other else None)


def _kernels(result: dict[str, Any]) -> Iterator[tuple[str, Entry]]:
    for row in result.get("kernels", []):
        name = f"kernels: {row['isa']} {row['family']} {row['kernel']}, {row['shape']}"
        yield name, Entry(row["us"] * 1e-6, 1 / row["share"] if row["share"] > 0 else None)


def _device_kernels(result: dict[str, Any]) -> Iterator[tuple[str, Entry]]:
    """Seconds of large kernels on a GPU, PyTorch's beside them."""
    for family in ("memory", "matmul"):
        for kernel, ours in result.get("tensorgrad", {}).get(family, {}).items():
            other = result.get("torch", {}).get(family, {}).get(kernel)
            ratio = ours["seconds"] / other["seconds"] if other else None
            yield f"device kernels: {kernel}", Entry(ours["seconds"], ratio)


PARTS = (_table, _shapes, _models, _kernels, _device_kernels)


def load(path: Path) -> tuple[dict[str, Entry], dict[str, Any]]:
    """Every figure of the file by name, and what it says of the machine; NotARun if it has none."""
    try:
        result = json.loads(path.read_text())
        found = {name: entry for part in PARTS for name, entry in part(result)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotARun(f"{path} is no recorded run: {type(error).__name__}: {error}") from error
    if not found:
        raise NotARun(f"{path} has no rows")
    return found, result.get("meta", {})


def heading(label: str, path: Path, meta: dict[str, Any]) -> str:
    others = max(meta.get("others_cpu_share", [0.0]), default=0.0)
    busy = f"; other programs used {others:.0%} of the machine" if others > 0.1 else ""
    return f"{label}: {path} ({meta.get('commit', '?')}, {meta.get('date', '?')}, {meta.get('cpu', '?')}{busy})"


Change = tuple[str, float, Entry, Entry, float]


def compared(old: dict[str, Entry], new: dict[str, Entry], only: str) -> Iterator[Change]:
    """Name, new to old value, both entries, and the change that counts."""
    for name, after in new.items():
        before = old.get(name)
        if before is None or only.lower() not in name.lower():
            continue
        value = after.value / before.value
        change = after.ratio / before.ratio if after.ratio and before.ratio else value
        yield name, value, before, after, change


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--only", default="", help="only rows whose name contains this text")
    parser.add_argument("--changed", action="store_true", help="only rows that changed by more than --limit")
    parser.add_argument("--limit", type=float, default=1.25, help="a row above this is reported as slower")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    try:
        (old, old_meta), (new, new_meta) = load(args.old), load(args.new)
    except NotARun as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    rows = list(compared(old, new, args.only))
    if not rows:
        print("the two runs have no row in common", file=sys.stderr)
        return 2
    print(heading("old", args.old, old_meta))
    print(heading("new", args.new, new_meta) + "\n")
    lines = []
    for name, value, before, after, change in rows:
        if args.changed and 1 / args.limit <= change <= args.limit:
            continue
        both = before.ratio and after.ratio
        ratios = [f"{before.ratio:.3f}", f"{after.ratio:.3f}"] if both else ["-", "-"]
        lines.append([name, f"{value:.3f}", *ratios, f"{change:.3f}"])
    if lines:
        print(markdown(["row", "new / old", "old ratio", "new ratio", "change"], lines))
    mean = math.exp(statistics.fmean(math.log(change) for *_, change in rows))
    print(f"\n{len(rows)} rows, geometric mean of the changes {mean:.3f} (below 1 is faster)")
    slower = [(change, name) for name, _, _, _, change in rows if change > args.limit]
    for change, name in sorted(slower, reverse=True):
        print(f"slower: {name}: {change:.2f}")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
