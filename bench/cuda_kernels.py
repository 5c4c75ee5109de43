"""Kernels that the memory or the arithmetic units bound, on large tensors, beside PyTorch on the same card.

    python -m bench.cuda_kernels --json FILE [--only matmul]

Memory: GB/s of the bytes that the operation must move (each input read once, each output written once), also as a share
of the bandwidth of a device-to-device copy measured in the same process. Arithmetic: TFLOP/s. Times are of the device
(events around a run of calls, the median of several runs). Each library runs in a process of its own, in turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.machine import describe
from bench.peers import Peer, take_turns

FLOATS = 64 * 1024 * 1024  # 256 MiB of float32


def timed(lib: Any, body: Callable[[], Any], calls: int, runs: int) -> list[float]:
    """Seconds of one call on the device, of each run of some calls."""
    start, end = lib.cuda.Event(enable_timing=True), lib.cuda.Event(enable_timing=True)
    body()
    body()
    found = []
    for _ in range(runs):
        start.record()
        for _ in range(calls):
            body()
        end.record()
        end.synchronize()
        found.append(start.elapsed_time(end) / 1e3 / calls)
    return found


def memory_cases(lib: Any) -> list[tuple[str, float, Callable[[], Any]]]:
    """name, tensors of 256 MiB that must be read or written, the call."""
    functional = lib.nn.functional
    cases: list[tuple[str, float, Callable[[], Any]]] = []
    source = lib.randn(FLOATS, device="cuda")
    target = lib.empty_like(source)
    cases.append(("copy", 2, lambda: target.copy_(source)))
    for columns in (1024, 4096, 16384):
        x = source.reshape(FLOATS // columns, columns)
        g = target.reshape(FLOATS // columns, columns)
        weight, bias = lib.ones(columns, device="cuda"), lib.zeros(columns, device="cuda")

        def backward_of(forward: Callable[[Any], Any], leaf: Any, g: Any = g, more: tuple[Any, ...] = ()) -> Any:
            out = forward(leaf)
            return lambda: lib.autograd.grad(out, (leaf, *more), g, retain_graph=True)

        def softmax(x: Any) -> Any:
            return lib.softmax(x, -1)

        def norm(x: Any, columns: int = columns, weight: Any = weight, bias: Any = bias) -> Any:
            return functional.layer_norm(x, (columns,), weight, bias)

        leaf = x.detach().requires_grad_()
        cases.append((f"softmax {columns} forward", 2, lambda x=x, f=softmax: f(x)))
        cases.append((f"softmax {columns} backward", 3, backward_of(softmax, leaf)))
        cases.append((f"layer_norm {columns} forward", 2, lambda x=x, f=norm: f(x)))
        weight.requires_grad_()
        bias.requires_grad_()
        cases.append((f"layer_norm {columns} backward", 3, backward_of(norm, leaf, more=(weight, bias))))
    leaf = source.detach().requires_grad_()
    out = functional.gelu(leaf)
    cases.append(("gelu forward", 2, lambda: functional.gelu(source)))
    cases.append(("gelu backward", 3, lambda: lib.autograd.grad(out, leaf, target, retain_graph=True)))
    cases.append(("add forward", 3, lambda: source + target))
    added = leaf + target
    cases.append(("add backward", 0, lambda: lib.autograd.grad(added, leaf, target, retain_graph=True)))
    cases.append(("sum of all", 1, lambda: source.sum()))
    return cases


def matmul_cases(lib: Any) -> list[tuple[str, float, Callable[[], Any]]]:
    """name, floating-point operations, the call."""
    cases: list[tuple[str, float, Callable[[], Any]]] = []

    def product(a: Any, b: Any, tf32: bool) -> Any:
        lib.backends.cuda.matmul.allow_tf32 = tf32
        return lib.matmul(a, b)

    for n in (4096, 8192):
        a, b = lib.randn(n, n, device="cuda"), lib.randn(n, n, device="cuda")
        cases.append((f"matmul {n} float32", 2.0 * n**3, lambda a=a, b=b: product(a, b, False)))
        cases.append((f"matmul {n} TF32", 2.0 * n**3, lambda a=a, b=b: product(a, b, True)))
        a16, b16 = a.to(lib.bfloat16), b.to(lib.bfloat16)
        cases.append((f"matmul {n} bfloat16", 2.0 * n**3, lambda a=a16, b=b16: product(a, b, False)))
    return cases


KINDS = {"memory": memory_cases, "matmul": matmul_cases}


class Prepared:
    """The cases of one kind in one library, ready to run (bench/worker.py)."""

    def __init__(self, lib: Any, kind: str):
        self.lib = lib
        self.calls = 3 if kind == "matmul" else 10
        lib.manual_seed(0)
        with lib.enable_grad():
            self.cases = {name: (work, body) for name, work, body in KINDS[kind](lib)}

    def work(self) -> dict[str, float]:
        return {name: work for name, (work, _) in self.cases.items()}

    def measure(self, name: str, runs: int) -> list[float]:
        with self.lib.enable_grad() if "backward" in name else self.lib.no_grad():
            return timed(self.lib, self.cases[name][1], self.calls, runs)


def measure(peers: list[Peer], kind: str, rounds: int) -> dict[str, dict[str, Any]]:
    """Seconds and work of each case in each library, which take turns: a card slows down while it is warm."""
    work = {peer.name: peer.ask("device_cases", kind=kind)["work"] for peer in peers}
    found: dict[str, dict[str, Any]] = {peer.name: {} for peer in peers}
    for name in work[peers[0].name]:
        samples, _ = take_turns(peers, rounds, 0.0, {"do": "measure_device_case", "name": name, "runs": 3})
        for peer in peers:
            found[peer.name][name] = {"seconds": statistics.median(samples[peer.name]), "work": work[peer.name][name]}
    return found


def report(results: dict[str, dict[str, Any]]) -> list[str]:
    lines = []
    ours, theirs = results["tensorgrad"], results.get("torch")
    copy = ours["memory"].get("copy", {}).get("seconds")
    copy_rate = 2 * 4 * FLOATS / copy if copy else 0.0
    if theirs and theirs["memory"]:
        copy_rate = max(copy_rate, 2 * 4 * FLOATS / theirs["memory"]["copy"]["seconds"])
    for name, entry in ours["memory"].items():
        rate = entry["work"] * 4 * FLOATS / entry["seconds"]
        entry["share_of_copy"] = rate / copy_rate
        line = f"{name:28} {rate / 1e9:7.0f} GB/s  {rate / copy_rate:6.1%} of the copy"
        if theirs:
            entry["ratio"] = entry["seconds"] / theirs["memory"][name]["seconds"]
            line += f"   time {entry['ratio']:.3f} of PyTorch's"
        lines.append(line)
    for name, entry in ours["matmul"].items():
        line = f"{name:28} {entry['work'] / entry['seconds'] / 1e12:7.1f} TFLOP/s"
        if theirs:
            entry["rate_ratio"] = theirs["matmul"][name]["seconds"] / entry["seconds"]
            line += f"   rate {entry['rate_ratio']:.3f} of PyTorch's"
        lines.append(line)
    return lines


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="memory or matmul")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each library a case")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--libraries", default="torch,tensorgrad")
    args = parser.parse_args(argv)
    results: dict[str, dict[str, Any]] = {}
    for kind in KINDS:
        peers = [Peer(name, name, "cuda", 2) for name in args.libraries.split(",")]  # new ones: with all memory free
        found = measure(peers, kind, args.rounds) if args.only in kind else {}
        for peer in peers:
            results.setdefault(peer.name, {"version": peer.info["version"]})[kind] = found.get(peer.name, {})
            peer.close()
    for line in report(results):
        print(line)
    if args.json:
        args.json.write_text(json.dumps({"meta": describe("cuda"), **results}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
