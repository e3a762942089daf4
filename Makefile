# SPDX-License-Identifier: GPL-3.0-or-later
# `make demo` and `make test` are all a newcomer needs; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export GPUFLEET_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/gpufleet-mig
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export PYTHONPATH := $(CURDIR)/.tree
LAB := .venv/bin/python tests/lab/lab.py
PYTEST := .venv/bin/python -m pytest
STEP = @printf '\n== %s (%s) ==\n' "$@" "$$(date +%H:%M:%S)"

.PHONY: help venv demo lab-build lab-up lab-down lab-status hosts-up hosts-test hosts-down molecule-hosts lint types sanity unit integration molecule lab-test drills drills-quick artifact test test-fast test-full bench products clean

help: ## what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

venv: ## .venv with the pinned packages
	@tools/bootstrap.sh

demo: ## build what is missing, start the lab, run site.yml on four hosts, leave it running
	@tools/demo.sh

lab-build: venv ## build the lab's binaries, images and root tree into the cache
	$(LAB) build
lab-up: venv ## start the lab (control plane and four GPU hosts)
	$(LAB) up
lab-down: ## stop the lab and leave nothing behind
	@if [ -x .venv/bin/python ]; then $(LAB) down; else python3 tests/lab/lab.py down; fi
hosts-up: venv ## start hosts with systemd and without a driver, apart from the lab's cluster
	$(LAB) hosts up
hosts-test: venv ## from a bare host to a layout, on hosts with systemd
	$(STEP)
	$(PYTEST) tests/hosts -m 'not full'
hosts-down: ## end them and leave nothing behind
	@if [ -x .venv/bin/python ]; then $(LAB) hosts down; else python3 tests/lab/lab.py hosts down; fi
lab-status: ## what of the lab runs
	$(LAB) status

lint: venv ## ruff, ansible-lint, yamllint, shellcheck
	$(STEP)
	ruff check . && ruff format --check .
	yamllint -s .
	git ls-files -z '*.sh' .ci/run | xargs -0 shellcheck
	ansible-lint --offline --profile production -q
types: venv ## mypy strict
	$(STEP)
	mypy
sanity: venv ## ansible-test sanity on a copy of the tracked files
	$(STEP)
	tools/sanity.sh
unit: venv ## pure code: no GPU, no cluster
	$(STEP)
	$(PYTEST) tests/unit -m 'not full' -n 2
integration: venv ## modules and playbooks against the simulated NVML, no cluster
	$(STEP)
	$(PYTEST) tests/integration -m 'not full' -n 2
artifact: venv ## collection artifact in build/, installed into an empty folder and used from there
	$(STEP)
	tools/artifact.sh
molecule: lab-up ## scenarios none, single, mixed and change on the lab
	$(STEP)
	tools/molecule.sh
molecule-hosts: lab-up hosts-up ## scenarios host_* on hosts with systemd, one of them a node of the lab's cluster
	$(STEP)
	tools/molecule.sh hosts
drills-quick: lab-up
	$(STEP)
	$(PYTEST) tests/drills -m 'not full'
drills: lab-up ## every fault that the roll-out must survive (docs/drills.md), on the lab
	$(STEP)
	$(PYTEST) tests/drills -s
lab-test: lab-up ## demo hosts, pods with their instance, the installed collection, bad input
	$(STEP)
	$(PYTEST) tests/lab -m 'not full'

test: venv ## everything but the exhaustive sweeps
	@tools/test.sh
test-fast: venv ## under a minute: lint, types, unit tests and a sample of the rest; no lab
	@tools/test_fast.sh
test-full: test ## with the exhaustive sweeps
	$(PYTEST) tests/unit tests/integration -m full -n 2
	$(PYTEST) tests/lab tests/drills -m full
	$(PYTEST) tests/hosts
	@$(MAKE) --no-print-directory molecule-hosts
bench: venv ## print the figures (ratios within one run on this machine)
	@tools/bench.sh
products: venv ## regenerate plugins/module_utils/_products.py from facts/mig_products.yaml
	.venv/bin/python tools/generate_products.py
clean: ## remove what was built in the checkout (the cache stays)
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis .ansible
