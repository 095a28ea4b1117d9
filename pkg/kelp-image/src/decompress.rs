//! Decompression of layers and archives.
//!
//! The kind is told from the first bytes, not from a media type, which registries get wrong. gzip is
//! read by zlib-rs and zstd by the reference implementation: of what was measured, the fastest that
//! streams (see the crate's header).

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

/// How many compressed bytes are read at a time.
const INPUT_BUFFER: usize = 256 << 10;

/// How something is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all, or in a way that is not known.
    None,
    /// gzip, in one or several members.
    Gzip,
    /// zstd, in one or several frames; skippable ones, as zstd:chunked has them, are skipped.
    Zstd,
    /// bzip2, which is only recognised.
    Bzip2,
    /// xz, which is only recognised.
    Xz,
}

impl Compression {
    /// Tells the kind from the first bytes; six are enough.
    pub fn detect(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            _ => Self::None,
        }
    }
}

/// Reads what a compressed stream holds; see [`Decompressor::new`].
pub struct Decompressor<R: Read>(Kind<Input<R>>);

type Input<R> = BufReader<io::Chain<io::Cursor<Vec<u8>>, R>>;

enum Kind<B: BufRead> {
    Plain(B),
    Gzip(Box<MultiGzDecoder<B>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, B>>),
}

impl<R: Read> Decompressor<R> {
    /// Looks at the first bytes of `source` and prepares to decompress it.
    pub fn new(mut source: R) -> io::Result<Self> {
        let mut start = Vec::with_capacity(6);
        (&mut source).take(6).read_to_end(&mut start)?;
        let compression = Compression::detect(&start);
        let input = BufReader::with_capacity(INPUT_BUFFER, io::Cursor::new(start).chain(source));
        let unsupported = |name: &str| {
            let text = format!("{name} archives are not supported: unpack it first");
            io::Error::new(io::ErrorKind::Unsupported, text)
        };
        Ok(Self(match compression {
            Compression::None => Kind::Plain(input),
            Compression::Gzip => Kind::Gzip(Box::new(MultiGzDecoder::new(input))),
            Compression::Zstd => {
                Kind::Zstd(Box::new(zstd::stream::read::Decoder::with_buffer(input)?))
            }
            Compression::Bzip2 => return Err(unsupported("bzip2")),
            Compression::Xz => return Err(unsupported("xz")),
        }))
    }

    /// Fills the buffer as far as the stream lasts; less than full means that it has ended.
    pub fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::Plain(reader) => reader.read(buffer),
            Kind::Gzip(reader) => reader.read(buffer),
            Kind::Zstd(reader) => reader.read(buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn decompress(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Decompressor::new(bytes)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn every_kind_is_recognised_and_read() {
        let text = b"some text, some text".repeat(5000);
        let zstd = zstd::encode_all(&text[..], 1).unwrap();
        let skippable = b"\x50\x2a\x4d\x18\x04\0\0\0abcd".to_vec();
        for (input, expected) in [
            (text.clone(), text.clone()),
            (Vec::new(), Vec::new()),
            (b"ab".to_vec(), b"ab".to_vec()),
            (gzip(&text), text.clone()),
            (
                [gzip(&text), gzip(b"more")].concat(),
                [&text[..], b"more"].concat(),
            ),
            (zstd.clone(), text.clone()),
            ([zstd.clone(), zstd.clone()].concat(), text.repeat(2)),
            ([skippable.clone(), zstd.clone(), skippable].concat(), text),
        ] {
            assert!(decompress(&input).unwrap() == expected);
        }
    }

    #[test]
    fn a_cut_stream_is_an_error() {
        let text: Vec<u8> = (0..20_000_u32).flat_map(u32::to_le_bytes).collect();
        for whole in [gzip(&text), zstd::encode_all(&text[..], 1).unwrap()] {
            for end in [7, 20, whole.len() / 2, whole.len() - 5, whole.len() - 1] {
                assert!(
                    decompress(&whole[..end]).is_err(),
                    "{end} of {}",
                    whole.len()
                );
            }
        }
    }

    #[test]
    fn what_is_not_supported_says_so() {
        for start in [&b"BZh91AY"[..], b"\xfd7zXZ\0\0"] {
            let error = decompress(start).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        }
    }
}
