"""Keeps a release point: merges the files of the benchmarks into one, bench/history/NAME.json.

    make bench && make bench-models ARGS="--json models.json" && make bench-kernels ARGS="--json kernels.json"
    make bench-record ARGS="0.1.0-cpu bench/history/latest-cpu.json models.json kernels.json"

`make bench-compare` compares two of them. A later file's rows of a kind that an earlier one has are added to its rows
(the sets of bench-models, say); two rows of one name are an error.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from bench.compare import NotARun, load

ROOT = Path(__file__).resolve().parent.parent
LISTS = ("rows", "overhead", "models", "kernels")


def merge(paths: list[Path]) -> dict[str, Any]:
    """One result of all files. `meta` is the first file's; `metas` has for each kind of rows that of its first file."""
    merged: dict[str, Any] = {"meta": None, "metas": {}}
    seen: dict[str, Path] = {}
    for path in paths:
        entries, meta = load(path)
        for name in entries:
            if name in seen:
                raise NotARun(f"{path} and {seen[name]} both have the row {name!r}")
            seen[name] = path
        result = json.loads(path.read_text())
        merged["meta"] = merged["meta"] or meta
        for key in LISTS:
            if result.get(key):
                merged["metas"].setdefault(key, meta)
                merged.setdefault(key, []).extend(result[key])
        if "limits" in result:
            merged["limits"] = result["limits"]
    return merged


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the release point and its machine, as 0.1.0-cpu")
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--to", type=Path, default=ROOT / "bench/history", help="the folder (default: bench/history)")
    args = parser.parse_args(argv)
    try:
        merged = merge(args.files)
    except NotARun as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    path = args.to / f"{args.name}.json"
    path.write_text(json.dumps(merged, indent=1) + "\n")
    print(f"written: {path}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
