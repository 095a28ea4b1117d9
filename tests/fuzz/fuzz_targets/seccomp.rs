//! See [`kelp_fuzz::seccomp`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kelp_fuzz::seccomp(input));
