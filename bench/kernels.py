"""Every family of CPU kernels, on every instruction set of this machine: GFLOP/s or GB/s, and the share of the limit.

    make bench-kernels                                     all of them, on baseline x86-64, AVX2 and AVX-512
    make bench-kernels ARGS="softmax --isa avx512"
    make bench-kernels ARGS="--worst 10"                   the ten that are furthest from their limit
    make bench-kernels ARGS="--json FILE"                  every figure; `python -m bench.compare` compares two

The limits are measured in the same process, with all threads: multiply-adds in registers with the same instruction set
(float32, float64) in turns with each kernel that is held against them, the low quartile of both; a copy and a sum of
128 MiB, or for arrays of at most 4 MiB together of each core's second-level cache, before the cases and after them (the
larger counts). Arrays count once as bytes, whether the kernel reads them
once or twice; convolutions count the direct algorithm's operations, so that Winograd's may pass 100 %. No operation, no
allocation and no gradient graph is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.machine import describe, others_cpu_share
from bench.report import markdown

ROOT = Path(__file__).resolve().parent.parent


def run(program: Path, isa: str, threads: int, *arguments: str) -> Iterator[list[str]]:
    """The lines of the program on an instruction set, as lists of fields, while it runs."""
    environment = {**os.environ, "TENSORGRAD_ISA": isa, "TENSORGRAD_NUM_THREADS": str(threads)}
    with subprocess.Popen([str(program), *arguments], stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout
        for line in process.stdout:
            yield line.rstrip("\n").split("\t")
    if process.returncode != 0:
        raise RuntimeError(f"{program.name} ended with {process.returncode} on {isa}")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    from tqdm import tqdm

    program = args.build / "bench/bench_kernels"
    levels = [fields[0] for fields in run(program, "baseline", 1, "--levels")]
    chosen = [level for level in levels if not args.isa or level in args.isa]
    count = sum(1 for _ in run(program, "baseline", 1, "--list", "--only", args.only))
    before = others_cpu_share()
    if before > 0.1:
        print(f"bench: other programs use {before:.0%} of this machine; the figures will be wrong", file=sys.stderr)
    rows: list[dict[str, Any]] = []
    limits: dict[str, dict[str, float]] = {}
    with tqdm(total=count * len(chosen), file=sys.stderr, dynamic_ncols=True, disable=None) as bar:
        for isa in chosen:
            for fields in run(program, isa, args.threads, "--seconds", str(args.seconds), "--only", args.only):
                if fields[0] == "limit":
                    found = limits.setdefault(isa, {})
                    found[fields[1]] = max(found.get(fields[1], 0.0), float(fields[2]))
                    continue
                family, kernel, shape, limit = fields[:4]
                row = {"family": family, "kernel": kernel, "shape": shape, "isa": isa, "limit": limit}
                rows.append({**row, "rate": float(fields[4]), "us": float(fields[5]), "beside": float(fields[6])})
                bar.set_description(f"{isa} {family} {kernel}"[:44].ljust(44))
                bar.update(1)
    for row in rows:
        row["share"] = row["rate"] / (row.pop("beside") or limits[row["isa"]][row["limit"]])
    meta = describe("cpu") | {"threads": args.threads, "others_cpu_share": [before, others_cpu_share()]}
    return {"meta": meta, "limits": limits, "kernels": rows}


def unit(row: dict[str, Any]) -> str:
    return "GFLOP/s" if "peak" in row["limit"] else "GB/s"


def tables(result: dict[str, Any]) -> str:
    """A table for each family: a line for each kernel and shape, a column for each instruction set."""
    levels = list(result["limits"])
    parts = []
    for isa, limits in result["limits"].items():
        values = (f"{name} {value / 1e9:.0f} {unit({'limit': name})}" for name, value in limits.items())
        parts.append(f"{isa}: {', '.join(values)}")
    for family in dict.fromkeys(row["family"] for row in result["kernels"]):
        found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
        for row in result["kernels"]:
            if row["family"] == family:
                found.setdefault((row["kernel"], row["shape"]), {})[row["isa"]] = row
        lines = []
        for (kernel, shape), by_isa in found.items():
            line = [f"{kernel}, {shape}", unit(next(iter(by_isa.values())))]
            for isa in levels:
                row = by_isa.get(isa)
                line += [f"{row['rate'] / 1e9:.1f}", f"{row['share']:.0%}"] if row else ["-", "-"]
            lines.append(line)
        header = [family, ""]
        for isa in levels:
            header += [isa, "share"]
        parts.append(markdown(header, lines))
    return "\n\n".join(parts)


def worst(result: dict[str, Any], count: int) -> str:
    rows = sorted(result["kernels"], key=lambda row: row["share"])[:count]
    lines = [
        [
            f"{row['family']}: {row['kernel']}, {row['shape']}",
            row["isa"],
            f"{row['us']:.1f}",
            f"{row['rate'] / 1e9:.1f} {unit(row)}",
            f"{row['share']:.0%} of {row['limit']}",
        ]
        for row in rows
    ]
    return markdown(["furthest from its limit", "", "microseconds", "rate", "share"], lines)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench-kernels", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("only", nargs="?", default="", help="only cases whose family, kernel and shape have this text")
    parser.add_argument("--isa", action="append", choices=["baseline", "avx2", "avx512"], help="may be given twice")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=0.15, help="for each case and instruction set")
    parser.add_argument("--worst", type=int, metavar="N", help="only the N cases with the smallest share")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    if not (args.build / "bench/bench_kernels").exists():
        print(f"bench: {args.build}/bench/bench_kernels is not built (make build)", file=sys.stderr)
        return 1
    result = measure(args)
    print(worst(result, args.worst) if args.worst else tables(result))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
