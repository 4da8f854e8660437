# Sourced by the scripts that measure, from the root of the clone: LAKEGATE_TEST_BINARY names the binary to measure; unless
# it is set, a release build is made.
if [ -z "${LAKEGATE_TEST_BINARY:-}" ]; then
    cargo build --release
    LAKEGATE_TEST_BINARY="$(cd "${CARGO_TARGET_DIR:-target}" && pwd)/release/lakegate"
fi
export LAKEGATE_TEST_BINARY
