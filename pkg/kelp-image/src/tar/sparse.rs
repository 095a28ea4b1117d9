//! Sparse files: where the stored bytes lie between the holes.

use super::BLOCK;
use super::header::number;
use super::pax::parse_decimal;

/// The most segments of one file.
pub const SEGMENT_LIMIT: usize = 1 << 20;

/// A stretch of a file whose bytes are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// How many bytes it has.
    pub length: u64,
}

pub(super) fn push(segments: &mut Vec<Segment>, segment: Segment) -> Result<(), &'static str> {
    if segments.len() == SEGMENT_LIMIT {
        return Err("a sparse file has too many segments");
    }
    segments.push(segment);
    Ok(())
}

/// Reads the pairs of an old GNU header, which end with an empty one.
pub(super) fn read_fields(fields: &[u8], segments: &mut Vec<Segment>) -> Result<(), &'static str> {
    for pair in fields.chunks_exact(24) {
        if pair[0] == 0 || pair[12] == 0 {
            break;
        }
        let field = |bytes| number(bytes).ok_or("a sparse map is no list of numbers");
        let segment = Segment {
            offset: field(&pair[..12])?,
            length: field(&pair[12..])?,
        };
        push(segments, segment)?;
    }
    Ok(())
}

/// Reads a block of further pairs; true if another block follows.
pub(super) fn read_extension_block(
    block: &[u8; BLOCK],
    segments: &mut Vec<Segment>,
) -> Result<bool, &'static str> {
    let before = segments.len();
    read_fields(&block[..504], segments)?;
    let more = block[504] != 0;
    if more && segments.len() == before {
        return Err("an empty part of a sparse map");
    }
    Ok(more)
}

/// Reads the map of pax format 1.0: a count, then offsets and lengths, each on a line.
#[derive(Debug, Default)]
pub(super) struct MapParser {
    pub(super) segments: Vec<Segment>,
    line: Vec<u8>,
    count: Option<u64>,
    offset: Option<u64>,
}

impl MapParser {
    /// Takes in a block; true once the map is complete, whose last block is padded.
    pub(super) fn read(&mut self, block: &[u8]) -> Result<bool, &'static str> {
        for &byte in block {
            if byte != b'\n' {
                if self.line.len() == 20 {
                    return Err("a sparse map is no list of numbers");
                }
                self.line.push(byte);
                continue;
            }
            let number = parse_decimal(&self.line).ok_or("a sparse map is no list of numbers")?;
            self.line.clear();
            match (self.count, self.offset.take()) {
                (None, _) => {
                    if number > SEGMENT_LIMIT as u64 {
                        return Err("a sparse file has too many segments");
                    }
                    self.count = Some(number);
                }
                (Some(_), None) => self.offset = Some(number),
                (Some(_), Some(offset)) => self.segments.push(Segment {
                    offset,
                    length: number,
                }),
            }
            if self.count == Some(self.segments.len() as u64) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The map of pax format 1.0, padded to whole blocks.
pub(super) fn write_map(segments: &[Segment]) -> Vec<u8> {
    let numbers = segments
        .iter()
        .flat_map(|segment| [segment.offset, segment.length]);
    let mut map = Vec::new();
    for number in std::iter::once(segments.len() as u64).chain(numbers) {
        map.extend_from_slice(number.to_string().as_bytes());
        map.push(b'\n');
    }
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}

/// Checks that segments ascend, lie within the file, and account for every stored byte.
pub(super) fn check(segments: &[Segment], stored: u64, size: u64) -> Result<(), &'static str> {
    if i64::try_from(size).is_err() {
        return Err("a sparse file's size is out of range");
    }
    let (mut end, mut total) = (0, 0_u64);
    for segment in segments {
        let next = segment.offset.checked_add(segment.length);
        match next {
            Some(next) if segment.offset >= end && next <= size => end = next,
            _ => return Err("a sparse map's segments overlap or pass the file's end"),
        }
        total += segment.length;
    }
    if total != stored {
        return Err("a sparse map does not fit what is stored");
    }
    Ok(())
}
