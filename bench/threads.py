"""What the threads of the library cost and gain: three questions, each with a figure.

    python -m bench.threads loops       operations that get slower when they may use all cores (ARGS: --only TEXT)
    python -m bench.threads neighbour   a product of 1024 x 1024 matrices while another program keeps one core busy
    python -m bench.threads idle        CPU time used once the work is done: workers spin for 0.15 ms, then park

`loops` times every case of the operation sweep and some hundred matrix products in one process with one thread and with
all in turns, and compares the low quartiles. `neighbour` divides the time by what it would be if the product got the
share of the cores that independent threads get beside the same neighbour.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import others_cpu_share
from bench.products import time_calls
from bench.report import markdown

ROOT = Path(__file__).resolve().parent.parent


def program(build: Path, *arguments: str) -> dict[str, Any]:
    """What bench_threads prints."""
    path = build / "bench/bench_threads"
    if not path.exists():
        sys.exit(f"bench: {path} is not built (make build)")
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def operations(library: Any, only: str) -> list[tuple[str, Callable[[], Callable[[], Any]]]]:
    """Names, and what makes the call: the operands of one case exist at a time."""
    from bench.ops import all_cases
    from bench.ops_kit import OpRun
    from bench.products import Product, draw, label

    found: list[tuple[str, Callable[[], Callable[[], Any]]]] = []
    for case in all_cases():
        found.append((case.key, lambda case=case: OpRun(library, case).forward))  # type: ignore[misc]
    rng = random.Random(3)
    for _ in range(200):
        spec = draw(rng, "float32")
        found.append((f"product: {label(spec)}", lambda spec=spec: Product(library, spec).call))  # type: ignore[misc]
    return [(name, make) for name, make in found if re.search(only, name)]


def loops(args: argparse.Namespace) -> int:
    import tensorgrad
    from tqdm import tqdm

    most = args.threads
    cases = operations(tensorgrad, args.only)
    rows = []
    with tensorgrad.no_grad():
        for name, make in tqdm(cases, file=sys.stderr, disable=None):
            call = make()
            samples: dict[int, list[float]] = {1: [], most: []}
            for _ in range(args.rounds):
                for threads in samples:
                    tensorgrad.set_num_threads(threads)
                    samples[threads] += time_calls(call, args.seconds)
            one, many = (float(np.quantile(values, 0.25)) for values in samples.values())
            rows.append((many / one, one, many, name))
    rows.sort(reverse=True)
    lost = [row for row in rows if row[0] > args.above]
    lines = [[name, f"{one * 1e6:.2f}", f"{many * 1e6:.2f}", f"{ratio:.2f}"] for ratio, one, many, name in lost]
    print(markdown(["slower with all cores", "1 thread, us", f"{most} threads, us", "ratio"], lines))
    mean = math.exp(statistics.fmean(math.log(row[0]) for row in rows))
    print(f"\n{len(rows)} cases, {len(lost)} above {args.above}, geometric mean of the ratio {mean:.3f}")
    return 0


def neighbour(args: argparse.Namespace) -> int:
    found = program(args.build, "neighbour", str(args.seconds * 100))
    alone, beside, share = found["alone_ms"], found["beside_mean_ms"], found["share"]
    print(f"1024 x 1024 x 1024 on {found['threads']} threads: {alone:.2f} ms alone; with a neighbour on one core")
    print(f"{found['beside_median_ms']:.2f} ms median, {beside:.2f} ms mean. Independent threads keep {share:.0%} of")
    print(f"their speed beside it, which would be {alone / share:.2f} ms: {beside * share / alone:.2f} times that.")
    return 0


def idle(args: argparse.Namespace) -> int:
    found = program(args.build, "idle")
    used = found["used_us"]
    print(f"{found['threads']} threads, from 1 to 51 ms after a product: {used:.0f} us of CPU time, the median of 20.")
    return 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=["loops", "neighbour", "idle"])
    parser.add_argument("--only", default="", help="loops: only the cases that match this regular expression")
    parser.add_argument("--above", type=float, default=1.1, help="loops: print the cases above this ratio")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3, help="loops: turns of each number of threads")
    parser.add_argument("--seconds", type=float, default=0.02, help="length of a turn; neighbour: a hundredth of all")
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    args = parser.parse_args(argv)
    if (others := others_cpu_share()) > 0.1:
        print(f"bench: other programs use {others:.0%} of this machine; the figures will be wrong", file=sys.stderr)
    return {"loops": loops, "neighbour": neighbour, "idle": idle}[args.question](args)


if __name__ == "__main__":
    sys.exit(main())
