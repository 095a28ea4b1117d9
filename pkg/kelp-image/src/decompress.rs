//! Decompression of layers and archives.
//!
//! The kind is told from the first bytes, not from a media type, which registries get wrong. gzip is
//! read by zlib-rs and zstd by the reference implementation: of what was measured, the fastest that
//! streams (see the crate's header). Layers are plain or one of these by the specification; archives
//! of other programs, and layers that other engines take, are bzip2 or xz as well.
//!
//! Everything is decompressed in this process, by code that is part of it: no program is looked for,
//! least of all in an image. What a stream can make it remember is bounded: by its format for gzip and
//! bzip2 (less than 8 MB), by the reference's own limit for zstd (128 MB), by [`XZ_MEMORY`] for xz.

use std::io::{self, BufRead, BufReader, Read};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;

/// How many compressed bytes are read at a time.
const INPUT_BUFFER: usize = 256 << 10;

/// The most memory of an xz stream's dictionary, in bytes: four times what `xz -9` needs. The format
/// has room for 4 GB.
pub const XZ_MEMORY: u32 = 256 << 20;

/// How something is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all, or in a way that is not known.
    None,
    /// gzip, in one or several members.
    Gzip,
    /// zstd, in one or several frames; skippable ones, as zstd:chunked has them, are skipped.
    Zstd,
    /// bzip2, in one or several streams.
    Bzip2,
    /// xz, in one or several streams, with padding between them.
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
    Bzip2(Box<MultiBzDecoder<B>>),
    Xz(Box<XzReader<B>>),
}

impl<R: Read> Decompressor<R> {
    /// Looks at the first bytes of `source` and prepares to decompress it.
    pub fn new(mut source: R) -> io::Result<Self> {
        let mut start = Vec::with_capacity(6);
        (&mut source).take(6).read_to_end(&mut start)?;
        let compression = Compression::detect(&start);
        let input = BufReader::with_capacity(INPUT_BUFFER, io::Cursor::new(start).chain(source));
        Ok(Self(match compression {
            Compression::None => Kind::Plain(input),
            Compression::Gzip => Kind::Gzip(Box::new(MultiGzDecoder::new(input))),
            Compression::Zstd => {
                Kind::Zstd(Box::new(zstd::stream::read::Decoder::with_buffer(input)?))
            }
            Compression::Bzip2 => Kind::Bzip2(Box::new(MultiBzDecoder::new(input))),
            Compression::Xz => Kind::Xz(Box::new(XzReader::new_mem_limit(
                input,
                true,
                XZ_MEMORY >> 10,
            ))),
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
            Kind::Bzip2(reader) => reader.read(buffer),
            Kind::Xz(reader) => reader.read(buffer).map_err(xz_error),
        }
    }
}

fn xz_error(error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::OutOfMemory {
        return error;
    }
    let limit = XZ_MEMORY >> 20;
    let text = format!("the xz stream's dictionary is above {limit} MB: compress it with xz -9");
    io::Error::new(io::ErrorKind::OutOfMemory, text)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use bzip2::write::BzEncoder;
    use flate2::write::GzEncoder;
    use lzma_rust2::{XzOptions, XzWriter};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).unwrap()
    }

