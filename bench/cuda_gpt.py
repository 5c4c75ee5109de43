"""Training on CUDA: a GPT's step in 16 bits, and attention alone, in tensorgrad and PyTorch on the same card, each in a
process of its own, taking turns.

    PYTHONPATH=build/python python -m bench.cuda_gpt [--only attention|gpt] [--dtype float32] [--json FILE]

The step: 6 layers, d 384, 6 heads, T 256, batch 64, 65 tokens; forward and loss under bfloat16 autocast, backward and
fused AdamW. It is timed in batches of steps with one wait for the device at the end, so that neither library waits in
between; the losses of the first five steps are compared. Peak memory is what each library's own allocator counts.
Attention: bfloat16 unless asked for another, batch 8, 16 heads of 64, forward, and the gradient of query, key and
value, without and with the causal mask. PyTorch's scaled_dot_product_attention chooses its kernel as it does by
default.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.machine import describe
from bench.peers import Peer, PeerError, take_turns
from bench.report import markdown
from bench.zoo import gpt

LAYERS, WIDTH, HEADS, LENGTH, BATCH, TOKENS = 6, 384, 6, 256, 64, 65


class Training:
    """The model in one library, made by a worker of bench/worker.py on the request `cuda_gpt`."""

    def __init__(self, lib: Any, compiled: bool):
        self.lib = lib
        lib.manual_seed(0)
        model = gpt(lib, WIDTH, HEADS, LAYERS, LENGTH, TOKENS).to("cuda")
        with lib.no_grad():  # the same start in both libraries: tame weights from a fixed rule
            for i, p in enumerate(model.parameters()):
                n = p.numel()
                flat = lib.arange(n, device="cuda", dtype=lib.float32)
                values = lib.sin(flat * (12.9898 + i)) * (0.02 if p.dim() > 1 else 0.0)
                p.copy_(values.reshape(p.shape))
            for module in model.modules():
                if type(module).__name__ == "LayerNorm":
                    module.weight.fill_(1.0)
        self.optimizer = lib.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        self.model = lib.compile(model) if compiled else model
        place = lib.arange(BATCH * LENGTH, device="cuda")
        self.x = ((place * 7919) % TOKENS).reshape(BATCH, LENGTH)
        self.labels = (place * 104729 + 3) % TOKENS

    def enqueue(self) -> Any:
        self.optimizer.zero_grad()
        with self.lib.autocast("cuda", dtype=self.lib.bfloat16):
            loss = self.lib.nn.functional.cross_entropy(self.model(self.x), self.labels)
        loss.backward()
        self.optimizer.step()
        return loss

    def step(self) -> float:
        self.last = self.enqueue().item()
        return self.last

    def measure(self, seconds: float, least: int) -> list[float]:
        gc.collect()
        wait = self.lib.cuda.synchronize
        for _ in range(5):
            self.enqueue()
        wait()
        samples: list[float] = []
        until = time.perf_counter() + seconds
        while len(samples) < least or time.perf_counter() < until:
            begin = time.perf_counter()
            for _ in range(10):
                loss = self.enqueue()
            wait()
            samples.append((time.perf_counter() - begin) / 10)
        self.last = loss.item()
        return samples


def measure_attention(lib: Any, length: int, causal: bool, direction: str, seconds: float, dtype: str) -> list[float]:
    """Seconds of one call, from batches of calls with one wait at their end."""
    lib.manual_seed(1)
    q, k, v, g = (lib.randn(8, 16, length, 64, device="cuda").to(getattr(lib, dtype)) for _ in range(4))
    attention = lib.nn.functional.scaled_dot_product_attention
    if direction == "backward":
        inputs = [t.requires_grad_() for t in (q, k, v)]
        y = attention(*inputs, is_causal=causal)

        def call() -> Any:
            return lib.autograd.grad(y, inputs, g, retain_graph=True)

    else:

        def call() -> Any:
            return attention(q, k, v, is_causal=causal)

    return _batches(call, lib.cuda.synchronize, 40 if length <= 1024 else 10 if length <= 4096 else 3, seconds)


def _batches(call: Callable[[], Any], wait: Callable[[], None], calls: int, seconds: float) -> list[float]:
    for _ in range(calls):
        call()
    wait()
    samples: list[float] = []
    until = time.perf_counter() + seconds
    while len(samples) < 3 or time.perf_counter() < until:
        begin = time.perf_counter()
        for _ in range(calls):
            call()
        wait()
        samples.append((time.perf_counter() - begin) / calls)
    return samples


def attention_rows(peers: list[Peer], args: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for length in args.lengths:
        for causal in (False, True):
            for direction in ("forward", "backward"):
                request = {"do": "attention", "length": length, "causal": causal, "direction": direction}
                request |= {"dtype": args.dtype, "seconds": args.seconds / 4}
                samples, _ = take_turns(peers, args.rounds, 0.0, request)
                ms = {name: statistics.median(values) * 1e3 for name, values in samples.items()}
                products = (4 if direction == "forward" else 10) * 8 * 16 * length * length * 64 / (2 if causal else 1)
                name = f"attention {args.dtype} T {length}{' causal' if causal else ''}, {direction}"
                rows.append({"name": name, "ms": ms, "tflops": {n: products / t / 1e9 for n, t in ms.items()}})
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def gpt_row(peers: list[Peer], args: argparse.Namespace) -> dict[str, Any]:
    losses = {}
    for peer in peers:
        losses[peer.name] = peer.ask("cuda_gpt", compiled=peer.name == "torch.compile")["losses"]
    # Before any update to 2e-3. Adam's first steps have the size of the rate whatever the gradient is: rounding decides
    # about those near 0: afterwards to a tenth.
    first = losses[peers[0].name]
    for name, other in losses.items():
        if any(abs(a - b) > (0.1 if i else 2e-3) * abs(a) for i, (a, b) in enumerate(zip(first, other))):
            raise PeerError(f"{name} computes other losses: {other}, {peers[0].name}: {first}")
    samples, _ = take_turns(peers, args.rounds, 0.1, {"do": "measure_model", "seconds": args.seconds, "least": 3})
    memory = {peer.name: peer.ask("cuda_peak")["megabytes"] for peer in peers}
    ms = {name: statistics.median(values) * 1e3 for name, values in samples.items()}
    return {"name": "GPT training step", "ms": ms, "peak_mb": memory, "first_losses": losses}


def table(rows: list[dict[str, Any]], labels: list[str]) -> str:
    others = [label for label in labels if label != "tensorgrad"]
    header = ["on CUDA", *(f"{label}, ms" for label in labels), *(f"ratio to {label}" for label in others)]
    lines = []
    for row in rows:
        ms = row["ms"]
        line = [row["name"], *(f"{ms[label]:.3f}" if label in ms else "-" for label in labels)]
        lines.append(line + [f"{ms['tensorgrad'] / ms[o]:.3f}" if o in ms else "-" for o in others])
        if "peak_mb" in row:
            peaks = [f"{row['peak_mb'][label]:.0f}" for label in labels]
            lines.append(["its peak memory, MB", *peaks, *("-" for _ in others)])
    return markdown(header, lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["attention", "gpt"])
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"], help="of attention")
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 2048, 8192], help="of attention's sequences")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a turn")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    labels = ["torch eager", "torch.compile", "tensorgrad"]
    if args.no_compile:
        labels.remove("torch.compile")
    rows: list[dict[str, Any]] = []
    failed = False
    for part in ("attention", "gpt"):
        if args.only not in (None, part):
            continue
        peers: list[Peer] = []
        try:
            for label in labels:
                if part == "gpt" or label != "torch.compile":
                    peers.append(Peer(label, "tensorgrad" if label == "tensorgrad" else "torch", "cuda", 8))
            rows += attention_rows(peers, args) if part == "attention" else [gpt_row(peers, args)]
        except PeerError as error:
            print(f"bench: {part}: {error}", file=sys.stderr)
            failed = True
        finally:
            for peer in peers:
                peer.close()
    print(table(rows, labels))
    if args.json:
        args.json.write_text(json.dumps({"meta": describe("cuda"), "rows": rows}, indent=1))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
