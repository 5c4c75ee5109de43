"""One epoch of a CNN on Fashion-MNIST's shapes, batch 256, the data on the device, Adam: tensorgrad eager and as one
CUDA graph a step, beside PyTorch eager and PyTorch's CUDA graph on the same card.

    python -m bench.cuda_epoch --json FILE

60,000 random images and labels: the time does not depend on what is on them. The same model, weights' shapes and order
of batches on both sides. Each library runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.machine import describe

IMAGES, BATCH = 60_000, 256


def make_model(lib: Any) -> Any:
    nn = lib.nn
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 7 * 7, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    ).to("cuda")


def graphed(lib: Any, step: Callable[[], Any]) -> Callable[[], Any]:
    """The step as one graph, by the calls that both libraries have."""
    side = lib.cuda.Stream()
    side.wait_stream(lib.cuda.current_stream())
    with lib.cuda.stream(side):
        for _ in range(3):
            step()
    lib.cuda.current_stream().wait_stream(side)
    graph = lib.cuda.CUDAGraph()
    with lib.cuda.graph(graph):
        step.result = step()  # type: ignore[attr-defined]
    return graph.replay


def epochs(lib: Any, use_graph: bool, count: int) -> dict[str, Any]:
    lib.manual_seed(0)
    images = lib.randn(IMAGES, 1, 28, 28, device="cuda")
    labels = lib.randint(0, 10, (IMAGES,), device="cuda")
    model = make_model(lib)
    options = {"capturable": True} if use_graph else {}
    optimizer = lib.optim.Adam(model.parameters(), lr=1e-3, **options)
    x, y = images[:BATCH].clone(), labels[:BATCH].clone()

    def step() -> Any:
        optimizer.zero_grad()
        loss = lib.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    run = graphed(lib, step) if use_graph else step
    batches = IMAGES // BATCH
    seconds = []
    for epoch in range(count + 1):
        order = lib.randperm(IMAGES).to("cuda")
        lib.cuda.synchronize()
        begin = time.perf_counter()
        for i in range(batches):
            chosen = order[i * BATCH : (i + 1) * BATCH]
            if use_graph:
                x.copy_(images[chosen])
                y.copy_(labels[chosen])
            else:
                x, y = images[chosen], labels[chosen]
            loss = run()
        lib.cuda.synchronize()
        if epoch > 0:  # the first chooses algorithms
            seconds.append(time.perf_counter() - begin)
    loss = step.result if use_graph else loss  # type: ignore[attr-defined]
    return {"seconds": min(seconds), "loss": float(loss), "step_us": min(seconds) / batches * 1e6}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        lib = __import__(args.worker)
        found = {"version": lib.__version__}
        found |= {"eager": epochs(lib, False, args.epochs), "graph": epochs(lib, True, args.epochs)}
        print(json.dumps(found))
        return 0
    results = {}
    for library in ("torch", "tensorgrad"):
        command = [sys.executable, "-m", "bench.cuda_epoch", "--worker", library, "--epochs", str(args.epochs)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            print(f"bench: {library} failed ({done.returncode}):\n{done.stderr[-2000:]}", file=sys.stderr)
            return 1
        results[library] = json.loads(done.stdout.splitlines()[-1])
    for way in ("eager", "graph"):
        ours, theirs = results["tensorgrad"][way], results["torch"][way]
        print(
            f"epoch {way}: torch {theirs['seconds'] * 1e3:.1f} ms, tensorgrad {ours['seconds'] * 1e3:.1f} ms, "
            f"ratio {ours['seconds'] / theirs['seconds']:.3f} (losses {theirs['loss']:.3f}, {ours['loss']:.3f})"
        )
    best = results["tensorgrad"]["graph"]["seconds"] / results["torch"]["eager"]["seconds"]
    print(f"graph against PyTorch eager: {best:.3f}")
    if args.json:
        args.json.write_text(json.dumps({"meta": describe("cuda"), **results}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
