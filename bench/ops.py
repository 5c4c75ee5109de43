"""Every operation outside products, convolution and attention beside PyTorch, over many shapes, the worst ratio first.

    make bench-ops        ARGS="--only softmax --json FILE --above 0.9"
    make bench-ops        ARGS="--device cuda"      # on a card: a sample ends when the device is ready

Each library runs in a process of its own; they take turns and the idle one is blocked on a pipe. Results and gradients
are compared before a case is timed. `forward` runs under no_grad, `backward` is `o.backward(g)` with a random g, the
forward outside the timer. A fast call is repeated until a sample takes some tens of microseconds. Medians of all
samples (--quantile 0.1 on a busy machine: whoever is interrupted in a parallel loop loses a time slice).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import re
import statistics
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import describe, others_cpu_share
from bench.ops_kit import OpCase
from bench.peers import Peer, PeerError, take_turns, until_stopped
from bench.report import markdown


def all_cases(device: str = "cpu") -> list[OpCase]:
    import bench.ops_layers  # noqa: F401  (registers its cases)
    from bench.ops_cases import CASES

    if device != "cpu":
        import bench.ops_half  # noqa: F401

    return CASES


def disagreement(ours: list[Any], theirs: list[Any], tolerance: float) -> str:
    """What differs between the sampled results, or an empty text."""
    if len(ours) != len(theirs):
        return f"{len(ours)} results instead of {len(theirs)}"
    for place, ((shape, dtype, a), (their_shape, their_dtype, b)) in enumerate(zip(ours, theirs)):
        if shape != their_shape or dtype != their_dtype:
            return f"result {place}: {dtype}{shape} instead of {their_dtype}{their_shape}"
        x, y = [float(v) for v in a], [float(v) for v in b]
        scale = max((abs(v) for v in y if math.isfinite(v)), default=0.0)
        for found, expected in zip(x, y):
            same = found == expected or (found != found and expected != expected)
            if not same and not abs(found - expected) <= tolerance * max(scale, 1e-3):
                return f"result {place}: {found} instead of {expected}"
    return ""


class Sweep:
    def __init__(self, args: argparse.Namespace, peers: list[Peer]):
        self.args = args
        self.peers = peers
        self.pool = ThreadPoolExecutor(len(peers))  # to wait for all at once: nothing is timed while they prepare
        self.wrong: list[str] = []

    def run_case(self, case: OpCase) -> list[dict[str, Any]]:
        try:
            answers = self.pool.map(lambda peer: peer.ask("prepare_op", key=case.key)["samples"], self.peers)
            found = dict(zip([peer.name for peer in self.peers], answers))
        except PeerError as error:
            self.wrong.append(f"{case.key}: {str(error)[:300]}")
            return []
        if len(self.peers) > 1:
            difference = disagreement(found["tensorgrad"], found[self.peers[0].name], case.tolerance)
            if difference:
                self.wrong.append(f"{case.key}: {difference}")
                return []
        rows = []
        for direction in ("forward", "backward") if case.backward else ("forward",):
            request = {"do": "measure_op", "direction": direction, "seconds": self.args.seconds, "least": 3}
            samples, _ = take_turns(self.peers, self.args.rounds, self.args.settle, request)
            times = {name: float(np.quantile(values, self.args.quantile)) for name, values in samples.items()}
            row = {"module": case.family, "inputs": case.name, "direction": direction, "times": times}
            if len(self.peers) > 1:
                row["ratio"] = times["tensorgrad"] / times[self.peers[0].name]
            rows.append(row)
        return rows


def tables(rows: list[dict[str, Any]], above: float) -> str:
    """The rows above a ratio, the worst first, and a summary of each family."""
    names = list(rows[0]["times"])
    ordered = sorted(rows, key=lambda row: -row.get("ratio", 0.0))
    lines = [
        [f"{row['module']}: {row['inputs']}, {row['direction']}", *(f"{row['times'][n] * 1e6:.2f}" for n in names),
         f"{row['ratio']:.3f}" if "ratio" in row else "-"]
        for row in ordered if row.get("ratio", math.inf) >= above
    ]  # fmt: skip
    text = markdown(["case", *(f"{name}, us" for name in names), "ratio"], lines)
    families: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if "ratio" in row:
            families[row["module"]].append(row["ratio"])
    summary = [
        [name, str(len(r)), f"{math.exp(statistics.fmean(map(math.log, r))):.3f}", f"{max(r):.3f}",
         str(sum(v > 1 for v in r))]
        for name, r in families.items()
    ]  # fmt: skip
    if summary:
        text += "\n\n" + markdown(["family", "rows", "geometric mean", "worst", "above 1.0"], summary)
    return text


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", default="cpu", help="cpu, or cuda where there is one")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each library a row")
    parser.add_argument("--seconds", type=float, default=0.02, help="length of a turn")
    parser.add_argument("--settle", type=float, default=0.01, help="pause before a turn")
    parser.add_argument("--quantile", type=float, default=0.5, help="of the samples; lower on a busy machine")
    parser.add_argument("--only", default="", help="only the cases that match this regular expression")
    parser.add_argument(
        "--again", type=Path, nargs="+", help="only the cases that these recorded runs have above --above"
    )
    parser.add_argument("--above", type=float, default=0.0, help="print only the rows above this ratio")
    parser.add_argument("--alone", action="store_true", help="tensorgrad alone, for instance with --threads 1")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    cases = [case for case in all_cases(args.device) if re.search(args.only, case.key)]
    if args.again:
        recorded = [row for path in args.again for row in json.loads(path.read_text())["rows"]]
        slow = {f"{row['module']}: {row['inputs']}" for row in recorded if row.get("ratio", math.inf) >= args.above}
        cases = [case for case in cases if case.key in slow]
    before = others_cpu_share()
    if before > 0.1:
        print(f"bench: other programs use {before:.0%} of this machine; the figures will be wrong", file=sys.stderr)
    with_torch = importlib.util.find_spec("torch") is not None and not args.alone
    peers = [Peer(f"torch {args.device}", "torch", args.device, args.threads)] if with_torch else []
    peers.append(Peer("tensorgrad", "tensorgrad", args.device, args.threads))
    sweep = Sweep(args, peers)
    rows: list[Any] = []
    until_stopped(cases, lambda case: rows.extend(sweep.run_case(case)))
    for peer in peers:
        peer.close()
    if rows:
        print(tables(rows, 0.0 if args.again else args.above))
    meta = {**describe(args.device), "threads": args.threads, "others_cpu_share": [before, others_cpu_share()]}
    if args.json:
        args.json.write_text(json.dumps({"meta": meta, "rows": rows, "overhead": []}, indent=1) + "\n")
    for line in sweep.wrong:
        print(f"WRONG {line}", file=sys.stderr)
    return 1 if sweep.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
