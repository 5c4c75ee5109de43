"""The rows of the table as CUDA graphs: forward, and forward with backward, captured once and replayed, beside
PyTorch's own CUDA graphs on the same card.

    python -m bench.cuda_graphs --json FILE

Each library runs in a process of its own, in turns. A replay is timed from its call to the end of a synchronise.
Gradients of every replay land in the same tensors on both sides (`.grad` is None when the capture begins).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.cases import CASES
from bench.machine import describe
from bench.peers import Peer, PeerError, take_turns
from bench.table import disagreement, make_data, tolerance

PARTS = ["forward", "forward and backward"]


def run(args: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    peers = [Peer("torch cuda", "torch", args.device, 2), Peer("tensorgrad", "tensorgrad", args.device, 2)]
    rows, wrong = [], []
    scratch = Path(tempfile.mkdtemp(prefix="tensorgrad-graphs-"))
    for case in (case for case in CASES if args.only.lower() in case.key.lower()):
        data = scratch / "case.npz"
        make_data(case, data)
        for part in PARTS:
            results = {}
            for peer in peers:
                peer.ask("prepare", case=case.key, data=str(data), result=str(scratch / "unused.npz"))
                results[peer.name] = scratch / f"{peer.name.replace(' ', '-')}.npz"
                peer.ask("capture", part=part, result=str(results[peer.name]))
            error, where = disagreement(results["tensorgrad"], results["torch cuda"])
            if not error <= tolerance(case, args.device):
                wrong.append(f"{case.key} {part}: {where} differs from PyTorch by {error:.2e}")
                continue
            request = {"do": "measure_replay", "seconds": args.seconds, "least": 3}
            samples, _ = take_turns(peers, args.rounds, 0.02, request)
            times = {name: statistics.median(values) for name, values in samples.items()}
            ratio = times["tensorgrad"] / times["torch cuda"]
            rows.append({"module": case.module, "inputs": case.inputs, "part": part, "times": times, "ratio": ratio})
            print(
                f"{case.module:22} {case.inputs:42} {part:22} torch {times['torch cuda'] * 1e6:8.1f}  "
                f"tensorgrad {times['tensorgrad'] * 1e6:8.1f} us  {ratio:.3f}",
                flush=True,
            )
    for peer in peers:
        peer.close()
    versions = {peer.name: peer.info["version"] for peer in peers}
    return {"meta": {**describe(args.device), "versions": versions}, "rows": rows}, wrong


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each library a row")
    parser.add_argument("--seconds", type=float, default=0.1, help="length of a turn")
    parser.add_argument("--only", default="", help="only the rows whose module and inputs contain this text")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    args = parser.parse_args(argv)
    try:
        result, wrong = run(args)
    except PeerError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    for line in wrong:
        print(f"WRONG {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
