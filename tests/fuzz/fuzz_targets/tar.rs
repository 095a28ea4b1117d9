//! See [`kelp_fuzz::tar`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kelp_fuzz::tar(input));
