#!/bin/sh
# Lets clients ask `lakegate up` and a replica for long, at half the rate that the machine is capable of, while tables are
# refreshed, API keys come and go, Postgres dies and comes back, and some clients are slow. Checks every answer against the
# version that it says it is of, and that memory does not grow. Prints its seed, and at the end how many there were of what.
#
#   scripts/soak.sh MINUTES        LAKEGATE_TEST_SEED asks the same questions again
#
# LAKEGATE_TEST_BINARY names another binary than the one built with the tests.
set -eu
cd "$(dirname "$0")/.."
export LAKEGATE_TEST_SOAK_MINUTES="${1:?for how many minutes?}"
cargo test --locked --test it soak:: -- --nocapture
