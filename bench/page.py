"""Writes the measured tables of docs/performance.md from a recorded release point (see bench/record.py).

python -m bench.page bench/history/0.1.0-cpu.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from bench.report import markdown

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/performance.md"


def source(result: dict[str, Any], part: str) -> str:
    meta = result.get("metas", {}).get(part, result["meta"])
    others = max(meta.get("others_cpu_share", [0.0]), default=0.0)
    busy = f" Other programs used {others:.0%} of the machine meanwhile." if others > 0.1 else ""
    return f"{meta['cpu']}, {meta['threads']} threads, commit {meta['commit']}, {meta['date']}.{busy}"


def models(result: dict[str, Any], best: bool) -> str:
    """Milliseconds of tensorgrad, ratios to the others, peak memory; the worst ratio first within each set."""
    key = "best_ms" if best else "ms"

    def ratio(row: dict[str, Any], other: str) -> float | None:
        return row[key]["tensorgrad"] / row[key][other] if other in row[key] else None

    lines = []
    for chosen in dict.fromkeys(row["set"] for row in result["models"]):
        rows = [row for row in result["models"] if row["set"] == chosen]
        for row in sorted(rows, key=lambda row: -(ratio(row, "torch eager") or 0.0)):
            ratios = [ratio(row, other) for other in ("torch eager", "torch.compile")]
            memory = [
                f"{row['peak_mb'][label]:.0f}" if label in row["peak_mb"] else "-"
                for label in ("torch eager", "tensorgrad")
            ]
            cells = ["-" if value is None else f"{value:.2f}" for value in ratios]
            lines.append([f"{chosen}: {row['name']}", f"{row[key]['tensorgrad']:.2f}", *cells, *memory])
    step = "best step" if best else "step"
    header = [f"{step} (inference: pass)", "ms", "to eager", "to torch.compile", "torch, peak MB", "ours, peak MB"]
    return markdown(header, lines)


def families(result: dict[str, Any]) -> str:
    """A line for each family: the median share of the limit on each instruction set, and the case furthest from it on
    the strongest one; the worst family first."""
    levels = list(dict.fromkeys(row["isa"] for row in result["kernels"]))
    lines: list[tuple[float, list[str]]] = []
    for family in dict.fromkeys(row["family"] for row in result["kernels"]):
        rows = [row for row in result["kernels"] if row["family"] == family]
        shares = [statistics.median(row["share"] for row in rows if row["isa"] == isa) for isa in levels]
        furthest = min((row for row in rows if row["isa"] == levels[-1]), key=lambda row: row["share"])
        worst = f"{furthest['kernel']}, {furthest['shape']}: {furthest['share']:.0%} of {furthest['limit']}"
        lines.append((shares[-1], [family, *(f"{share:.0%}" for share in shares), worst]))
    header = ["family, median share of the limit", *levels, f"furthest on {levels[-1]}"]
    return markdown(header, [line for _, line in sorted(lines, key=lambda pair: pair[0])])


def filled(text: str, result: dict[str, Any], best: bool = False) -> str:
    """The page's text with the parts between `<!-- measured: NAME -->` and `<!-- end -->` written anew."""
    for name, table in (("models", lambda result: models(result, best)), ("kernels", families)):
        if name not in result:
            continue
        begin, end = f"<!-- measured: {name} -->", "<!-- end -->"
        before, found, rest = text.partition(begin)
        if not found:
            raise ValueError(f"the page has no line {begin}")
        text = f"{before}{begin}\n\n{source(result, name)}\n\n{table(result)}\n\n{end}{rest.partition(end)[2]}"
    return text


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("point", type=Path)
    parser.add_argument("--best", action="store_true", help="a step's best time, not its median (a busy machine)")
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args(argv)
    args.page.write_text(filled(args.page.read_text(), json.loads(args.point.read_text()), args.best))
    return 0


if __name__ == "__main__":
    sys.exit(main())
