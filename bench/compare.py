"""Two recorded runs as ratios, new to old: python -m bench.compare bench/history/A.json bench/history/B.json

A run on another machine has other absolute times, so the ratios to PyTorch within each run are compared beside the
times. Ends with 1 if a row became slower than --limit times (of its ratio to PyTorch, or of its time where the run had
no PyTorch).
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from pathlib import Path
from typing import Any

from bench.report import markdown


def load(path: Path) -> dict[str, dict[str, Any]]:
    result = json.loads(path.read_text())
    found = {f"{row['module']} {row['inputs']}, {row['direction']}": row for row in result["rows"]}
    for entry in result["overhead"]:
        row = {"times": {name: entry[name] * 1e-9 for name in ("torch cpu", "tensorgrad") if name in entry}}
        if len(row["times"]) == 2:
            row["ratio"] = row["times"]["tensorgrad"] / row["times"]["torch cpu"]
        found[f"{entry['language']}: {entry['name']}"] = row
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--limit", type=float, default=1.25, help="a row above this is reported as slower")
    args = parser.parse_args(argv)
    old, new = load(args.old), load(args.new)
    lines, slower, changes = [], [], []
    for name, row in new.items():
        if name not in old:
            continue
        before = old[name]
        time = row["times"]["tensorgrad"] / before["times"]["tensorgrad"]
        both = "ratio" in row and "ratio" in before
        change = row["ratio"] / before["ratio"] if both else time
        changes.append(change)
        if change > args.limit:
            slower.append(f"{name}: {change:.2f}")
        ratios = [f"{before['ratio']:.3f}", f"{row['ratio']:.3f}"] if both else ["-", "-"]
        lines.append([name, f"{time:.3f}", *ratios, f"{change:.3f}"])
    if not lines:
        print("the two runs have no row in common", file=sys.stderr)
        return 2
    print(markdown(["row", "time new / old", "old ratio to torch", "new ratio to torch", "change"], lines))
    mean = math.exp(statistics.fmean(math.log(change) for change in changes))
    print(f"\n{len(lines)} rows, geometric mean of the changes {mean:.3f} (below 1 is faster)")
    for line in slower:
        print(f"slower: {line}")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
