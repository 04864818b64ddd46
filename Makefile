# Every target first makes .venv if need be: a virtual environment with the exact versions in requirements*.txt.
# Tools run as modules of its Python, so the folder may be moved. PATH is for `python` in dvc.yaml.

SHELL := bash
.SHELLFLAGS := -o pipefail -c

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export NO_ALBUMENTATIONS_UPDATE := 1
# DVC fails for a user id without a name, as in containers.
export USER ?= $(shell id -un 2>/dev/null || echo nobody)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

PYTHON := .venv/bin/python
RUNTIME := .venv/.runtime-installed
TOOLS := .venv/.tools-installed

PEERS := build/peers/.installed
APP := build/app/.installed
WEB := build/onnxruntime-web/.installed
WEB_URL := https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-1.30.0.tgz
WEB_SHA512 := ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61
TRY_WEB = @$(MAKE) --no-print-directory $(WEB) || echo "the tests of the exported page are skipped without it" >&2

# PyTorch's build for CPUs saves 4 GB of CUDA libraries: `make demo TORCH=cpu` the first time. Later calls remember it.
TORCH_INDEX := https://download.pytorch.org/whl/cpu
CPU := .venv/requirements-cpu.txt

# Show only pip's large downloads, as a sign of progress; its errors are on stderr. Without --use-pep517, the pip of
# Python 3.11 warns of one package that has no wheel.
INSTALL = $(PYTHON) -m pip install --progress-bar off --use-pep517 $(1) | awk ' \
	/Downloading .*\([0-9][0-9]+(\.[0-9]+)? MB\)$$/ { sub(".*/", ""); sub("Downloading ", ""); print "  " $$0; fflush() } \
	/^Installing collected/ { print "  installing " NF - 3 " packages"; fflush() }'

.PHONY: help demo repro check doctor test test-fast coverage hooks compare predict ui app page bench soak

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' Makefile

demo: $(RUNTIME) ## all stages on embedded data: minutes, no network
	$(PYTHON) -m pipeline.demo

repro: check ## all stages as params.yaml says; with RECIPE=fast90, as recipes/fast90.yaml says, as an experiment
ifdef RECIPE
	$(PYTHON) -m pipeline.recipe $(RECIPE) $(if $(FOLDER),--folder "$(FOLDER)")
else
	$(PYTHON) -m dvc repro
	$(PYTHON) -m pipeline.sync
endif

check: $(RUNTIME) ## is params.yaml valid, and does anything here prevent a run?
	$(PYTHON) -m pipeline.check

doctor: $(RUNTIME) ## checks Git, links, locks, disk, versions, store and port: one line each, with the remedy
	$(PYTHON) -m pipeline.doctor

test: $(TOOLS) $(APP) ## lint, types and tests
	$(TRY_WEB)
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy
	$(PYTHON) -m pytest

test-fast: $(TOOLS) ## the tests that start no process, server or browser: a minute
	$(PYTHON) -m pytest tests/unit

coverage: $(TOOLS) $(APP) ## all tests, and the share of branches that they run: about twice as long
	$(TRY_WEB)
	$(PYTHON) -m pytest --cov --cov-report=
	@echo "Branch coverage: $$($(PYTHON) -m coverage report --format=total) %"

hooks: $(TOOLS) ## check each commit before it is made
	$(PYTHON) -m pre_commit install

bench: $(RUNTIME) $(PEERS) ## speed and memory, against other libraries: ten minutes on two quiet cores
	$(PYTHON) -m benchmarks

soak: $(TOOLS) ## kill a pipeline at 20 random moments, and compare the results
	PYTHONPATH=.:src:tests $(PYTHON) tests/soak.py

compare: $(RUNTIME) ## is run B better than run A? make compare A=HEAD B=workspace
	@$(PYTHON) -m pipeline.compare $(A) $(B)

predict: $(RUNTIME) ## the classes of pictures: make predict IMAGES="photo.jpg folder"
	@$(PYTHON) -m pipeline.predict $(IMAGES)

ui: $(RUNTIME) ## the runs in MLflow, on http://127.0.0.1:5000 or MLFLOW_PORT
	$(PYTHON) -m pipeline.ui

app: $(RUNTIME) $(APP) ## a page to try the model: a photo in, a name out, and where the network saw it
	$(PYTHON) -m pipeline.app

page: $(RUNTIME) $(WEB) ## the exported model as a web page for any static server: export/page
	@$(PYTHON) -m pipeline.page

.venv/bin/pip:
	@for python in python3.11 python3.12 python3.13 python3; do \
		if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then \
			echo "Creating .venv with $$($$python --version)"; exec $$python -m venv --clear .venv; \
		fi; \
	done; \
	echo "error: Python 3.11, 3.12 or 3.13 is needed, as python3.11 or python3 on the PATH" >&2; exit 1

$(RUNTIME): requirements.txt | .venv/bin/pip
ifneq ($(filter-out cpu,$(TORCH)),)
	@echo "error: TORCH is $(TORCH); allowed: cpu" >&2; exit 1
endif
	@echo "Installing packages into .venv: some minutes, once"
	@if [ "$(TORCH)" = cpu ] || [ -e $(CPU) ]; then \
		grep -vE '^(cuda|nvidia|triton)' requirements.txt > $(CPU) && \
		$(call INSTALL,--no-deps --index-url $(TORCH_INDEX) $$(grep -oE '^torch(vision)?==[^ ]+' $(CPU))) && \
		$(call INSTALL,-r $(CPU)); \
	else \
		$(call INSTALL,-r requirements.txt); \
	fi
	@touch $@

$(TOOLS): requirements-dev.txt $(RUNTIME)
	@$(call INSTALL,-r requirements-dev.txt)
	@touch $@

$(PEERS): benchmarks/requirements.txt $(RUNTIME)
	rm -rf build/peers
	@$(call INSTALL,--target build/peers --no-deps -r benchmarks/requirements.txt)
	@touch $@

$(APP): requirements-app.txt $(RUNTIME)
	rm -rf build/app
	@$(call INSTALL,--target build/app --no-deps -r requirements-app.txt)
	@touch $@

$(WEB):
	rm -rf build/onnxruntime-web && mkdir -p build/onnxruntime-web
	curl -fsSL $(WEB_URL) -o build/onnxruntime-web/package.tgz
	echo "$(WEB_SHA512)  build/onnxruntime-web/package.tgz" | sha512sum --check --quiet
	tar -xzf build/onnxruntime-web/package.tgz -C build/onnxruntime-web --strip-components=2 \
		package/dist/ort.wasm.bundle.min.mjs package/dist/ort-wasm-simd-threaded.wasm
	rm build/onnxruntime-web/package.tgz
	@touch $@
