//! Gives what a fuzzer makes up to one of Lakegate's readers of foreign bytes: the one that `LAKEGATE_FUZZ_TARGET` names.
//!
//! One binary for all, because most of the time it takes to make one is spent on linking Lakegate.

#![no_main]

use std::sync::OnceLock;

use lakegate::auth::fuzzing::{credential, jwt};
use lakegate::serve::fuzzing::{batch, cursor, key};
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

fn target() -> fn(&[u8]) {
    let name = std::env::var("LAKEGATE_FUZZ_TARGET").unwrap_or_default();
    match name.as_str() {
        "key" => key,
        "cursor" => cursor,
        "batch" => batch,
        "credential" => credential,
        "jwt" => jwt,
        other => panic!("LAKEGATE_FUZZ_TARGET names no target: {other:?}"),
    }
}

fuzz_target!(|data: &[u8]| TARGET.get_or_init(target)(data));
