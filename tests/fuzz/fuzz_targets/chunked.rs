//! See [`kelp_fuzz::chunked`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kelp_fuzz::chunked(input));
