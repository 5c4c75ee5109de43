"""The small parts of scripts/gpu-check: what importing and a first operation cost, and the report of all steps."""

import json
import subprocess
import sys
import time
from pathlib import Path


def smoke():
    """Seconds from the start of a fresh interpreter's import to the end of the first operation on the device."""
    code = """
import time
begin = time.perf_counter()
import tensorgrad as tg
imported = time.perf_counter()
assert tg.cuda.is_available(), tg.cuda.unavailable_reason()
found = time.perf_counter()
x = tg.ones(4, device="cuda")
tg.cuda.synchronize()
made = time.perf_counter()
assert (x + x).sum().item() == 8
end = time.perf_counter()
print(f"import {imported - begin:.3f} s, device found {found - imported:.3f} s, first tensor {made - found:.3f} s, "
      f"first sum {end - made:.3f} s, together {end - begin:.3f} s")
print(tg.cuda.get_device_properties())
"""
    for _ in range(2):  # the second finds the files in memory
        subprocess.run([sys.executable, "-c", code], check=True)


def line(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout.strip().splitlines()[-1]
    except (OSError, IndexError, subprocess.TimeoutExpired):
        return ""


def report(folder):
    out = Path(folder)
    found = {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "gpu": line("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"),
        "nvcc": line("nvcc", "--version"),
        "commit": line("git", "rev-parse", "--short", "HEAD"),
        "steps": {},
    }
    for status in sorted(out.glob("*.status")):
        code, seconds = status.read_text().split()
        log = (out / f"{status.stem}.log").read_text(errors="replace").splitlines()
        found["steps"][status.stem] = {"status": int(code), "seconds": int(seconds), "end": log[-12:]}
    for name in ("table", "graphs", "kernels", "epoch", "gpt", "parity"):
        path = out / f"{name}.json"
        if path.exists():
            content = json.loads(path.read_text())
            found[name] = content["summary"] if name == "parity" else content
    (out / "report.json").write_text(json.dumps(found, indent=1) + "\n")
    print(f"{found['date']}, {found['gpu']}, {found['nvcc']}: {out / 'report.json'}")
    return 0 if all(step["status"] == 0 for step in found["steps"].values()) else 1


if __name__ == "__main__":
    sys.exit(smoke() if sys.argv[1] == "smoke" else report(sys.argv[2]))
