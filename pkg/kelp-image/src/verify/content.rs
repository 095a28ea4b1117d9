//! A hash of a file's content for which holes cost nothing.

use crate::digest::{Algorithm, Digest, Hasher};

/// What is hashed at a time; blocks of zeros are left out, so that a hole is what it reads as.
const BLOCK: usize = 4096;

/// Hashes content by places that ascend.
pub(super) struct ContentHash {
    hasher: Hasher,
    /// The number of the block that is being filled, and what it has so far.
    number: u64,
    block: Box<[u8; BLOCK]>,
}

impl ContentHash {
    pub(super) fn new() -> Self {
        Self {
            hasher: Hasher::new(Algorithm::Sha256),
            number: 0,
            block: Box::new([0; BLOCK]),
        }
    }

    /// Adds bytes that stand at `offset`, which is not before the end of the last ones.
    pub(super) fn add(&mut self, mut offset: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (number, start) = (offset / BLOCK as u64, (offset % BLOCK as u64) as usize);
            if number != self.number {
                self.flush();
                self.number = number;
            }
            let count = bytes.len().min(BLOCK - start);
            self.block[start..start + count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            offset += count as u64;
        }
    }

    pub(super) fn finish(mut self) -> Digest {
        self.flush();
        self.hasher.finish()
    }

    fn flush(&mut self) {
        if self.block.iter().all(|&byte| byte == 0) {
            return;
        }
        self.hasher.update(&self.number.to_le_bytes());
        self.hasher.update(&self.block[..]);
        self.block.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(parts: &[(u64, &[u8])]) -> Digest {
        let mut hash = ContentHash::new();
        for (offset, bytes) in parts {
            hash.add(*offset, bytes);
        }
        hash.finish()
    }

    #[test]
    fn a_hole_is_zeros_and_pieces_are_a_whole() {
        let zeros = vec![0; 3 * BLOCK];
        let whole = [&b"start"[..], &zeros, b"end"].concat();
        let end = 5 + zeros.len() as u64;
        assert_eq!(hash(&[(0, &whole)]), hash(&[(0, b"start"), (end, b"end")]));
        assert_eq!(
            hash(&[(0, &whole)]),
            hash(&[(0, &whole[..5000]), (5000, &whole[5000..])])
        );
        assert_ne!(
            hash(&[(0, &whole)]),
            hash(&[(0, b"start"), (end + 1, b"end")])
        );
        assert_eq!(hash(&[]), hash(&[(0, &zeros)]));
    }
}
