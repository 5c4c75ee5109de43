"""What the first call on a CUDA device costs a fresh process, part by part:

    python -m bench.cuda_first [--processes 5]

The driver and its context are made first, through the driver's own library, so that what is ours stands apart. The last
column has the first process alone, which may read files that the others find in memory; `together` is a process that
does not make the driver's part apart.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def library_folder() -> Path:
    """Of the tensorgrad library that this process has opened."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "libtensorgrad.so" in line:
            return Path(line.split(maxsplit=5)[5]).parent
    raise SystemExit("libtensorgrad.so is not open")


def parts(apart: bool) -> dict[str, float]:
    """Milliseconds of each step of this process."""
    took: dict[str, float] = {}

    def step(name: str, body: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        result = body()
        took[name] = (time.perf_counter() - begin) * 1e3
        return result

    def checked(code: int) -> None:
        if code:
            raise SystemExit(f"the driver answers {code}")

    begin = time.perf_counter()
    if apart:
        driver = step("open the driver", lambda: ctypes.CDLL("libcuda.so.1"))
        step("driver: cuInit", lambda: checked(driver.cuInit(0)))
        context, device = ctypes.c_void_p(), ctypes.c_int()
        checked(driver.cuDeviceGet(ctypes.byref(device), 0))
        step("driver: context", lambda: checked(driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)))
    import_begin = time.perf_counter()
    import tensorgrad as tg

    took["import tensorgrad"] = (time.perf_counter() - import_begin) * 1e3
    if apart:
        path = library_folder() / "libtensorgrad_cuda.so"
        step("open libtensorgrad_cuda.so", lambda: ctypes.CDLL(str(path)))
    if not step("find the device", tg.cuda.is_available):
        raise SystemExit(tg.cuda.unavailable_reason())
    x = step("first memory", lambda: tg.empty(4, device="cuda"))

    def waited(body: Callable[[], Any]) -> Any:
        result = body()
        tg.cuda.synchronize()
        return result

    step("first kernel: fill", lambda: waited(lambda: x.fill_(1)))
    y = step("second: add", lambda: waited(lambda: x + x))
    step("third: sum, item", lambda: y.sum().item())
    step("add again", lambda: waited(lambda: x + x))
    took["together"] = (time.perf_counter() - begin) * 1e3
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--one", choices=("apart", "plain"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(parts(args.one == "apart")))
        return
    for kind in ("plain", "apart"):
        runs = []
        for _ in range(args.processes):
            command = [sys.executable, "-m", "bench.cuda_first", "--one", kind]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr.strip().splitlines()[-1])
            runs.append(json.loads(done.stdout.splitlines()[-1]))
        print(f"\n| {kind}: step | ms, median of {len(runs)} | ms, first process |\n|---|---:|---:|")
        for name in runs[0]:
            print(f"| {name} | {statistics.median(run[name] for run in runs):.1f} | {runs[0][name]:.1f} |")


if __name__ == "__main__":
    main()
