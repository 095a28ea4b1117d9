//! See [`kelp_fuzz::process`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kelp_fuzz::process(input));
