//! See [`kelp_fuzz::accounts`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kelp_fuzz::accounts(input));
