#!/bin/sh
# Stands between cargo and rustc: has Lakegate itself compiled so that a fuzzer sees which ways its code takes, and with what
# is there for fuzzing alone. Everything else is compiled as always, so that it need not be compiled again. The flags are
# those of cargo-fuzz, without a sanitizer, which the stable compiler does not have.
crate=
before=
for argument; do
    [ "$before" = --crate-name ] && crate=$argument
    before=$argument
done
if [ "$crate" = lakegate ]; then
    set -- "$@" --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares
fi
exec "$@"
