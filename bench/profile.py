"""Where the time of a model's step goes: a line for each operation and output shape, forward and backward, the most
expensive first.

    make bench-profile ARGS=resnet                     a program of bench/zoo.py whose name contains this text
    make bench-profile ARGS="'gpt, batch 64' --set shapes --steps 5 --top 20"

The forward's time is counted from one recorded operation to the next, so it includes the Python around it; what
records no gradient (the optimizer, a pass under no_grad) stands under a name of its own.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

from bench.report import markdown
from bench.zoo import SETS


class Profile:
    """Steps of bench/training.py, with the clock of the library's own operations running."""

    def __init__(self, chosen: str, name: str, threads: int):
        import tensorgrad

        from bench.training import Training

        tensorgrad.set_num_threads(threads)
        self.native = tensorgrad._C
        self.training = Training(tensorgrad, chosen, name, False)
        self._mark_around(self.training.optimizer, "step", "optimizer.step")
        self._mark_around(self.training.optimizer, "zero_grad", "optimizer.zero_grad")

    def _mark_around(self, owner: Any, method: str, name: str) -> None:
        inner = getattr(owner, method)

        def marked() -> None:
            self.native._profile_mark("")
            inner()
            self.native._profile_mark(name)

        setattr(owner, method, marked)

    def run(self, steps: int) -> tuple[list[tuple[str, str, bool, int, float]], float]:
        for _ in range(3):
            self.training.step()
        self.native._profile_start()
        begin = time.perf_counter()
        for _ in range(steps):
            self.training.step()
            self.native._profile_mark("the rest of the step")
        elapsed = time.perf_counter() - begin
        return self.native._profile_stop(), elapsed


def table(rows: list[tuple[str, str, bool, int, float]], elapsed: float, steps: int, top: int) -> str:
    lines = []
    for name, shape, backward, calls, seconds in rows[:top]:
        share = f"{seconds / elapsed:.1%}"
        way = "backward" if backward else "forward"
        lines.append([f"{name} {shape}", way, f"{calls / steps:g}", f"{seconds / steps * 1e3:.3f}", share])
    return markdown(["operation, shape of its output", "", "calls a step", "ms a step", "share"], lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="text that the program's name contains")
    parser.add_argument("--set", default="steps", choices=list(SETS), help="which programs (default: steps)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--top", type=int, default=30, help="how many lines")
    args = parser.parse_args(argv)
    names = [program.name for program in SETS[args.set] if args.name.lower() in program.name.lower()]
    if not names:
        parser.error(f"no program of the set {args.set} contains {args.name!r}")
    rows, elapsed = Profile(args.set, names[0], args.threads).run(args.steps)
    print(f"{names[0]}: {elapsed / args.steps * 1e3:.3f} ms a step\n")
    print(table(rows, elapsed, args.steps, args.top))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
