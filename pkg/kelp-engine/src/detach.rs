//! The keys that detach, in what is typed.

/// Looks for the detach keys. A key that may begin the sequence is held back until the next ones show
/// whether it was meant.
#[derive(Debug)]
pub(crate) struct Keys {
    sequence: Vec<u8>,
    matched: usize,
}

impl Keys {
    /// Looks for this sequence; for nothing if it is empty.
    pub(crate) fn new(sequence: Vec<u8>) -> Self {
        Self {
            sequence,
            matched: 0,
        }
    }

    /// What to pass on, and whether the sequence is complete.
    pub(crate) fn filter(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        if self.sequence.is_empty() {
            return (bytes.to_vec(), false);
        }
        let mut passed = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            while self.matched > 0 && byte != self.sequence[self.matched] {
                // What is held back may end with another beginning of the sequence.
                let held = &self.sequence[..self.matched];
                let kept = beginning_at_end(held);
                passed.extend_from_slice(&held[..held.len() - kept]);
                self.matched = kept;
            }
            if byte != self.sequence[self.matched] {
                passed.push(byte);
                continue;
            }
            self.matched += 1;
            if self.matched == self.sequence.len() {
                self.matched = 0;
                return (passed, true);
            }
        }
        (passed, false)
    }

    /// What is held back when nothing more is typed.
    pub(crate) fn take_held(&mut self) -> Vec<u8> {
        self.sequence[..std::mem::take(&mut self.matched)].to_vec()
    }
}

/// The length of the longest end that is also a beginning, short of the whole.
fn beginning_at_end(held: &[u8]) -> usize {
    let mut lengths = (0..held.len()).rev();
    lengths
        .find(|&length| held.ends_with(&held[..length]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_found_across_reads_and_others_pass() {
        let mut keys = Keys::new(vec![16, 17]);
        assert_eq!(keys.filter(b"ab"), (b"ab".to_vec(), false));
        assert_eq!(keys.filter(&[16]), (vec![], false));
        assert_eq!(keys.filter(b"x"), (vec![16, b'x'], false));
        assert_eq!(keys.filter(&[16, 16, 17]), (vec![16], true));
        let mut none = Keys::new(vec![]);
        assert_eq!(none.filter(&[16, 17]), (vec![16, 17], false));
    }

    #[test]
    fn a_sequence_that_begins_in_the_middle_of_another_try_is_found() {
        for (sequence, typed, passed, detached) in [
            ("aab", "aaab", "a", true),
            ("aab", "aacaab", "aac", true),
            ("abac", "ababac", "ab", true),
            ("abac", "abab", "ab", false),
            ("aa", "aXaa", "aX", true),
        ] {
            // In one read, and a key at a time.
            let mut keys = Keys::new(sequence.into());
            assert_eq!(
                keys.filter(typed.as_bytes()),
                (passed.into(), detached),
                "{typed}"
            );
            let mut keys = Keys::new(sequence.into());
            let mut got = (Vec::new(), false);
            for byte in typed.bytes() {
                let (bytes, found) = keys.filter(&[byte]);
                got.0.extend(bytes);
                got.1 |= found;
            }
            assert_eq!(got, (passed.into(), detached), "{typed}");
        }
    }

    #[test]
    fn a_key_that_is_held_back_at_the_end_is_there_to_be_passed_on() {
        let mut keys = Keys::new(b"abc".into());
        assert_eq!(keys.filter(b"xab"), (b"x".to_vec(), false));
        assert_eq!(keys.take_held(), b"ab");
        assert_eq!(keys.take_held(), b"");
        assert_eq!(Keys::new(Vec::new()).take_held(), b"");
    }
}
