"""The table beside PyTorch: four modules, three sizes, forward and backward, measured in one run.

    make bench            ARGS="--json FILE --record NAME --threads N --device cuda"
    make bench-quick

Each library runs in a process of its own; they take turns (ABAB) and the idle one is blocked on a pipe. Outputs and all
gradients are compared before anything is timed. `forward` runs under no_grad; `backward` is `o.sum().backward()` alone,
with the forward outside the timer, all gradients None before, the input requiring a gradient; the third section is
`o.backward(g)` with a random g. Medians of all samples of all turns.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench import overhead, plot, report
from bench.cases import CASES, DIRECTIONS, Case
from bench.machine import describe, others_cpu_share
from bench.peers import Peer, PeerError, take_turns

ROOT = Path(__file__).resolve().parent.parent
TOLERANCE = 1e-4
NO_TORCH = (
    "PyTorch is not installed, so there is nothing to compare with and only tensorgrad's column follows.\n"
    "To get it: scripts/setup --torch   (or: pip install torch==2.13.0)"
)


def make_data(case: Case, path: Path) -> None:
    """Input, weights and upstream gradient of a case, the same for every library; weights in the range that PyTorch's
    default initialisation gives."""
    rng = np.random.default_rng(sum(case.key.encode()))

    def uniform(*shape: int, bound: float) -> np.ndarray:
        return rng.uniform(-bound, bound, shape).astype(np.float32)

    arrays = {"input": rng.standard_normal(case.shape).astype(np.float32)}
    output = case.shape
    if case.module == "nn.Linear":
        k, m = case.args
        arrays["parameter weight"] = uniform(m, k, bound=k**-0.5)
        arrays["parameter bias"] = uniform(m, bound=k**-0.5)
        output = (case.shape[0], m)
    elif case.module == "nn.Conv2d":
        c, m, k = case.args
        bound = (c * k * k) ** -0.5
        arrays["parameter weight"] = uniform(m, c, k, k, bound=bound)
        arrays["parameter bias"] = uniform(m, bound=bound)
        output = (case.shape[0], m, case.shape[2] - k + 1, case.shape[3] - k + 1)
    elif case.module == "nn.MultiheadAttention":
        d = case.args[0]
        arrays["parameter in_proj_weight"] = uniform(3 * d, d, bound=(6 / (4 * d)) ** 0.5)
        arrays["parameter in_proj_bias"] = uniform(3 * d, bound=0.1)
        arrays["parameter out_proj.weight"] = uniform(d, d, bound=d**-0.5)
        arrays["parameter out_proj.bias"] = uniform(d, bound=0.1)
    arrays["gradient"] = rng.standard_normal(output).astype(np.float32)
    np.savez(path, **arrays)


def disagreement(found: Path, expected: Path) -> tuple[float, str]:
    """The largest |found - expected| relative to the largest |expected|, over the output and every gradient, and where.
    A gradient that is zero but for rounding (softmax under a gradient of ones) counts against 1e-3."""
    a, b = np.load(found), np.load(expected)
    worst, where = 0.0, ""
    if set(a.files) != set(b.files):
        return float("inf"), f"different results: {sorted(set(a.files) ^ set(b.files))}"
    for name in b.files:
        if a[name].shape != b[name].shape:
            return float("inf"), f"{name}: shape {a[name].shape} instead of {b[name].shape}"
        error = np.abs(a[name] - b[name]).max() / max(float(np.abs(b[name]).max()), 1e-3)
        if not error <= worst:  # NaN counts as the worst
            worst, where = float(error), name
    return worst, where


def tolerance(case: Case, device: str) -> float:
    """Convolutions on CUDA multiply in TF32 (ten bits of mantissa) on both sides: PyTorch's default."""
    return 3e-3 if device.startswith("cuda") and case.module == "nn.Conv2d" else TOLERANCE


class Bench:
    def __init__(self, args: argparse.Namespace, peers: list[Peer], bar: Any):
        self.args = args
        self.peers = peers
        self.bar = bar
        self.rounds = 1 if args.quick else args.rounds
        self.seconds = 0.03 if args.quick else args.seconds
        self.settle = 0.05 if args.quick else 0.2
        self.wrong: list[str] = []
        self.scratch = Path(tempfile.mkdtemp(prefix="tensorgrad-bench-"))

    def run_case(self, case: Case) -> list[dict[str, Any]]:
        data = self.scratch / "case.npz"
        make_data(case, data)
        results = {}
        for peer in self.peers:
            results[peer.name] = self.scratch / f"{peer.name.replace(' ', '-')}.npz"
            peer.ask("prepare", case=case.key, data=str(data), result=str(results[peer.name]))
        error, where = 0.0, ""
        if len(self.peers) > 1:
            error, where = disagreement(results["tensorgrad"], results[self.peers[0].name])
            allowed = tolerance(case, self.args.device)
            if not error <= allowed:
                self.wrong.append(f"{case.key}: {where} differs from PyTorch by {error:.2e} (allowed {allowed:g})")
                self.bar.update(len(DIRECTIONS))
                return []
        rows = []
        for direction in DIRECTIONS:
            self.bar.set_description(f"{case.module} {direction}"[:44].ljust(44))
            request = {"do": "measure", "direction": direction, "seconds": self.seconds, "least": 3}
            samples, turns = take_turns(self.peers, self.rounds, self.settle, request)
            times = {name: statistics.median(values) for name, values in samples.items()}
            row = {
                "module": case.module,
                "device": self.args.device,
                "direction": direction,
                "inputs": case.inputs,
                "times": times,
                "samples": {name: len(values) for name, values in samples.items()},
                "turns": turns,
                "error": error,
            }
            reference = report.reference_name(times)
            if reference:
                row["ratio"] = times["tensorgrad"] / times[reference]
            rows.append(row)
            self.bar.update(1)
        return rows


