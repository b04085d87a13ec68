# `make demo` and `make test` need make and Python 3.10 to 3.13, nothing else: they build their own environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# setuptools' advice to packagers is not for those who install.
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip --disable-pip-version-check install --quiet
TASKS := maze2d-umaze maze2d-medium maze2d-large arm-reach arm-pick tmaze remember-color-3 remember-color-5 remember-color-9 take-it-back swap
PUSHT ?= pusht_cchi_v7_replay.zarr.zip
export OMP_NUM_THREADS ?= 1

.PHONY: help demo test test-ros pythons resolve models pusht benchmark clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

demo: $(VENV)/.installed ## plan and drive one maze with the model that ships; draw plan.png and denoise.gif
	$(BIN)/dfplan plan maze2d-large --out .
	@echo
	@echo "plan.png     the candidate plans, the one that was chosen, and the way the robot then drove"
	@echo "denoise.gif  the same plan appearing out of noise, with the noise level of each of its tokens"

test: $(VENV)/.installed-dev ## lint, types and all tests
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest

test-ros: ## test with real ROS 2, a second DDS and rosbridge, in environments of their own
	PYTHON=$(PYTHON) bash scripts/test_ros.sh

pythons: ## see that every supported Python of this machine can install this
	bash scripts/pythons.sh

resolve: $(BIN)/python
	$(PIP) --dry-run '.[dev]'

models: $(VENV)/.installed ## train the maze and arm models that ship (generates or downloads their data first)
	for task in $(TASKS); do \
	  $(BIN)/dfplan train $$task --out runs/$$task --export dfplan/models/$$task || exit 1; \
	done

pusht: $(VENV)/.installed ## train the Push-T model that ships: make pusht PUSHT=pusht_cchi_v7_replay.zarr.zip
	$(PIP) --editable '.[pusht,zarr]'
	$(BIN)/dfplan train pusht --data $(PUSHT) --out runs/pusht --export dfplan/models/pusht

benchmark: $(VENV)/.installed ## measure the published numbers again
	$(BIN)/python scripts/benchmark.py

clean: ## remove the environment and what the targets made, except runs/
	rm -rf $(VENV) .venv-ros build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis plan.png denoise.gif

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(None if (3, 10) <= sys.version_info < (3, 14) else \
	  f"got Python {v}, expected 3.10 to 3.13; choose one with: make PYTHON=python3.12")'
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	  echo "$(PYTHON) has no venv module; install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@$(PIP) --upgrade 'pip>=25'  # 23.0, which Python 3.10 brings, does not finish resolving

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV); the first time takes some minutes"
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV); the first time takes some minutes"
	$(PIP) --editable '.[dev]'
	$(PIP) --no-deps robomimic==0.3.0  # with its dependencies it would replace torch; reading data needs these alone
	$(PIP) psutil six tensorboardX termcolor imageio
	@touch $(VENV)/.installed $@
