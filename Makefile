# Two commands matter to a newcomer: `make demo` and `make test`. `make help` lists the rest.
BUILD ?= build
JOBS ?= $(shell nproc)
DEVICE ?= cpu
ARGS ?=
VENV := .venv
PYTHON := $(VENV)/bin/python
CMAKE_ARGS ?=
RUN_PYTHON := PYTHONPATH=$(CURDIR)/$(BUILD)/python:$(CURDIR)/tests/python $(PYTHON)

.DEFAULT_GOAL := help
.PHONY: help setup setup-tests build python demo test test-cpp test-python parity bench bench-quick bench-kernels bench-ops \
  bench-models bench-profile bench-record bench-shapes bench-compare gpu-check format lint docs clean

help: ## list the commands
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what a build needs (apt, and Python parts into .venv)
	@scripts/setup

setup-tests:
	@scripts/setup --torch

$(BUILD)/build.ninja: CMakeLists.txt
	@scripts/configure $(BUILD) $(CMAKE_ARGS)

build: setup ## build everything, Release
	@scripts/configure $(BUILD) $(CMAKE_ARGS)
	@cmake --build $(BUILD) -j $(JOBS)

demo: setup ## train a CNN in C++ on Fashion-MNIST (DEVICE=cuda, ARGS="--data DIR --epochs N --resume")
	@scripts/configure $(BUILD) $(CMAKE_ARGS)
	@cmake --build $(BUILD) -j $(JOBS) --target fashion_mnist
	@$(BUILD)/examples/cpp/fashion_mnist --device $(DEVICE) $(ARGS)

test: setup-tests ## build and run all tests, C++ and Python
	@scripts/configure $(BUILD) $(CMAKE_ARGS)
	@cmake --build $(BUILD) -j $(JOBS)
	@$(RUN_PYTHON) scripts/test.py --build $(BUILD) --jobs $(JOBS) $(ARGS)

test-cpp: setup ## the C++ half alone (no Python packages, no PyTorch)
	@scripts/configure $(BUILD) $(CMAKE_ARGS)
	@cmake --build $(BUILD) -j $(JOBS)
	@python3 scripts/test.py --build $(BUILD) --jobs $(JOBS) --only cpp $(ARGS)

test-python: setup-tests ## the Python half alone
	@scripts/configure $(BUILD) $(CMAKE_ARGS)
	@cmake --build $(BUILD) -j $(JOBS)
	@$(RUN_PYTHON) scripts/test.py --build $(BUILD) --jobs $(JOBS) --only python $(ARGS)

parity: setup-tests build ## every OpInfo, module and optimizer sample against PyTorch, with a report
	@$(RUN_PYTHON) -m parity $(ARGS)

bench: setup-tests build ## the table beside PyTorch; writes BENCHMARK.md (DEVICE=cuda, ARGS="--json FILE")
	@$(RUN_PYTHON) -m bench.table --device $(DEVICE) --build $(BUILD) $(ARGS)

bench-quick: setup-tests build ## the same table in under a minute, nothing written
	@$(RUN_PYTHON) -m bench.table --quick --device $(DEVICE) --build $(BUILD) $(ARGS)

bench-ops: setup-tests build ## every other operation over many shapes beside PyTorch, the worst first (ARGS=--help)
	@$(RUN_PYTHON) -m bench.ops $(ARGS)

bench-models: setup-tests build ## whole training steps beside PyTorch eager and torch.compile (ARGS=--help)
	@$(RUN_PYTHON) -m bench.models $(ARGS)

bench-profile: setup build ## where the time of a model's step goes, by operation: make bench-profile ARGS=gpt
	@$(RUN_PYTHON) -m bench.profile $(ARGS)

bench-kernels: build ## GFLOP/s and GB/s of each kernel and instruction set, as a share of the peak (ARGS=--help)
	@scripts/bench-kernels $(BUILD) $(ARGS)

bench-shapes: setup-tests build ## convolution and attention over many shapes beside PyTorch, the worst ratio first
	@$(RUN_PYTHON) -m bench.shapes $(ARGS)

bench-record: setup ## keep a release point: make bench-record ARGS="0.1.0-cpu TABLE.json MODELS.json KERNELS.json"
	@$(PYTHON) -m bench.record $(ARGS)

bench-compare: setup ## compare two recorded runs: make bench-compare ARGS="OLD.json NEW.json"
	@$(PYTHON) -m bench.compare $(ARGS)

gpu-check: ## build, test and measure the CUDA half on a machine with a GPU
	@scripts/gpu-check $(ARGS)

format: setup ## format C++ and Python in place
	@scripts/lint --fix

lint: setup ## check formatting, Python style and the type stubs
	@scripts/lint

clean: ## remove the build folder (.venv stays)
	@rm -rf $(BUILD)
