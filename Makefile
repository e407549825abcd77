# The commands of this project. Each installs what it needs first (tests/setup.sh).
.PHONY: lab test test-upstream lint check bench dist test-vm setup
CARGO ?= cargo

lab: setup ## A cluster on this machine: a control plane and three workers
	$(CARGO) build -q -p svcd
	@if [ "$$(id -u)" -eq 0 ]; then target/debug/svcd lab up; else sudo target/debug/svcd lab up; fi

# Tests make network namespaces: whoever is not root builds as themselves, and runs what was built through sudo.
HOST = $(shell rustc -vV | sed -n 's/^host: //p' | tr a-z- A-Z_)
RUNNER = $(shell [ "$$(id -u)" -eq 0 ] || echo CARGO_TARGET_$(HOST)_RUNNER="sudo -E")

test: ## All tests
	@tests/setup.sh clients
	$(CARGO) build -q --workspace --all-targets
	env $(RUNNER) $(CARGO) test --workspace

test-upstream: ## Upstream's controllers, scheduler and proxy against ours; builds them first, for an hour
	tests/setup.sh upstream
	$(CARGO) build -q -p svcd
	env $(RUNNER) SVCD_TEST_UPSTREAM=1 $(CARGO) test -p svcd-tests --test clients upstream::

lint: ## What CI checks besides the tests
	tests/setup.sh lint
	$(CARGO) fmt --all --check
	$(CARGO) clippy -q --workspace --all-targets -- -D warnings
	$(CARGO) deny check --hide-inclusion-graph licenses bans sources
	tests/ansible/check

check: test lint ## What CI runs

bench: setup ## The budgets of docs/BUDGETS.md, measured on this machine
	tests/bench/run

dist: setup ## The binary as it is shipped, an archive and a Debian package, in target/dist
	@cmd/svcd/packaging/dist

test-vm: ## The playbooks of ansible/ on real machines under qemu; see tests/vm/README.md
	@tests/setup.sh vm
	tests/vm/run

setup:
	@tests/setup.sh
