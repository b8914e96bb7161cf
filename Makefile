# Every job of the course, by name. Needs Python ≥ 3.11, make and git; sets up .venv by itself.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
JOBS ?= 2
BIN := .venv/bin
READY := .venv/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONUTF8 := 1

.PHONY: help course test book exercises handout grade lab bench stress lint pins clean

help:  ## list the jobs
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

$(READY): requirements.txt pyproject.toml tools/setup.py
	@$(PYTHON) tools/setup.py

course: $(READY)  ## the main job: the book, the exercises, a graded example class
	@$(BIN)/python tools/course.py --jobs $(JOBS)

test: $(READY) exercises book  ## every test that takes seconds
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -m "not stress"

book: $(READY) exercises  ## execute what changed, render with warnings as errors
	@$(BIN)/python tools/book.py --jobs $(JOBS)

exercises: $(READY)  ## release solutions/ into exercises/
	@$(BIN)/python tools/exercises.py

handout: exercises  ## what students get, as a folder and a zip: no solutions, no hidden tests
	@$(BIN)/python tools/handout.py

grade: $(READY)  ## grade submitted/
	@$(BIN)/python tools/grade.py --jobs $(JOBS)

lab: $(READY)  ## JupyterLab in exercises/
	@$(BIN)/jupyter lab --notebook-dir exercises

bench: $(READY)  ## ours against peers, side by side in one run
	@$(BIN)/python benchmarks/run.py

stress: $(READY)  ## tests that take longer than minutes, line coverage, mutation testing
	@$(BIN)/python -m pytest -m stress
	@CUDA_VISIBLE_DEVICES= $(BIN)/python -m pytest tests/lookback \
		--cov=src/lookback --cov-report=term-missing:skip-covered --cov-fail-under=95
	@$(BIN)/python tools/mutation.py

lint: $(READY)  ## ruff and codespell
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/codespell

pins:  ## compile requirements.txt from pyproject.toml (needs uv)
	@$(PYTHON) tools/pins.py

clean:  ## remove everything that was made, .venv too
	rm -rf .venv _build .pytest_cache .ruff_cache .hypothesis src/*.egg-info
