"""Matrix products of many shapes beside PyTorch: a few hundred random calls of matmul, bmm, mv, dot, outer, addmm and
linear (odd and prime sizes, single rows and columns, long and short inner sizes, small batches, transposed and strided
operands), each timed on both libraries in processes of their own, and printed from the slowest ratio on.

    python -m bench.products --count 300 --seed 1 --dtype float32 --threads 2
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

FORMS = ["matmul", "bmm", "mv", "dot", "outer", "addmm", "linear"]


def time_calls(call: Callable[[], Any], seconds: float) -> list[float]:
    """Seconds of one call: batches of at least 20 microseconds, so that the clock does not show, after a while without
    a clock that brings the workers to life."""
    begin = time.perf_counter()
    call()
    call()
    once = (time.perf_counter() - begin) / 2
    batch = max(1, int(2e-5 / once))
    samples: list[float] = []
    warm = time.perf_counter() + seconds / 4
    while time.perf_counter() < warm:
        call()
    until = time.perf_counter() + seconds
    while len(samples) < 5 or time.perf_counter() < until:
        begin = time.perf_counter()
        for _ in range(batch):
            call()
        samples.append((time.perf_counter() - begin) / batch)
    return samples


class Product:
    """One call in one library: built from its description, then timed."""

    def __init__(self, lib: Any, spec: dict[str, Any]):
        self.lib = lib
        rng = np.random.default_rng(spec["seed"])
        operands = [self.operand(rng, o, spec["dtype"]) for o in spec["operands"]]
        function = lib.nn.functional.linear if spec["form"] == "linear" else getattr(lib, spec["form"])
        self.call: Callable[[], Any] = lambda: function(*operands)

    def operand(self, rng: np.random.Generator, o: dict[str, Any], dtype: str) -> Any:
        shape, layout = o["shape"], o["layout"]
        stored = list(shape)
        if layout == "transposed":
            stored[-2:] = stored[:-3:-1]
        if layout == "strided":
            stored[-1] += 5
        values = rng.standard_normal(stored, dtype=np.float32)
        tensor = self.lib.from_numpy(values).to(getattr(self.lib, dtype))
        if layout == "transposed":
            return tensor.transpose(-2, -1)
        return tensor[..., : shape[-1]] if layout == "strided" else tensor

    def checksum(self) -> list[float]:
        out = np.asarray(self.call().to(self.lib.float32).numpy(), dtype=np.float64).reshape(-1)
        return [float(np.linalg.norm(out)), float(out @ np.cos(np.arange(out.size)))]

    def measure(self, seconds: float) -> list[float]:
        return time_calls(self.call, seconds)


def draw(rng: random.Random, dtype: str) -> dict[str, Any]:
    primes = [2, 3, 5, 7, 11, 13, 17, 29, 31, 61, 67, 97, 127, 131, 251, 257, 509, 521, 1021]
    powers = [2**i for i in range(11)]

    def size(most: int = 1024) -> int:
        kind = rng.random()
        if kind < 0.08:
            return 1
        if kind < 0.3:
            return min(most, rng.choice(primes))
        if kind < 0.6:
            return min(most, rng.choice(powers))
        return max(1, min(most, int(math.exp(rng.uniform(0, math.log(1500))))))

    def layout(dims: int) -> str:
        kind = rng.random()
        return "transposed" if kind < 0.25 and dims >= 2 else "strided" if kind < 0.4 else "plain"

    def operand(*shape: int) -> dict[str, Any]:
        return {"shape": list(shape), "layout": layout(len(shape))}

    form = rng.choices(FORMS, [8, 5, 2, 1, 1, 3, 4])[0]
    m, n, k = size(), size(), size()
    if form == "bmm":
        side = rng.choice([4, 8, 16, 32, 64])
        if rng.random() < 0.5:
            m = n = k = side
        else:
            m, n, k = size(64), size(64), size(64)
        batch = rng.choice([2, 7, 16, 64, 200])
        operands = [operand(batch, m, k), operand(batch, k, n)]
    elif form == "matmul" and rng.random() < 0.2:
        operands = [operand(rng.choice([3, 8]), m, k), operand(k, n)]
    else:
        operands = {
            "matmul": lambda: [operand(m, k), operand(k, n)],
            "mv": lambda: [operand(m, k), operand(k)],
            "dot": lambda: [operand(m * k)] * 2,
            "outer": lambda: [operand(m), operand(n)],
            "addmm": lambda: [operand(n), operand(m, k), operand(k, n)],
            "linear": lambda: [operand(m, k), operand(n, k), {"shape": [n], "layout": "plain"}],
        }[form]()
    return {"form": form, "operands": operands, "dtype": dtype, "seed": rng.randrange(1 << 30)}


def label(spec: dict[str, Any]) -> str:
    marks = {"plain": "", "transposed": "'", "strided": "+"}
    parts = ["x".join(map(str, o["shape"])) + marks[o["layout"]] for o in spec["operands"]]
    return f"{spec['form']} {' '.join(parts)}"


def main() -> None:
    from bench.peers import Peer, take_turns

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.02, help="of each library, shape and round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--best", action="store_true", help="compare the fastest samples: for a busy machine")
    parser.add_argument("--show", type=int, default=40, help="how many of the slowest to print")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    specs = [draw(rng, options.dtype) for _ in range(options.count)]
    peers = [Peer(library, library, "cpu", options.threads) for library in ("torch", "tensorgrad")]
    rows = []
    tolerance = {"float64": 1e-9, "float32": 1e-4}.get(options.dtype, 2e-2)
    for spec in specs:
        sums = [peer.ask("product", spec=spec)["checksum"] for peer in peers]
        size = abs(sums[0][0]) + 1e-30
        if max(abs(a - b) for a, b in zip(*sums, strict=True)) > tolerance * size:
            raise SystemExit(f"{label(spec)}: the libraries disagree, {sums[0]} and {sums[1]}")
        samples, _ = take_turns(peers, options.rounds, 0.002, {"do": "measure_product", "seconds": options.seconds})
        torch, ours = ((min if options.best else statistics.median)(samples[peer.name]) for peer in peers)
        rows.append((ours / torch, torch, ours, label(spec)))
    for peer in peers:
        peer.close()
    rows.sort(reverse=True)
    print(f"{'ratio':>6} {'torch us':>10} {'tensorgrad us':>14}  call (' transposed, + strided)")
    for ratio, torch, ours, name in rows[: options.show]:
        print(f"{ratio:6.2f} {torch * 1e6:10.2f} {ours * 1e6:14.2f}  {name}")
    above = sum(row[0] > 1 for row in rows)
    mean = math.exp(statistics.fmean(math.log(row[0]) for row in rows))
    print(f"{len(rows)} calls, {above} above 1, geometric mean {mean:.3f}, worst {rows[0][0]:.2f}")


if __name__ == "__main__":
    main()
