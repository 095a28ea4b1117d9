//! See [`kelp_fuzz::config`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kelp_fuzz::config(input));
