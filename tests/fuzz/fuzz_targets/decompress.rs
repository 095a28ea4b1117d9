//! See [`kelp_fuzz::decompress`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kelp_fuzz::decompress(input));
