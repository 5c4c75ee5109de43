"""The overhead of operations in C++, tensorgrad's and LibTorch's: two programs with the same bodies (overhead_body.h),
run in turns. LibTorch's headers and libraries are those of the installed torch wheel."""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 4


def build_libtorch(build: Path) -> Path | None:
    """Compiles overhead_libtorch.cpp against the torch wheel (15 s or more), once for each version of torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        return None
    torch = Path(spec.submodule_search_locations[0])
    version = (torch / "version.py").read_text()
    program = build / "bench/overhead_libtorch"
    stamp = build / "bench/overhead_libtorch.stamp"
    sources = [ROOT / "bench/overhead_libtorch.cpp", ROOT / "bench/overhead_body.h"]
    now = version + "".join(source.read_text() for source in sources)
    if program.exists() and stamp.exists() and stamp.read_text() == now:
        return program
    program.parent.mkdir(parents=True, exist_ok=True)
    # Asked of torch itself in a process of its own, so that this one stays light.
    abi = subprocess.run(
        [sys.executable, "-c", "import torch; print(int(torch._C._GLIBCXX_USE_CXX11_ABI))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    include, library = torch / "include", torch / "lib"
    compiler = os.environ.get("CXX", "c++")
    command = [
        *([compiler, "-std=c++20", "-O2", "-w", f"-D_GLIBCXX_USE_CXX11_ABI={abi}", str(sources[0])]),
        *([f"-I{include}", f"-I{include / 'torch/csrc/api/include'}", f"-L{library}", f"-Wl,-rpath,{library}"]),
        *(["-Wl,--no-as-needed", "-ltorch", "-ltorch_cpu", "-lc10", "-o", str(program)]),
    ]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        print(f"bench: the LibTorch program does not compile:\n{done.stderr[-2000:]}", file=sys.stderr)
        return None
    stamp.write_text(now)
    return program


def run(program: Path, seconds: float, threads: int) -> dict[str, float]:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TENSORGRAD_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [str(program), str(seconds), str(threads)], capture_output=True, text=True, env=environment, timeout=300
    )
    if done.returncode != 0:
        print(f"bench: {program.name} failed: {done.stderr[-500:]}", file=sys.stderr)
    lines = [line.split("\t") for line in done.stdout.splitlines() if "\t" in line]
    return {name: float(value) for name, value in lines}


def measure(build: Path, threads: int, with_torch: bool, quick: bool, bar: Any) -> list[dict[str, Any]]:
    programs = {"tensorgrad": build / "bench/overhead_tensorgrad"}
    if with_torch:
        libtorch = build_libtorch(build)
        if libtorch:
            programs = {"torch cpu": libtorch, **programs}
    if not programs["tensorgrad"].exists():
        print(f"bench: {programs['tensorgrad']} is not built; its section is left out", file=sys.stderr)
        return []
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(1 if quick else ROUNDS):
        for name, program in programs.items():
            for key, value in run(program, 0.03 if quick else 0.2, threads).items():
                found.setdefault(key, {}).setdefault(name, []).append(value)
        bar.update(1)
    return [
        {"language": "C++", "name": key, **{name: statistics.median(values) for name, values in peers.items()}}
        for key, peers in found.items()
    ]
