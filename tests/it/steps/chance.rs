//! Which steps are tried: all of them in a nightly run, and some by chance in any other.

use std::time::{SystemTime, UNIX_EPOCH};

/// Whether tests that choose some of many cases are to try all: KELP_TEST_NIGHTLY is set.
pub(crate) fn is_nightly() -> bool {
    std::env::var_os("KELP_TEST_NIGHTLY").is_some()
}

/// Numbers by chance, the same ones for the same seed (xorshift64*).
#[derive(Debug)]
pub(crate) struct Chance {
    state: u64,
}

impl Chance {
    /// Of KELP_TEST_SEED, or of the time; the seed is told.
    pub(crate) fn new() -> Self {
        let given = std::env::var("KELP_TEST_SEED").ok();
        let seed = given.map_or_else(
            || {
                SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap()
                    .as_nanos() as u64
            },
            |seed| seed.parse().expect("KELP_TEST_SEED is a number"),
        );
        eprintln!("KELP_TEST_SEED={seed}");
        Self::of(seed)
    }

    /// Of this seed.
    pub(crate) fn of(seed: u64) -> Self {
        Self {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    /// One below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end.max(1)
    }

    /// `some` of the numbers from 1 to `last`, spread over all of them.
    pub(crate) fn choose(&mut self, last: usize, some: usize) -> Vec<usize> {
        let some = some.min(last);
        (0..some)
            .map(|part| {
                let (from, to) = (last * part / some, last * (part + 1) / some);
                1 + from + self.below(to - from)
            })
            .collect()
    }
}
