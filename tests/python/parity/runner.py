"""Runs each operation, module and optimizer in a process of its own, forked from one that has loaded PyTorch's
catalogues: a crash or a hang is a failure of that operation and not the end of the run."""

from __future__ import annotations

import faulthandler
import json
import os
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

TIME_LIMIT = 240.0


@dataclass
class Report:
    name: str
    passed: dict[str, int] = field(default_factory=dict)  # by kind of outcome
    total: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, kind: str, ok: bool) -> None:
        self.total[kind] = self.total.get(kind, 0) + 1
        self.passed[kind] = self.passed.get(kind, 0) + ok


def _child(job: Callable[[], Iterator[Any]], pipe: int, errors: int) -> None:
    """Writes one line an outcome. Never returns."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    if not os.environ.get("PARITY_STDERR"):
        os.dup2(errors, 2)
    faulthandler.enable()
    code = 0
    with os.fdopen(pipe, "w") as out:
        try:
            torch.set_num_threads(1)
            for outcome in job():
                out.write(json.dumps(asdict(outcome)) + "\n")
                out.flush()
            out.write("end\n")
        except BaseException as error:  # the parent must learn of everything
            out.write(json.dumps({"kind": "sample", "what": "the run", "problem": f"{type(error).__name__}: {error}"}))
            out.write("\nend\n")
            code = 1
        out.flush()
        os._exit(code)


class _Running:
    def __init__(self, name: str, job: Callable[[], Iterator[Any]]):
        self.report = Report(name)
        self.begin = time.monotonic()
        self.errors = tempfile.TemporaryFile()
        read, write = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(read)
            _child(job, write, self.errors.fileno())
        os.close(write)
        self.pipe = read
        self.text = b""
        self.ended = False
        self.last = "its start"

    def take(self) -> bool:
        """Reads what is there; False once the child is gone."""
        data = os.read(self.pipe, 1 << 16)
        *lines, self.text = (self.text + data).split(b"\n")
        for line in lines:
            if line == b"end":
                self.ended = True
                continue
            outcome = json.loads(line)
            self.last = outcome["what"]
            self.report.count(outcome["kind"], outcome["problem"] is None)
            if outcome["problem"] is not None:
                self.report.problems.append(f"{outcome['what']}: {outcome['problem']}")
        return bool(data)

    def last_words(self) -> str:
        """The end of what the child wrote to stderr: Python's stack, where it crashed."""
        self.errors.seek(0)
        text = self.errors.read().decode(errors="replace").strip()
        return "\n" + text[-2000:] if text else ""

    def finish(self, why: str = "") -> Report:
        os.close(self.pipe)
        if why:
            os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        if not self.ended:
            if os.WIFSIGNALED(status) and not why:
                why = f"crashed with signal {os.WTERMSIG(status)}"
            self.report.count("crash", False)
            self.report.problems.append(f"{why or 'ended early'} after {self.last}{self.last_words()}")
        self.report.seconds = time.monotonic() - self.begin
        return self.report


def run_all(
    jobs: dict[str, Callable[[], Iterator[Any]]], workers: int, progress: Callable[[Report], None]
) -> list[Report]:
    waiting = list(jobs.items())
    running: list[_Running] = []
    reports = []
    while waiting or running:
        while waiting and len(running) < workers:
            running.append(_Running(*waiting.pop(0)))
        ready, _, _ = select.select([one.pipe for one in running], [], [], 1.0)
        for one in list(running):
            why = ""
            if one.pipe in ready:
                if one.take():
                    continue
            elif time.monotonic() - one.begin > TIME_LIMIT:
                why = f"stopped after {TIME_LIMIT:.0f} s"
            else:
                continue
            running.remove(one)
            reports.append(one.finish(why))
            progress(reports[-1])
    return reports