def python_overheads(bench: Bench) -> list[dict[str, Any]]:
    names = [
        "add of 4 elements",
        "add of 4 elements, with gradient",
        "chain of 100 adds and backward, per add",
    ]
    found = []
    for name in names:
        request = {"do": "overhead", "name": name, "seconds": bench.seconds}
        samples, _ = take_turns(bench.peers, bench.rounds, bench.settle, request)
        entry = {"language": "Python", "name": name}
        entry |= {peer: statistics.median(values) for peer, values in samples.items()}
        found.append(entry)
        bench.bar.update(1)
    return found


def make_peers(args: argparse.Namespace, with_torch: bool) -> list[Peer]:
    on_cuda = args.device.startswith("cuda")
    peers = []
    if with_torch:
        if on_cuda:
            peers.append(Peer("torch cuda", "torch", args.device, args.threads))
        peers.append(Peer("torch cpu", "torch", "cpu", args.threads))
    peers.append(Peer("tensorgrad", "tensorgrad", args.device, args.threads))
    return peers


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda where there is one")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--quick", action="store_true", help="one short turn a row; writes no files")
    parser.add_argument("--rounds", type=int, default=4, help="turns of each library a row")
    parser.add_argument("--seconds", type=float, default=0.25, help="length of a turn")
    parser.add_argument("--only", default="", help="only the rows whose module and inputs contain this text")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    parser.add_argument("--record", metavar="NAME", help="keep the figures as bench/history/NAME.json")
    parser.add_argument("--no-overhead", action="store_true", help="leave the operation overheads out")
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    return parser.parse_args(argv)


def measure(args: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    from tqdm import tqdm

    with_torch = importlib.util.find_spec("torch") is not None
    if not with_torch:
        print(NO_TORCH, file=sys.stderr)
    before = others_cpu_share()
    if before > 0.1:
        print(f"bench: other programs use {before:.0%} of this machine; the figures will be wrong", file=sys.stderr)
    cases = [case for case in CASES if args.only.lower() in case.key.lower()]
    with_overhead = not args.no_overhead and not args.only and args.device == "cpu"
    steps = len(cases) * len(DIRECTIONS) + (3 + overhead.ROUNDS if with_overhead else 0)
    with tqdm(total=steps, file=sys.stderr, dynamic_ncols=True, disable=None) as bar:
        bar.set_description("starting")
        peers = make_peers(args, with_torch)
        bench = Bench(args, peers, bar)
        rows = [row for case in cases for row in bench.run_case(case)]
        overheads = python_overheads(bench) if with_overhead else []
        for peer in peers:
            peer.close()
        if with_overhead:
            bar.set_description("operation overhead, C++".ljust(44))
            overheads = overhead.measure(args.build, args.threads, with_torch, args.quick, bar) + overheads
    result = {
        "meta": {
            **describe(args.device),
            "device": args.device,
            "threads": args.threads,
            "versions": {peer.name: peer.info["version"] for peer in peers},
            "settings": {"rounds": bench.rounds, "seconds_per_turn": bench.seconds, "quick": args.quick},
            "others_cpu_share": [round(before, 3), round(others_cpu_share(), 3)],
            "idle_cpu_share": {peer.name: round(peer.worst_idle, 3) for peer in peers},
        },
        "rows": rows,
        "overhead": overheads,
    }
    return result, bench.wrong


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    try:
        result, wrong = measure(args)
    except PeerError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(report.tables(result))
    (ROOT / "bench/history").mkdir(exist_ok=True)
    text = json.dumps(result, indent=1) + "\n"
    if args.json:
        args.json.write_text(text)
    if args.record:
        (ROOT / "bench/history" / f"{args.record}.json").write_text(text)
    if not args.quick and not args.only and not wrong and len(result["meta"]["versions"]) > 1:
        kind = "cuda" if args.device.startswith("cuda") else "cpu"
        (ROOT / f"bench/history/latest-{kind}.json").write_text(text)
        plot.ratios(result, ROOT / f"docs/images/benchmark-{kind}.svg")
        report.write_benchmark_md(ROOT)
        print("written: BENCHMARK.md", file=sys.stderr)
    for line in wrong:
        print(f"WRONG {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
