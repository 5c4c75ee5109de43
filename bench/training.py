"""One program of bench/zoo.py in one library, inside a worker process: its check against the others, and its steps."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.zoo import find

CHECKED_STEPS = 5
CHECKED_IMAGES = 512  # of an epoch's; a step's batch has no more


class Training:
    """`compiled` hands the model together with its loss to torch.compile."""

    def __init__(self, lib: Any, chosen: str, name: str, compiled: bool):
        self.lib = lib
        self.program = find(chosen, name)
        lib.manual_seed(0)
        self.model = self.program.make(lib)
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

    def check(self, weights: Path, result: Path, exact: bool) -> None:
        """Starts from the weights in the file, or writes them where it is the first to be asked. The result has the
        output, or the losses of some steps; with `exact` the output and every gradient of one step in float64, where
        rounding cannot turn a ReLU off here that is on there. Dropout is off meanwhile, its random numbers being each
        library's own."""
        state = self.model.state_dict()
        if not weights.exists():
            np.savez(weights, **{name: value.detach().numpy() for name, value in state.items()})
        given = np.load(weights)
        with self.lib.no_grad():
            for name, value in state.items():
                value.copy_(self.lib.from_numpy(given[name]))
        dropouts = [module for module in self.model.modules() if isinstance(module, self.lib.nn.Dropout)]
        kept = [module.p for module in dropouts]
        for module in dropouts:
            module.p = 0.0
        if exact:
            found = self.check_gradients()
        elif self.program.kind == "infer":
            with self.lib.no_grad():
                found = {"output": self.forward(self.x).numpy()}
        else:
            x, labels = self.x[:CHECKED_IMAGES], self.labels[: self.checked_labels]
            found = {"losses": np.array([self.train_on(x, labels) for _ in range(CHECKED_STEPS)])}
        for module, p in zip(dropouts, kept):
            module.p = p
        np.savez(result, **found)

    @property
    def checked_labels(self) -> int:
        return CHECKED_IMAGES if len(self.x) == len(self.labels) else len(self.labels)

    def check_gradients(self) -> dict[str, np.ndarray]:
        model = self.model.double()
        x = self.x[:CHECKED_IMAGES]
        output = model(x.double() if x.is_floating_point() else x)
        self.lib.nn.functional.cross_entropy(output, self.labels[: self.checked_labels]).backward()
        found = {f"gradient of {name}": parameter.grad.numpy() for name, parameter in model.named_parameters()}
        return {"output": output.detach().numpy(), **found}

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
