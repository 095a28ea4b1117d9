//! The 512 bytes in front of each entry.

use super::sparse::{self, Segment};
use super::{BLOCK, Entry, TarError};

/// A header whose checksum is right.
#[derive(Debug)]
pub(super) struct Header {
    block: [u8; BLOCK],
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// Unix version 7: no magic.
    V7,
    /// POSIX: a prefix of 155 bytes goes before the name.
    Ustar,
    /// star: like ustar with a prefix of 131 bytes.
    Star,
    /// GNU: other fields where the prefix would be.
    Gnu,
}

impl Header {
    pub(super) fn new(block: &[u8; BLOCK]) -> Result<Self, &'static str> {
        let stored = number(&block[148..156]).ok_or("a header's checksum is no number")?;
        // The checksum counts its own field as spaces. Some old programs summed signed bytes.
        let (mut unsigned, mut signed) = (0_u64, 0_i64);
        for (index, &byte) in block.iter().enumerate() {
            let byte = if (148..156).contains(&index) {
                b' '
            } else {
                byte
            };
            unsigned += u64::from(byte);
            signed += i64::from(byte as i8);
        }
        if stored != unsigned && i64::try_from(stored) != Ok(signed) {
            return Err("a header's checksum is wrong");
        }
        let format = match &block[257..265] {
            b"ustar  \0" => Format::Gnu,
            [b'u', b's', b't', b'a', b'r', 0, ..] => {
                if &block[508..512] == b"tar\0" {
                    Format::Star
                } else {
                    Format::Ustar
                }
            }
            _ => Format::V7,
        };
        Ok(Self {
            block: *block,
            format,
        })
    }

    pub(super) fn type_flag(&self) -> u8 {
        self.block[156]
    }

    pub(super) fn size(&self) -> Result<u64, TarError> {
        number(&self.block[124..136]).ok_or(TarError::Damaged("an entry's size is no number"))
    }

    /// Fills in what the header itself says; a field that is no number is an error.
    pub(super) fn read_into(&self, entry: &mut Entry) -> Result<(), &'static str> {
        let block = &self.block;
        entry.path.clear();
        let prefix = match self.format {
            Format::Ustar => text(&block[345..500]),
            Format::Star => text(&block[345..476]),
            Format::Gnu | Format::V7 => &[],
        };
        if !prefix.is_empty() {
            entry.path.extend_from_slice(prefix);
            entry.path.push(b'/');
        }
        entry.path.extend_from_slice(text(&block[..100]));
        entry.link.clear();
        entry.link.extend_from_slice(text(&block[157..257]));
        // The high bits are a file type in some archives.
        entry.mode = (number(&block[100..108]).ok_or("a mode is no number")? & 0o7777) as u32;
        entry.uid = number(&block[108..116]).ok_or("an owner is no number")?;
        entry.gid = number(&block[116..124]).ok_or("a group is no number")?;
        entry.mtime = signed_number(&block[136..148]).ok_or("a time is no number")?;
        entry.mtime_nanoseconds = 0;
        (entry.major, entry.minor) = (0, 0);
        if self.format != Format::V7 && matches!(self.type_flag(), b'3' | b'4') {
            let device = |field: &[u8]| {
                number(field)
                    .and_then(|number| u32::try_from(number).ok())
                    .ok_or("a device number is out of range")
            };
            entry.major = device(&block[329..337])?;
            entry.minor = device(&block[337..345])?;
        }
        entry.xattrs.clear();
        Ok(())
    }

    /// The real size and the first segments of an old GNU sparse file, and whether more follow.
    pub(super) fn old_sparse(&self) -> Result<(u64, Vec<Segment>, bool), &'static str> {
        if self.format != Format::Gnu {
            return Err("a sparse file outside of the GNU format");
        }
        let mut segments = Vec::new();
        sparse::read_fields(&self.block[386..482], &mut segments)?;
        let real_size = number(&self.block[483..495]).ok_or("a sparse size is no number")?;
        Ok((real_size, segments, self.block[482] != 0))
    }
}

/// A field's text: up to a NUL, or all of it.
fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|&byte| byte == 0);
    &field[..end.unwrap_or(field.len())]
}

/// A number that can't be negative.
pub(super) fn number(field: &[u8]) -> Option<u64> {
    signed_number(field).and_then(|number| u64::try_from(number).ok())
}

/// A number in octal, or in base 256 if the first bit is set; an empty field is 0.
fn signed_number(field: &[u8]) -> Option<i64> {
    if let [first, rest @ ..] = field
        && first & 0x80 != 0
    {
        // Two's complement over the whole field, whose first bit is only the mark; the second is
        // the sign.
        let negative = first & 0x40 != 0;
        let mut value: i128 = if negative { -1 } else { 0 };
        value = value << 6 | i128::from(first & 0x3f);
        for &byte in rest {
            value = value.checked_mul(256)? | i128::from(byte);
            if i64::try_from(value).is_err() {
                return None;
            }
        }
        return i64::try_from(value).ok();
    }
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !blank(byte));
    let digits = &field[start.unwrap_or(field.len())..];
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    let mut value: i64 = 0;
    for &byte in &digits[..end] {
        if !(b'0'..=b'7').contains(&byte) {
            return None;
        }
        value = value.checked_mul(8)? + i64::from(byte - b'0');
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let huge = [
            0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        ];
        let eight_gigabytes = [0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0];
        for (field, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"644     ", Some(0o644)),
            (b"77777777", Some(0o7777_7777)),
            (b"", Some(0)),
            (b"\0\0\0\0", Some(0)),
            (b"    ", Some(0)),
            (b"12\x003", Some(0o12)),
            (b"0000648\0", None),
            (b"-1", None),
            (b"0x12", None),
            (&huge, None),
            (&eight_gigabytes, Some(8 << 30)),
            (&[0xff; 12], Some(-1)),
            (&[0xff, 0xff, 0xff, 0x9c], Some(-100)),
        ] {
            assert_eq!(signed_number(field), expected, "{field:?}");
        }
        assert_eq!(number(&[0xff; 8]), None);
        assert_eq!(number(b"777777777777"), Some((1 << 36) - 1));
    }
}
