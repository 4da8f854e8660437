# `make demo` and `make test` do all the set-up they need.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup build demo fmt lint test deny torture soak fuzz check-contract check-instructions bench bench-serve bench-shapes

# Where rustup puts cargo, which a shell opened before its installation does not know yet.
export PATH := $(PATH):$(HOME)/.cargo/bin

# Compiled dependencies are most of a build. Outside the clone, the next clone finds them.
ifndef CARGO_TARGET_DIR
CARGO_TARGET_DIR := $(shell dir="$${XDG_CACHE_HOME:-$${HOME:-/nonexistent}/.cache}/lakegate/target"; \
	if mkdir -p "$$dir" 2>/dev/null && [ -w "$$dir" ]; then echo "$$dir"; else echo "$(CURDIR)/target"; fi)
endif
export CARGO_TARGET_DIR

# What is built once gains nothing from incremental compilation, and would leave its files in the cache.
ifdef CI
export CARGO_INCREMENTAL := 0
endif

help:
	@echo 'make demo   set up, write a sample lake, sync it into Postgres and serve it until Ctrl-C'
	@echo 'make test   set up, then check format, lints, tests and licences'
	@echo 'make build  set up, then build the development binary'
	@echo 'make fmt    format the sources'
	@echo 'make torture MINUTES=10'
	@echo '            let syncs die in random ways for so long, and check what is left'
	@echo 'make soak MINUTES=60'
	@echo '            answer questions for so long while everything changes, and check every answer'
	@echo 'make fuzz MINUTES=10'
	@echo '            make up what strangers may send, for so long each of what reads it'
	@echo 'make check-contract'
	@echo '            hold a running server to its OpenAPI document, by tools of others'
	@echo 'make check-instructions'
	@echo '            count what encoding and hashing a row takes, and hold it to what it took'
	@echo 'make bench PEERS="duckdb pgpq adbc dlt sling spark"'
	@echo '            measure loads beside Postgres itself and other loaders'
	@echo 'make bench-shapes'
	@echo '            measure loads of few and many rows, narrow and wide, beside Postgres itself'
	@echo 'make bench-serve'
	@echo '            measure lookups beside Postgres itself, plain HTTP and a usual service'

setup:
	@scripts/setup.sh

build: setup
	cargo build --locked

demo: build
	@scripts/demo.sh "$(CARGO_TARGET_DIR)/debug/lakegate"

fmt:
	cargo fmt

lint: setup
	cargo fmt --check
	@if cargo clippy --version >/dev/null 2>&1; then \
		set -x; cargo clippy --locked --all-targets -- -D warnings; \
	else \
		echo 'clippy is not installed: lints are not checked (rustup component add clippy)'; \
	fi

test: lint deny
	cargo test --locked --all-targets

MINUTES ?= 10

torture: setup
	@scripts/torture.sh $(MINUTES)

soak: setup
	@scripts/soak.sh $(MINUTES)

fuzz: setup
	@scripts/fuzz.sh $(MINUTES)

check-contract: build
	@scripts/check-contract.sh

check-instructions: setup
	@scripts/check-instructions.sh

bench: setup
	@scripts/bench.sh

bench-shapes: setup
	@scripts/bench.sh shapes

bench-serve: setup
	@scripts/bench-serve.sh

# Compiling cargo-deny takes longer than everything else here: it is used where it is installed.
deny: setup
	@if cargo deny --version >/dev/null 2>&1; then \
		set -x; cargo deny check licenses bans sources; \
	else \
		echo 'cargo-deny is not installed: licences and sources of dependencies are not checked'; \
	fi
