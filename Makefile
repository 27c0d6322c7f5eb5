# Every command a developer or CI needs. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CACHE ?= /var/cache/covey
PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)
# One environment for each set of declared dependencies, outside the tree, shared by every clone.
VENV := $(CACHE)/venv-$(shell { $(PYTHON) --version; sed -n "/^dependencies/,/^.project.scripts/p" pyproject.toml; } 2>/dev/null | sha256sum | cut -c1-12)
BIN := $(VENV)/bin
export PATH := $(BIN):$(PATH)

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.ready:
	@tools/prepare venv "$(PYTHON)" "$(VENV)"

venv: $(VENV)/.ready  ## the tools and dependencies, in their own environment
print-bin:
	@echo $(BIN)

.PHONY: help venv print-bin
