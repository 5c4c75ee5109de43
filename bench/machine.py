"""What a figure depends on: the machine, the compiler's version, the date."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else ""


def _cpuinfo(field: str) -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return "unknown"


def _instruction_set() -> str:
    flags = _cpuinfo("flags").split()
    return "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "x86-64"


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def others_cpu_share(seconds: float = 0.5) -> float:
    """How much of the machine is in use while this process sleeps: above a few percent, figures are not to be trusted
    (PyTorch's OpenMP suffers most: a thread that is late holds all the others up)."""

    def ticks() -> tuple[int, int]:
        fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return sum(fields), fields[3] + fields[4]

    total, idle = ticks()
    time.sleep(seconds)
    later_total, later_idle = ticks()
    return 1.0 - (later_idle - idle) / max(1, later_total - total)


def describe(device: str) -> dict[str, Any]:
    found = {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": f"{_cpuinfo('model name')}, {len(os.sched_getaffinity(0))} cores, {_instruction_set()}",
        "system": f"{_system()}, Linux {platform.release()}",
        "python": platform.python_version(),
        "compiler": _first_line("c++", "--version"),
        "commit": _first_line("git", "rev-parse", "--short", "HEAD"),
    }
    if device.startswith("cuda"):
        found["gpu"] = _first_line("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    return found
