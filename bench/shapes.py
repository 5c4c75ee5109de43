"""Convolution and attention over some hundred and fifty shapes beside PyTorch, the worst ratio first.

    make bench-shapes     ARGS="--only mobilenet --json FILE --worse 1.0"
    make bench-shapes     ARGS="--device cuda --dtype bfloat16"

Each library runs in a process of its own; they take turns. The result and every gradient (for a random upstream
gradient, all inputs and parameters requiring one) are compared before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import describe
from bench.peers import Peer, PeerError, take_turns, until_stopped
from bench.report import markdown
from bench.shape_list import SHAPES, Attention, MultiHead

DIRECTIONS = {"forward": "forward", "backward": "backward, random gradient"}
TOLERANCE = {"float32": 1e-4, "float64": 1e-11, "bfloat16": 4e-2, "float16": 5e-3}
TF32 = 5e-3  # what convolutions on CUDA may use for float32


def _standard(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return rng.standard_normal(shape).astype(dtype)


def arrays_of(shape: Any) -> dict[str, np.ndarray]:
    """The leaves by name, the same for every library, and the upstream gradient."""
    rng = np.random.default_rng(sum(shape.name.encode()))
    return {name: _standard(rng, size, shape.dtype) * scale for name, (size, scale) in shape.leaves().items()}


class Prepared:
    """One shape in one library, in the form that bench/worker.py measures."""

    def __init__(self, lib: Any, name: str, device: str, dtype: str):
        self.lib = lib
        self.device, self.dtype = device, getattr(lib, dtype) if dtype else None
        self.shape = next(shape for shape in SHAPES if shape.name == name)
        self.leaves: dict[str, Any] = {}
        for key, array in arrays_of(self.shape).items():
            tensor = self.tensor(array)
            if key == "input" and getattr(self.shape, "channels_last", False):
                tensor = tensor.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
            self.leaves[key] = tensor.requires_grad_()
        if isinstance(self.shape, MultiHead):
            self.module = lib.nn.MultiheadAttention(
                self.shape.embed, self.shape.heads, dropout=self.shape.dropout, batch_first=True
            )
            self.module.to(device, self.dtype or lib.float32)
            with lib.no_grad():
                for key, parameter in self.module.named_parameters():
                    parameter.copy_(self.leaves[key])
            self.leaves = {"input": self.leaves["input"], **dict(self.module.named_parameters())}

    def tensor(self, array: np.ndarray) -> Any:
        moved = self.lib.from_numpy(array).to(self.device)
        return moved if array.dtype == bool or not self.dtype else moved.to(self.dtype)

    def forward(self) -> Any:
        functional, shape, leaves = self.lib.nn.functional, self.shape, self.leaves
        if isinstance(shape, MultiHead):
            x = leaves["input"]
            return self.module(x, x, x, need_weights=False)[0]
        if isinstance(shape, Attention):
            return functional.scaled_dot_product_attention(
                leaves["query"],
                leaves["key"],
                leaves["value"],
                attn_mask=self.mask(),
                dropout_p=shape.dropout,
                is_causal=shape.causal,
                enable_gqa=shape.key_heads not in (0, shape.heads),
            )
        run = getattr(functional, shape.function)
        options = {"stride": shape.stride, "padding": shape.padding, "dilation": shape.dilation, "groups": shape.groups}
        return run(leaves["input"], leaves["weight"], leaves["bias"], **options)

    def mask(self) -> Any:
        shape = self.shape
        if not shape.mask:
            return None
        if not hasattr(self, "kept_mask"):
            rng = np.random.default_rng(1)
            sizes = (shape.batch, 1, shape.queries, shape.keys)
            drawn = rng.random(sizes) < 0.8 if shape.mask == "bool" else _standard(rng, sizes, shape.dtype)
            self.kept_mask = self.tensor(drawn)
        return self.kept_mask

    def gradient(self) -> Any:
        output = self.forward()
        sizes = tuple(output.shape)
        return self.tensor(_standard(np.random.default_rng(7), sizes, self.shape.dtype))


@dataclass
class Row:
    name: str
    direction: str
    ours: float
    theirs: float

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs


def disagreement(found: Path, expected: Path) -> float:
    a, b = np.load(found), np.load(expected)
    worst = 0.0
    for name in b.files:
        error = float(np.abs(a[name] - b[name]).max() / max(float(np.abs(b[name]).max()), 1e-3))
        worst = error if not error <= worst else worst
    return worst


def run_shape(shape: Any, peers: list[Peer], args: argparse.Namespace, scratch: Path) -> tuple[list[Row], float]:
    results = [scratch / f"{i}.npz" for i in range(len(peers))]
    for peer, result in zip(peers, results, strict=True):
        peer.ask("shape", name=shape.name, result=str(result), dtype=args.dtype)
    error = 0.0 if getattr(shape, "dropout", 0.0) else disagreement(results[1], results[0])
    rows = []
    for label, direction in DIRECTIONS.items():
        request = {"do": "measure", "direction": direction, "seconds": args.seconds, "least": 3}
        samples, _ = take_turns(peers, args.rounds, args.settle, request)
        theirs, ours = (args.statistic(samples[peer.name]) for peer in peers)
        rows.append(Row(shape.name, label, ours, theirs))
    return rows, error


def table(rows: list[Row]) -> str:
    lines = [
        [row.name, row.direction, f"{row.ours * 1e6:.1f}", f"{row.theirs * 1e6:.1f}", f"{row.ratio:.3f}"]
        for row in sorted(rows, key=lambda row: -row.ratio)
    ]
    return markdown(["shape", "direction", "tensorgrad, us", "torch, us", "ratio"], lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3, help="turns of each library a row")
    parser.add_argument("--seconds", type=float, default=0.1, help="length of a turn")
    parser.add_argument("--settle", type=float, default=0.05)
    parser.add_argument("--only", default="", help="only the shapes whose name contains this text (several: a|b)")
    parser.add_argument(
        "--least",
        dest="statistic",
        action="store_const",
        const=min,
        default=statistics.median,
        help="the least instead of the median of the samples, where other programs keep the machine busy",
    )
    parser.add_argument("--worse", type=float, default=0.0, help="print only the rows at or above this ratio")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda where there is one")
    parser.add_argument(
        "--dtype", default="", choices=["bfloat16", "float16"], help="instead of float32; float64 is left out then"
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    chosen = [shape for shape in SHAPES if any(part in shape.name for part in args.only.split("|"))]
    if args.dtype:
        chosen = [shape for shape in chosen if shape.dtype == "float32"]
    scratch = Path(tempfile.mkdtemp(prefix="tensorgrad-shapes-"))
    rows: list[Row] = []
    wrong: list[str] = []
    peers = [Peer(name, name, args.device, args.threads) for name in ("torch", "tensorgrad")]

    def measure(shape: Any) -> None:
        found, error = run_shape(shape, peers, args, scratch)
        rows.extend(found)
        allowed = TOLERANCE[args.dtype or shape.dtype]
        if args.device != "cpu" and allowed == TOLERANCE["float32"] and "conv" in getattr(shape, "function", ""):
            allowed = TF32
        if not error <= allowed:
            wrong.append(f"{shape.name}: differs from PyTorch by {error:.2e}")

    try:
        until_stopped(chosen, measure)
    except PeerError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        for peer in peers:
            peer.close()
    if not rows:
        return 1
    print(table([row for row in rows if row.ratio >= args.worse]))
    mean = statistics.geometric_mean(row.ratio for row in rows)
    print(f"{len(rows)} rows, geometric mean {mean:.3f}, {sum(row.ratio > 1 for row in rows)} above 1")
    if args.json:
        meta = describe(args.device) | {"dtype": args.dtype or "float32"}
        meta |= {"threads": args.threads, "statistic": args.statistic.__name__}
        args.json.write_text(json.dumps({"meta": meta, "rows": [vars(row) for row in rows]}, indent=1) + "\n")
    for line in wrong:
        print(f"WRONG {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
