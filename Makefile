# Everything runs from nothing: the first target that needs it makes .venv, with the first Python that
# suits, or with PYTHON=...
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

NAME ?= mini

.PHONY: help track compare analyze live bench explorer-speed explorer-pictures saelens kills rehearsal sweep test cluster-test test-interpreters wheel wheel-test lint format lock deploy ui stop clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

track: $(INSTALLED) ## train and register a chain: the embedded mini-LM, or NAME=pythia-410m
	@$(BIN)/saetrack track $(NAME)

compare: $(INSTALLED) ## a chain beside conventional SAEs, three seeds: of the mini-LM, or NAME=pythia-410m
	@$(BIN)/saetrack compare $(NAME)

analyze: $(INSTALLED) ## what the features of a trained chain mean, how they form and drift
	@$(BIN)/saetrack analyze $(NAME)

live: $(INSTALLED) ## a mini-LM trains in one process while a track follows it in another
	@mkdir -p mlruns/mini-live
	@$(BIN)/python -m saetrack.lm.mini mlruns/mini-live & $(BIN)/saetrack track mini-live

sweep: $(INSTALLED) ## every combination of what a sweep varies: of the mini-LM, or NAME=...
	@$(BIN)/saetrack sweep $(NAME)

test: $(INSTALLED) ## the test suite
	@$(BIN)/pytest -q -n 2 --dist worksteal

cluster-test: $(INSTALLED) ## PostgreSQL, both servers with passwords, three workers, one killed
	@$(BIN)/pytest -q -m cluster

test-interpreters: $(INSTALLED) ## each Python of this machine: the locked versions, a chain from the wheel
	@$(BIN)/pytest -q -m interpreters

wheel: $(INSTALLED) ## the wheel that others install, in dist/
	@$(BIN)/python -m build --no-isolation --outdir dist . >/dev/null && ls dist

wheel-test: $(INSTALLED) ## what is in the wheel, and a chain from it in an empty folder
	@$(BIN)/pytest -q tests/test_wheel.py

bench: $(INSTALLED) ## this step and this chain beside the newest peers, each in its own environment
	@$(BIN)/python -m benchmarks

explorer-speed: $(INSTALLED) ## the explorer in a real browser, at 512 x 30 and at 65,536 x 29
	@$(BIN)/python -m tests.checks.explorer_speed

explorer-pictures: $(INSTALLED) ## the pictures of the explorer in docs/images, of NAME's chain
	@$(BIN)/python -m tests.support.explorer_pictures docs/images/explorer $(NAME)

saelens: $(INSTALLED) ## an exported chain in the newest SAELens: the same features and metrics?
	@$(BIN)/python -m tests.checks.saelens_check

kills: $(INSTALLED) ## twenty SIGKILLs over a track of two layers, and what they did: nothing
	@$(BIN)/python -m tests.checks.random_kills

rehearsal: $(INSTALLED) ## the paper's chain with its real shapes and few tokens: time, memory, disk
	@$(BIN)/python -m tests.checks.rehearsal $(if $(SIZE),--size $(SIZE))

lint: $(INSTALLED) ## formatting, rules, types, who imports whom, sizes of files
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m tests.checks.structure

format: $(INSTALLED) ## rewrite to the house's format, and the reference of fields and settings
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/python docs/generated.py

deploy: $(INSTALLED) ## start servers and worker, register the deployments
	@$(BIN)/python deployments/services.py deploy

ui: $(INSTALLED) ## look at everything: the explorer, and from it MLflow and Prefect
	@$(BIN)/python deployments/services.py ui

stop: $(INSTALLED) ## stop what deploy or ui started
	@$(BIN)/python deployments/services.py stop

lock: $(INSTALLED) ## resolve the exact versions anew; UPGRADE=1 takes newer ones
	@$(BIN)/uv pip compile -q $(if $(UPGRADE),--upgrade) pyproject.toml -o deployments/requirements.lock
	@sed -i -E -f deployments/requirements.sed deployments/requirements.lock

clean: ## remove the environment; mlruns/ and the cache stay
	rm -rf $(VENV)

$(INSTALLED): pyproject.toml deployments/requirements.lock
	@deployments/make_venv.sh $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -r deployments/requirements.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: docs
docs: $(INSTALLED) ## build docs/_build/html, strictly: a warning or a failing tutorial is an error
	@$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
