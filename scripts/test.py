"""Runs the C++ tests (ctest) and the Python tests (pytest) and closes with one line: 'N passed, N failed'."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def counts(report: Path) -> tuple[int, int, int]:
    """Passed, failed and skipped tests of a JUnit file; a doctest program counts as the test cases inside it."""
    passed = failed = skipped = 0
    if not report.exists():
        return 0, 1, 0
    for case in ET.parse(report).getroot().iter("testcase"):
        output = case.findtext("system-out") or ""
        inside = re.search(r"test cases:\s*(\d+)\s*\|\s*(\d+) passed\s*\|\s*(\d+) failed", output)
        bad = case.find("failure") is not None or case.find("error") is not None or case.get("status") == "fail"
        if inside and int(inside[1]) > 0:
            passed += int(inside[2])
            failed += max(int(inside[3]), int(bad))
        elif bad:
            failed += 1
        elif case.find("skipped") is not None or case.get("status") in ("notrun", "disabled"):
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def run_cpp(build: Path, jobs: int) -> tuple[int, int, int]:
    report = build / "ctest.xml"
    report.unlink(missing_ok=True)
    subprocess.run(
        ["ctest", "--test-dir", str(build), "-j", str(jobs), "--output-on-failure", "--output-junit", str(report)],
        stdin=subprocess.DEVNULL,
    )
    return counts(report)


def run_python(build: Path, extra: list[str]) -> tuple[int, int, int]:
    report = build / "pytest.xml"
    report.unlink(missing_ok=True)
    path = os.pathsep.join(filter(None, [str(build / "python"), os.environ.get("PYTHONPATH")]))
    code = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", "tests/python", *extra],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path, "TENSORGRAD_BUILD": str(build)},
    ).returncode
    passed, failed, skipped = counts(report)
    # Exit codes other than 0 and 1 mean that pytest itself broke off: a crash must not look like success.
    if code not in (0, 1) and failed == 0:
        failed = 1
    return passed, failed, skipped


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", choices=["cpp", "python"])
    args, extra = parser.parse_known_args()
    build = args.build.resolve()
    total = [0, 0, 0]
    if args.only != "python":
        total = [a + b for a, b in zip(total, run_cpp(build, args.jobs), strict=True)]
    if args.only != "cpp":
        total = [a + b for a, b in zip(total, run_python(build, extra), strict=True)]
    passed, failed, skipped = total
    if skipped:
        print(f"({skipped} skipped)")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
