//! See [`kelp_fuzz::kept`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kelp_fuzz::kept(input));
