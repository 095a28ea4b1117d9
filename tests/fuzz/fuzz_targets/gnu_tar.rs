//! See [`kelp_fuzz::gnu_tar`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kelp_fuzz::gnu_tar(input));