    fn bzip2(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn xz_with(bytes: &[u8], dictionary: u32) -> Vec<u8> {
        let mut options = XzOptions::with_preset(1);
        options.lzma_options.dict_size = dictionary;
        let mut encoder = XzWriter::new(Vec::new(), options).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn xz(bytes: &[u8]) -> Vec<u8> {
        xz_with(bytes, 1 << 20)
    }

    fn decompress(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Decompressor::new(bytes)?.read_to_end(&mut out)?;
        Ok(out)
    }

    type Encoder = (&'static str, fn(&[u8]) -> Vec<u8>);

    const ENCODERS: [Encoder; 4] = [("gzip", gzip), ("zstd", zstd), ("bzip2", bzip2), ("xz", xz)];

    /// The same compressed in every way that is known, and not at all.
    pub(crate) fn in_every_form(bytes: &[u8]) -> Vec<Vec<u8>> {
        let plain = bytes.to_vec();
        let encoded = ENCODERS.iter().map(|(_, encode)| encode(bytes));
        encoded.chain([plain]).collect()
    }

    /// Text that repeats itself, and numbers that do not.
    fn content() -> Vec<u8> {
        let mut bytes = b"some text, some text".repeat(5000);
        bytes.extend((0..200_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()));
        bytes
    }

    #[test]
    fn every_kind_is_recognised_and_read_in_one_part_or_several() {
        let text = content();
        for (name, encode) in ENCODERS {
            assert_ne!(
                Compression::detect(&encode(b"")),
                Compression::None,
                "{name}"
            );
            assert!(decompress(&encode(b"")).unwrap().is_empty(), "{name}");
            assert!(decompress(&encode(&text)).unwrap() == text, "{name}");
            let several = [encode(&text), encode(b""), encode(b"more")].concat();
            let expected = [&text[..], b"more"].concat();
            assert!(decompress(&several).unwrap() == expected, "{name}");
        }
        for plain in [&b""[..], b"ab", b"BZ is no bzip2, BZh0 neither", &text] {
            assert!(decompress(plain).unwrap() == plain);
        }
    }

    #[test]
    fn what_stands_between_parts_is_skipped() {
        let skippable = b"\x50\x2a\x4d\x18\x04\0\0\0abcd".to_vec();
        let frames = [skippable.clone(), zstd(b"text"), skippable].concat();
        assert_eq!(decompress(&frames).unwrap(), b"text");
        let padded = [xz(b"te"), vec![0; 8], xz(b"xt"), vec![0; 4]].concat();
        assert_eq!(decompress(&padded).unwrap(), b"text");
        let uneven = [xz(b"te"), vec![0; 3]].concat();
        assert!(decompress(&uneven).is_err());
    }

    #[test]
    fn a_cut_stream_is_an_error() {
        let text = content();
        for (name, encode) in ENCODERS {
            let whole = encode(&text);
            let middle = whole.len() / 2;
            for end in [7, 20, 33, middle, whole.len() - 5, whole.len() - 1] {
                assert!(decompress(&whole[..end]).is_err(), "{name}: {end}");
            }
            // The second part of two, where a reader may take the end of the first for the end.
            let two = [whole.clone(), encode(b"more")].concat();
            for end in [whole.len() + 3, two.len() - 1] {
                assert!(decompress(&two[..end]).is_err(), "{name}: {end}");
            }
        }
    }

    #[test]
    fn a_damaged_stream_is_an_error() {
        let text = content();
        for (name, encode) in ENCODERS {
            let mut whole = encode(&text);
            let middle = whole.len() / 2;
            whole[middle] ^= 0x10;
            if name == "zstd" {
                // Its frames have a checksum only where the writer wants one.
                assert!(decompress(&whole).ok() != Some(text.clone()), "{name}");
            } else {
                assert!(decompress(&whole).is_err(), "{name}");
            }
            let garbage = [encode(b"text"), b"garbage, not a part".to_vec()].concat();
            assert!(decompress(&garbage).is_err(), "{name}");
        }
    }

    #[test]
    fn a_dictionary_is_bounded() {
        assert_eq!(decompress(&xz_with(b"text", 192 << 20)).unwrap(), b"text");
        let error = decompress(&xz_with(b"text", 768 << 20)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the xz stream's dictionary is above 256 MB: compress it with xz -9"
        );
        // A window of 2 GB, by the header's second byte (RFC 8878, section 3.1.1.1.2).
        let zstd = b"\x28\xb5\x2f\xfd\0\xa8\x01\0\0";
        assert!(decompress(zstd).is_err());
    }

    /// What the programs of these names write, with every filter and check that xz has.
    #[test]
    fn what_other_programs_compress_is_read() {
        let text = content();
        for command in [
            &["gzip", "-9"][..],
            &["bzip2", "-9"],
            &["xz", "-9"],
            &["xz", "-0", "--check=none"],
            &["xz", "-0", "--check=sha256", "--block-size=65536"],
            &["xz", "--x86", "--lzma2=preset=1"],
            &["xz", "--delta=dist=4", "--arm64", "--lzma2=preset=1"],
        ] {
            let child = Command::new(command[0])
                .args(&command[1..])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn();
            let Ok(mut child) = child else {
                eprintln!("SKIP: what_other_programs_compress_is_read: {}", command[0]);
                continue;
            };
            let mut input = child.stdin.take().unwrap();
            let bytes = text.clone();
            let writer = std::thread::spawn(move || input.write_all(&bytes));
            let output = child.wait_with_output().unwrap();
            writer.join().unwrap().unwrap();
            assert!(output.status.success(), "{command:?}");
            assert!(decompress(&output.stdout).unwrap() == text, "{command:?}");
        }
    }
}
