#!/bin/sh
# Lets syncs die in random ways at random places, for long, and checks after each death that nothing is torn, lost, doubled
# or left behind. Prints its seed, each round, and at the end how many there were of what.
#
#   scripts/torture.sh MINUTES        LAKEGATE_TEST_SEED repeats a run
#
# LAKEGATE_TEST_BINARY names another binary than the one built with the tests; it must have failpoints.
set -eu
cd "$(dirname "$0")/.."
export LAKEGATE_TEST_TORTURE_MINUTES="${1:?for how many minutes?}"
cargo test --locked --test it torture:: -- --nocapture
