# Every command a developer or CI needs. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

export COVEY_CACHE ?= /var/cache/covey
PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)
# One environment for each set of declared dependencies, outside the tree, shared by every clone.
VENV := $(COVEY_CACHE)/venv-$(shell { $(PYTHON) --version; sed -n "/^dependencies/,/^.project.scripts/p" pyproject.toml; } 2>/dev/null | sha256sum | cut -c1-12)
BIN := $(VENV)/bin
export PATH := $(BIN):$(PATH)
export PYTHONPATH := agent:tests/lab
STAGES ?=
SOAK ?=

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.ready:
	@tools/prepare venv "$(PYTHON)" "$(VENV)"

venv: $(VENV)/.ready  ## the tools and dependencies, in their own environment

check: venv  ## format, lint, types, layers, unit tests: under two minutes
	@tools/test check

collection: venv  ## the artifact: build/covey-swarm-VERSION.tar.gz
	@tools/collection build

lab-tools: venv
	@tools/prepare lab

test: lab-tools  ## every test; STAGES="unit lab" for some
	@tools/test $(STAGES)

soak: venv  ## fresh schedules for the store's simulation; SOAK="--minutes 30"
	@tools/soak $(SOAK)

bench: lab-tools  ## the figures, printed and written to build/bench.jsonl
	@python3 tools/bench

demo: lab-tools  ## three hosts on this machine, made a cluster by site.yml
	@python3 tools/demo up

demo-show: venv  ## its nodes, services and tasks
	@python3 tools/demo show

demo-down: lab-tools  ## take the demo down again
	@python3 tools/demo down

clean:  ## what was built here; caches stay
	rm -rf build dist roles/agent/files/*.whl CHANGELOG.rst

print-bin:
	@echo $(BIN)

.PHONY: help venv check collection lab-tools test soak bench demo demo-show demo-down clean print-bin
