"""One library in one process: answers the requests of the benchmarks, a JSON line each, and is otherwise blocked on its
pipe. The code is the same for torch and tensorgrad; only the name of the imported package differs.

    python -m bench.worker tensorgrad cpu 2
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.cases import CASES, Case


class Worker:
    def __init__(self, library: str, device: str, threads: int):
        self.lib: Any = importlib.import_module(library)
        gc.freeze()  # what importing made stays: collections between cases need not look at it
        self.device = device
        self.lib.set_num_threads(threads)
        self.wait = self.lib.cuda.synchronize if device.startswith("cuda") else lambda: None
        self.cases = {case.key: case for case in CASES}
        self.x: Any = None

    def hello(self) -> dict[str, Any]:
        return {"version": self.lib.__version__, "threads": self.lib.get_num_threads(), "pid": os.getpid()}

    def tensor(self, array: np.ndarray) -> Any:
        return self.lib.from_numpy(array).to(self.device)

    def prepare(self, case: str, data: str, result: str) -> dict[str, Any]:
        """Builds the module from the weights in the file `data`, and writes the output and all gradients, for an
        upstream gradient of ones and for a random one, to the file `result`."""
        self.case: Case = self.cases[case]
        arrays = np.load(data)
        module = getattr(self.lib.nn, self.case.module.removeprefix("nn."))
        self.module = module(*self.case.args, **self.case.kwargs).to(self.device)
        self.parameters = dict(self.module.named_parameters())
        with self.lib.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(self.tensor(arrays[f"parameter {name}"]))
        self.x = self.tensor(arrays["input"].copy()).requires_grad_()
        self.gradient = self.tensor(arrays["gradient"].copy())
        found = {}
        for name, run in (("ones", self.backward_ones), ("random", self.backward_random)):
            self.clear()
            output = self.forward()
            run(output)
            found["output"] = self.array(output)
            found[f"{name} gradient of input"] = self.array(self.x.grad)
            for key, parameter in self.parameters.items():
                found[f"{name} gradient of {key}"] = self.array(parameter.grad)
        np.savez(result, **found)
        return {}

    @staticmethod
    def array(tensor: Any) -> np.ndarray:
        tensor = tensor.detach().cpu()
        return np.array((tensor.float() if tensor.element_size() == 2 else tensor).numpy())

    def forward(self) -> Any:
        if self.case.module == "nn.MultiheadAttention":
            return self.module(self.x, self.x, self.x, need_weights=False)[0]
        return self.module(self.x)

    def clear(self) -> None:
        if self.x is not None:
            self.x.grad = None
        for parameter in self.parameters.values():
            parameter.grad = None

    def backward_ones(self, output: Any) -> None:
        output.sum().backward()

    def backward_random(self, output: Any) -> None:
        output.backward(self.gradient)

    def measure(self, direction: str, seconds: float, least: int) -> dict[str, Any]:
        """Seconds of each run within a turn; the first runs of a turn warm the caches and threads up and do not
        count."""
        sample = {
            "forward": self.sample_forward,
            "backward": lambda: self.sample_backward(self.backward_ones),
            "backward, random gradient": lambda: self.sample_backward(self.backward_random),
        }[direction]
        gc.collect()
        gc.disable()
        guard = self.lib.no_grad() if direction == "forward" else self.lib.enable_grad()
        with guard:
            begin = time.perf_counter()
            warm = 0
            while warm < 2 or (time.perf_counter() - begin < seconds / 4 and warm < 200):
                sample()
                warm += 1
            samples: list[float] = []
            begin = time.perf_counter()
            while len(samples) < least or time.perf_counter() - begin < seconds:
                samples.append(sample())
        gc.enable()
        return {"samples": samples}

    def sample_forward(self) -> float:
        self.wait()
        begin = time.perf_counter()
        output = self.forward()
        self.wait()
        end = time.perf_counter()
        del output
        return end - begin

    def sample_backward(self, run: Callable[[Any], None]) -> float:
        self.clear()
        output = self.forward()
        self.wait()
        begin = time.perf_counter()
        run(output)
        self.wait()
        return time.perf_counter() - begin

    def shape(self, name: str, result: str, dtype: str) -> dict[str, Any]:
        """Gets one of bench/shapes.py ready to be measured; writes its output and gradients to the file `result`."""
        from bench.shapes import Prepared

        prepared = Prepared(self.lib, name, self.device, dtype)
        self.forward = prepared.forward
        self.parameters = prepared.leaves
        self.gradient = prepared.gradient()
        self.clear()
        output = self.forward()
        self.backward_random(output)
        found = {f"gradient of {key}": self.array(leaf.grad) for key, leaf in self.parameters.items()}
        np.savez(result, output=self.array(output), **found)
        return {}

    def capture(self, part: str, result: str) -> dict[str, Any]:
        """Records the case's forward, or forward and backward, as a CUDA graph; replays it and writes what it gave."""
        lib = self.lib
        backward = part != "forward"

        def work() -> Any:
            if not backward:
                with lib.no_grad():
                    return self.forward()
            output = self.forward()
            output.sum().backward()
            return output

        side = lib.cuda.Stream()
        side.wait_stream(lib.cuda.current_stream())
        with lib.cuda.stream(side):
            for _ in range(3):
                self.clear()
                work()
        lib.cuda.current_stream().wait_stream(side)
        self.clear()
        self.graph = lib.cuda.CUDAGraph()
        with lib.cuda.graph(self.graph):
            output = work()
        self.captured = output
        self.graph.replay()
        self.wait()
        found = {"output": self.array(output)}
        if backward:
            found["gradient of input"] = self.array(self.x.grad)
            for key, parameter in self.parameters.items():
                found[f"gradient of {key}"] = self.array(parameter.grad)
        np.savez(result, **found)
        return {}

    def measure_replay(self, seconds: float, least: int) -> dict[str, Any]:
        """Seconds of each replay, with the wait for the device."""
        for _ in range(20):
            self.graph.replay()
        self.wait()
        samples: list[float] = []
        until = time.perf_counter() + seconds
        while len(samples) < least or time.perf_counter() < until:
            begin = time.perf_counter()
            self.graph.replay()
            self.wait()
            samples.append(time.perf_counter() - begin)
        return {"samples": samples}

    def model(self, chosen: str, name: str, compiled: bool) -> dict[str, Any]:
        from bench.training import Training

        self.training = Training(self.lib, chosen, name, compiled)
        return {}

    def check_model(self, weights: str, result: str, exact: bool) -> dict[str, Any]:
        self.training.check(Path(weights), Path(result), exact)
        return {}

    def cuda_gpt(self, compiled: bool) -> dict[str, Any]:
        from bench.cuda_gpt import Training

        self.training = Training(self.lib, compiled)
        return {"losses": [self.training.step() for _ in range(5)]}

    def cuda_peak(self) -> dict[str, Any]:
        return {"megabytes": self.lib.cuda.max_memory_allocated() / 2**20}

    def device_cases(self, kind: str) -> dict[str, Any]:
        """Gets the cases of bench/cuda_kernels.py of a kind ready; answers what work each does."""
        from bench.cuda_kernels import Prepared

        self.kernels = Prepared(self.lib, kind)
        return {"work": self.kernels.work()}

    def measure_device_case(self, name: str, runs: int) -> dict[str, Any]:
        return {"samples": self.kernels.measure(name, runs)}

    def attention(self, length: int, causal: bool, direction: str, seconds: float, dtype: str) -> dict[str, Any]:
        from bench.cuda_gpt import measure_attention

        return {"samples": measure_attention(self.lib, length, causal, direction, seconds, dtype)}

    def measure_model(self, seconds: float, least: int) -> dict[str, Any]:
        return {"samples": self.training.measure(seconds, least)}

    def product(self, spec: dict[str, Any]) -> dict[str, Any]:
        from bench.products import Product

        self.timed = Product(self.lib, spec)
        return {"checksum": self.timed.checksum()}

    def measure_product(self, seconds: float) -> dict[str, Any]:
        gc.disable()
        samples = self.timed.measure(seconds)
        gc.enable()
        return {"samples": samples}

    def peak_memory(self) -> dict[str, Any]:
        from bench.training import peak_megabytes

        return {"megabytes": peak_megabytes()}

    def prepare_op(self, key: str) -> dict[str, Any]:
        """Builds a case of the operation sweep and answers with samples of its results."""
        from bench.ops import all_cases
        from bench.ops_kit import OpRun

        self.op = None  # the last case's tensors go first
        gc.collect()
        self.op = OpRun(self.lib, next(case for case in all_cases(self.device) if case.key == key), self.device)
        return {"samples": self.op.samples()}

    def measure_op(self, direction: str, seconds: float, least: int) -> dict[str, Any]:
        """Seconds of one call, each sample the mean of as many as take about 50 microseconds (one for a backward). On a
        device a sample ends when the device is ready, and a batch takes about 200 microseconds."""
        run = self.op
        wait = self.wait
        length = 2e-4 if self.device.startswith("cuda") else 5e-5
        gc.collect()
        gc.disable()
        samples: list[float] = []
        with self.lib.no_grad() if direction == "forward" else self.lib.enable_grad():
            batch = 1

            def sample() -> float:
                if direction == "backward":
                    output = run.prepare_backward()
                    wait()
                    begin = time.perf_counter()
                    run.backward(output)
                    wait()
                    return time.perf_counter() - begin
                call = run.call
                wait()
                begin = time.perf_counter()
                for _ in range(batch):
                    call()
                wait()
                return (time.perf_counter() - begin) / batch

            begin = time.perf_counter()
            warm = 0
            while warm < 2 or (time.perf_counter() - begin < seconds / 4 and warm < 200):
                once = sample()
                warm += 1
            batch = max(1, int(length / once)) if direction == "forward" else 1
            begin = time.perf_counter()
            while len(samples) < least or time.perf_counter() - begin < seconds:
                samples.append(sample())
        gc.enable()
        return {"samples": samples}

    def overhead(self, name: str, seconds: float) -> dict[str, Any]:
        """Nanoseconds of one small operation as Python sees it, the median of batches of 100."""
        lib = self.lib
        gradient = "gradient" in name or "chain" in name
        a = self.tensor(np.arange(4, dtype=np.float32)).requires_grad_(gradient)
        b = self.tensor(np.ones(4, dtype=np.float32))

        def adds() -> None:
            for _ in range(100):
                lib.add(a, b)

        def chain() -> None:
            y = a
            for _ in range(100):
                y = y + b
            y.sum().backward()
            a.grad = None

        run = chain if "chain" in name else adds
        samples = []
        gc.disable()
        for _ in range(20):
            run()
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            self.wait()
            begin = time.perf_counter()
            run()
            self.wait()
            samples.append((time.perf_counter() - begin) * 1e9 / 100)
        gc.enable()
        return {"samples": samples}


def main() -> None:
    library, device, threads = sys.argv[1:4]
    # The library may print; requests and answers keep the real standard output to themselves.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker: Worker | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if worker is None:
                worker = Worker(library, device, int(threads))
            answer = getattr(worker, request.pop("do"))(**request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
