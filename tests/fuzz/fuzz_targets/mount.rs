//! See [`kelp_fuzz::mount`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kelp_fuzz::mount(input));
