"""One program of bench/zoo.py in one library, inside a worker process: its check against the others, and its steps."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.zoo import find

CHECKED_STEPS = 5


class Training:
    """`compiled` hands the model together with its loss to torch.compile."""

    def __init__(self, lib: Any, chosen: str, name: str, compiled: bool):
        self.lib = lib
        self.program = find(chosen, name)
        lib.manual_seed(0)
        self.model = self.program.make(lib)
        self.parameters = dict(self.model.named_parameters())
        self.x, self.labels = (lib.from_numpy(array) for array in self.program.batch(np.random.default_rng(3)))
        cross_entropy = lib.nn.functional.cross_entropy
        model = self.model

        def loss(x: Any, labels: Any) -> Any:
            return cross_entropy(model(x), labels)

        self.loss = lib.compile(loss) if compiled else loss
        self.forward = lib.compile(model) if compiled and self.program.kind == "infer" else model
        self.restart()
        self.step = {"train": self.train, "infer": self.infer, "epoch": self.epoch}[self.program.kind]

    def restart(self) -> None:
        self.optimizer = self.lib.optim.AdamW(self.model.parameters(), lr=1e-3)
        if self.program.kind == "epoch":
            data = self.lib.utils.data
            self.loader = data.DataLoader(data.TensorDataset(self.x, self.labels), batch_size=64, shuffle=True)
        if self.program.kind == "infer":
            self.model.eval()

    def train(self) -> float:
        return self.train_on(self.x, self.labels)

    def train_on(self, x: Any, labels: Any) -> float:
        self.optimizer.zero_grad()
        loss = self.loss(x, labels)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def infer(self) -> None:
        with self.lib.no_grad():
            self.forward(self.x)

    def epoch(self) -> None:
        for x, labels in self.loader:
            self.train_on(x, labels)

    def check(self, weights: Path, result: Path) -> None:
        """Starts from the weights in the file, or writes them where it is the first to be asked. The result has the
        output, or the losses of some steps and the gradients of the first; dropout is off meanwhile, its random
        numbers being each library's own."""
        state = self.model.state_dict()
        if not weights.exists():
            np.savez(weights, **{name: value.detach().numpy() for name, value in state.items()})
        given = np.load(weights)
        with self.lib.no_grad():
            for name, value in state.items():
                value.copy_(self.lib.from_numpy(given[name]))
        found = self.check_output() if self.program.kind == "infer" else self.check_steps()
        np.savez(result, **found)

    def check_output(self) -> dict[str, np.ndarray]:
        with self.lib.no_grad():
            return {"output": self.forward(self.x).numpy()}

    def check_steps(self) -> dict[str, np.ndarray]:
        found, losses = {}, []
        dropouts = [module for module in self.model.modules() if isinstance(module, self.lib.nn.Dropout)]
        kept = [module.p for module in dropouts]
        for module in dropouts:
            module.p = 0.0
        for step in range(CHECKED_STEPS):
            losses.append(self.train_on(self.x[:256], self.labels[:256]) if self.loader_fed else self.train())
            if step == 0:
                for name, parameter in self.parameters.items():
                    found[f"gradient of {name}"] = np.array(parameter.grad.numpy())
        for module, p in zip(dropouts, kept):
            module.p = p
        return {"losses": np.array(losses), **found}

    @property
    def loader_fed(self) -> bool:
        return self.program.kind == "epoch"

    def measure(self, seconds: float, least: int) -> list[float]:
        gc.collect()
        for _ in range(0 if self.loader_fed else 2):
            self.step()
        samples: list[float] = []
        until = time.perf_counter() + seconds
        while len(samples) < (1 if self.loader_fed else least) or time.perf_counter() < until:
            begin = time.perf_counter()
            self.step()
            samples.append(time.perf_counter() - begin)
        return samples


def peak_megabytes() -> float:
    """The most memory that was ever resident. Of this program alone, which `ru_maxrss` is not: it remembers what the
    process was before it became this program."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status has no line VmHWM")
