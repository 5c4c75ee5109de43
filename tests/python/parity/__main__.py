"""Runs the catalogues and prints how much matches; --json writes what the tests read."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

# PyTorch stays on the CPU, and neither it nor its catalogues, which ask for devices when they are imported (through
# Numba too), may start the CUDA driver here: in a forked child it would crash.
os.environ["NUMBA_DISABLE_CUDA"] = "1"
torch.cuda.is_available = lambda: False
torch.cuda.device_count = lambda: 0
if hasattr(torch._C, "_cuda_getDeviceCount"):  # a build for CUDA
    torch._C._cuda_getDeviceCount = lambda: 0

from torch.testing._internal.common_methods_invocations import op_db  # noqa: E402
from torch.testing._internal.common_modules import module_db  # noqa: E402
from torch.testing._internal.common_optimizers import optim_db  # noqa: E402

from parity.catalogue import OPERATIONS  # noqa: E402
from parity.exceptions import EXCEPTIONS  # noqa: E402
from parity.lists import MODULES, OPTIMIZERS  # noqa: E402
from parity.runner import Report, run_all  # noqa: E402

LABELS = {
    "sample": "samples",
    "form": "method and in-place forms",
    "out": "calls with out=",
    "error": "refused inputs",
}
# What is compared; --dtype puts others here, before the children are forked.
DTYPES = [torch.float32, torch.float64]


# tensorgrad is first imported in the child: its threads do not outlive a fork.
def operation(op: Any) -> Iterator[Any]:
    from parity import operations

    return operations.outcomes(op, tuple(DTYPES))


def module(info: Any) -> Iterator[Any]:
    from parity import modules

    return modules.outcomes(info, tuple(DTYPES))


def optimizer(info: Any) -> Iterator[Any]:
    from parity import optimizers

    return optimizers.outcomes(info, tuple(DTYPES))


def jobs(everything: bool) -> dict[str, Callable[[], Iterator[Any]]]:
    found: dict[str, Callable[[], Iterator[Any]]] = {}
    for op in op_db:
        if everything or op.name in OPERATIONS:
            found[f"{op.name} {op.variant_test_name}".strip()] = partial(operation, op)
    for info in module_db:
        if info.module_cls.__name__ in MODULES:
            found[f"nn.{info.module_cls.__name__}"] = partial(module, info)
    for info in optim_db:
        if info.optim_cls.__name__ in OPTIMIZERS:
            found[f"optim.{info.optim_cls.__name__}"] = partial(optimizer, info)
    return found


def group(name: str) -> str:
    if name.startswith("optim."):
        return "optimizers"
    return "modules" if name.startswith("nn.") and not name.startswith("nn.functional") else "operations"


def summarize(reports: list[Report]) -> dict[str, dict[str, list[int]]]:
    """group -> kind -> [passed, total]; a crash counts as a failed sample."""
    found: dict[str, dict[str, list[int]]] = {}
    for report in reports:
        kinds = found.setdefault(group(report.name), {})
        for kind, total in report.total.items():
            entry = kinds.setdefault("sample" if kind == "crash" else kind, [0, 0])
            entry[0] += report.passed[kind]
            entry[1] += total
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="only what contains this text")
    parser.add_argument("--everything", action="store_true", help="all of op_db, to see what is missing")
    parser.add_argument("--verbose", action="store_true", help="every problem, not three of each")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", default="cpu", help="where tensorgrad computes: cpu or cuda")
    parser.add_argument("--dtype", nargs="+", help="float32 and float64; for example: bfloat16 float16")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    os.environ["PARITY_DEVICE"] = args.device  # read in the children
    if args.dtype:
        DTYPES[:] = [getattr(torch, name) for name in args.dtype]
    chosen = {name: job for name, job in jobs(args.everything).items() if args.only in name}

    def progress(report: Report) -> None:
        counts = ", ".join(f"{kind} {report.passed[kind]}/{total}" for kind, total in report.total.items())
        known = EXCEPTIONS.get(report.name)
        note = f"   ({known[1]})" if known and report.problems else ""
        print(f"{'ok  ' if not report.problems else 'FAIL'} {report.name:42} {counts}  {report.seconds:.1f} s{note}")
        shown = report.problems if args.verbose else report.problems[:3]
        for problem in shown:
            print(f"       {problem}")
        if len(report.problems) > len(shown):
            print(f"       and {len(report.problems) - len(shown)} more")
        sys.stdout.flush()

    reports = run_all(chosen, args.workers, progress)
    summary = summarize(reports)
    for name, kinds in summary.items():
        for kind, (passed, total) in kinds.items():
            label = LABELS[kind]
            print(f"{name}: {passed} of {total} {label} match PyTorch ({100 * passed / total:.2f} %)")
    if args.json:
        args.json.write_text(json.dumps({"summary": summary, "reports": [asdict(report) for report in reports]}))
    return 0 if all(not report.problems or report.name in EXCEPTIONS for report in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
