"""The libraries under measurement, each in a process of its own, taking turns."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


class PeerError(RuntimeError):
    pass


class Peer:
    """A worker process. While another has its turn this one is blocked on its pipe; `settle` gives the threads of a
    library that spin for a while after their last work the time to park, and `idle_share` checks that they did."""

    def __init__(self, name: str, library: str, device: str, threads: int):
        self.name = name
        self.library = library
        self.device = device
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "TENSORGRAD_NUM_THREADS": str(threads),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", library, device, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=environment,
        )
        self.worst_idle = 0.0
        self.info = self.ask("hello")

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            ready, _, _ = select.select([self.process.stdout], [], [], 600)
            line = self.process.stdout.readline() if ready else ""
        except BrokenPipeError:
            line = ""
        if not line:
            raise PeerError(f"{self.name} died or hung in {do} {arguments}")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(f"{self.name}: {answer['error']}")
        return answer

    def cpu_seconds(self) -> float:
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        if self.process.stdin:
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()


def until_stopped(items: Iterable[T], work: Callable[[T], None]) -> None:
    """work on each item, behind a progress bar. Ctrl-C and SIGTERM end the loop and not the program, so that what was
    measured until then is reported."""
    from tqdm import tqdm

    def stop(*_: Any) -> None:
        # `timeout` signals the program and then its whole group: a second interrupt would end the report.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        for item in tqdm(items, file=sys.stderr, disable=None):
            work(item)
    except KeyboardInterrupt:
        print("bench: stopped; this is what was measured until now", file=sys.stderr)
    finally:
        signal.signal(signal.SIGTERM, before)


def take_turns(
    peers: list[Peer], rounds: int, settle: float, request: dict[str, Any]
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Asks each peer in turn, `rounds` times (ABAB), for samples. Returns all samples and the medians of each turn."""
    samples: dict[str, list[float]] = {peer.name: [] for peer in peers}
    turns: dict[str, list[float]] = {peer.name: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            time.sleep(settle)
            others = [(other, other.cpu_seconds()) for other in peers if other is not peer]
            begin = time.perf_counter()
            found = peer.ask(**request)["samples"]
            elapsed = time.perf_counter() - begin
            # The clock of /proc ticks 100 times a second, so a share of a short turn says little.
            for other, used in others:
                if elapsed > 0.2:
                    other.worst_idle = max(other.worst_idle, (other.cpu_seconds() - used) / elapsed)
            samples[peer.name] += found
            turns[peer.name].append(sorted(found)[len(found) // 2])
    return samples, turns
