"""Whole models in tensorgrad, PyTorch eager and torch.compile, each in a process of its own, taking turns.

    make bench-models                                          five training steps
    make bench-models ARGS="--set shapes --only gpt"           other sizes, dropout, a loop of small operations
    make bench-models ARGS="--set inference --no-compile"      forward passes under no_grad
    make bench-models ARGS="--set epochs"                      an epoch fed by a DataLoader
    make bench-models ARGS="--json FILE"                       every figure; `python -m bench.compare` compares two

The models are written once (bench/zoo.py), for whatever library is passed in, and start from the same weights. Before
anything is timed, the output and every gradient of a step in float64 are compared, and the losses of five steps (or the
output) of what is timed, in float32. A step is timed from zero_grad to the end of optimizer.step (AdamW with each
library's defaults); torch.compile gets the model together with its loss. Peak resident memory is that of the process,
so it includes the library itself.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.machine import describe, others_cpu_share
from bench.peers import Peer, PeerError, take_turns
from bench.report import markdown
from bench.table import disagreement
from bench.zoo import SETS

KINDS = [("torch eager", "torch", False), ("torch.compile", "torch", True), ("tensorgrad", "tensorgrad", False)]
# Of the losses and outputs, in float32: rounding grows on its way through a deep network, and Adam divides by it.
TOLERANCE = 2e-3
EXACT_TOLERANCE = 1e-7  # of outputs and gradients in float64


def check(peers: list[Peer], scratch: Path, exact: bool) -> None:
    """Compares what every library computes with the first one's; PeerError says what differs."""
    results = []
    for peer in peers:
        results.append(scratch / f"{peer.name.replace(' ', '-')}.npz")
        peer.ask("check_model", weights=str(scratch / "weights.npz"), result=str(results[-1]), exact=exact)
    allowed = EXACT_TOLERANCE if exact else TOLERANCE
    for peer, result in zip(peers[1:], results[1:]):
        error, where = disagreement(result, results[0])
        if not error <= allowed:
            what = f"{where} in float64" if exact else where
            raise PeerError(f"{peer.name}: {what} differs from {peers[0].name} by {error:.2e} (allowed {allowed:g})")


@contextmanager
def processes(args: argparse.Namespace, name: str, kinds: list[tuple[str, str, bool]]) -> Iterator[list[Peer]]:
    """A fresh process of each library for one program, so that peak memory is the program's own."""
    peers: list[Peer] = []
    try:
        for label, library, compiled in kinds:
            peers.append(Peer(label, library, "cpu", args.threads))
            peers[-1].ask("model", chosen=args.set, name=name, compiled=compiled)
        yield peers
    finally:
        for peer in peers:
            peer.close()


def run_model(name: str, args: argparse.Namespace, kinds: list[tuple[str, str, bool]]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="tensorgrad-bench-") as folder:
        scratch = Path(folder)
        plain = [kind for kind in kinds if not kind[2]]
        if len(plain) > 1:
            with processes(args, name, plain) as peers:
                check(peers, scratch, exact=True)
        with processes(args, name, kinds) as peers:
            check(peers, scratch, exact=False)
            request = {"do": "measure_model", "seconds": args.seconds, "least": 3}
            samples, _ = take_turns(peers, args.rounds, 0.2, request)
            memory = {peer.name: peer.ask("peak_memory")["megabytes"] for peer in peers}
    return {
        "name": name,
        "ms": {label: statistics.median(values) * 1e3 for label, values in samples.items()},
        "best_ms": {label: min(values) * 1e3 for label, values in samples.items()},
        "peak_mb": memory,
    }


def table(rows: list[dict[str, Any]], labels: list[str], statistic: str = "ms") -> str:
    header = ["milliseconds", *labels]
    others = [label for label in labels if label != "tensorgrad"]
    header += [f"ratio to {label}" for label in others] + [f"{label}, peak MB" for label in labels]
    lines = []
    for row in rows:
        ms, peak = row[statistic], row["peak_mb"]
        line = [row["name"], *(f"{ms[label]:.3f}" for label in labels)]
        line += [f"{ms['tensorgrad'] / ms[label]:.3f}" for label in others]
        lines.append(line + [f"{peak[label]:.0f}" for label in labels])
    return markdown(header, lines)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="steps", choices=list(SETS), help="which programs (default: steps)")
    parser.add_argument("--only", default="", help="only the programs whose name contains this text")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3, help="turns of each library a program")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a turn")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out (it compiles for a minute)")
    parser.add_argument("--no-torch", action="store_true", help="tensorgrad alone")
    parser.add_argument("--best", action="store_true", help="show the best step instead of the median (a busy machine)")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    from tqdm import tqdm

    kinds = [kind for kind in KINDS if not (args.no_torch and kind[1] == "torch")]
    if args.no_compile:
        kinds = [kind for kind in kinds if not kind[2]]
    before = others_cpu_share()
    if before > 0.1:
        print(f"bench: other programs use {before:.0%} of this machine; the figures will be wrong", file=sys.stderr)
    rows, failed = [], False
    chosen = [program.name for program in SETS[args.set] if args.only.lower() in program.name.lower()]
    with tqdm(chosen, file=sys.stderr, dynamic_ncols=True, disable=None) as bar:
        for name in bar:
            bar.set_description(name[:44].ljust(44))
            try:
                rows.append({"set": args.set, **run_model(name, args, kinds)})
            except PeerError as error:
                print(f"bench: {name}: {error}", file=sys.stderr)
                failed = True
    print(table(rows, [label for label, _, _ in kinds], "best_ms" if args.best else "ms"))
    if args.json:
        meta = describe("cpu") | {"threads": args.threads, "others_cpu_share": [before, others_cpu_share()]}
        args.json.write_text(json.dumps({"meta": meta, "models": rows}, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
