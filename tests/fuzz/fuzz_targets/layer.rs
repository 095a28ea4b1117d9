//! See [`kelp_fuzz::layer`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kelp_fuzz::layer(input));
