//! What a file seems to be by its first bytes: a part of the rules that browsers have (WHATWG, MIME Sniffing), which
//! is what podman calls a file by.

/// How many bytes are looked at.
pub(super) const SNIFFED: usize = 512;

/// Beginnings, and what has them.
const MAGIC: &[(&[u8], &str)] = &[
    (b"%PDF-", "application/pdf"),
    (b"%!PS-Adobe-", "application/postscript"),
    (b"\xfe\xff", "text/plain; charset=utf-16be"),
    (b"\xff\xfe", "text/plain; charset=utf-16le"),
    (b"\xef\xbb\xbf", "text/plain; charset=utf-8"),
    (b"\0\0\x01\0", "image/x-icon"),
    (b"\0\0\x02\0", "image/x-icon"),
    (b"BM", "image/bmp"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"ID3", "audio/mpeg"),
    (b"OggS\0", "application/ogg"),
    (b"MThd\0\0\0\x06", "audio/midi"),
    (b".snd", "audio/basic"),
    (b"\x1a\x45\xdf\xa3", "video/webm"),
    (b"\0\x01\0\0", "font/ttf"),
    (b"OTTO", "font/otf"),
    (b"ttcf", "font/collection"),
    (b"wOFF", "font/woff"),
    (b"wOF2", "font/woff2"),
    (b"\x1f\x8b\x08", "application/x-gzip"),
    (b"PK\x03\x04", "application/zip"),
    (b"Rar!\x1a\x07\0", "application/x-rar-compressed"),
    (b"Rar!\x1a\x07\x01\0", "application/x-rar-compressed"),
    (b"\0asm", "application/wasm"),
];

/// What stands after `RIFF` or `FORM` and a length, and what has it.
const CHUNKED: &[(&[u8], &[u8], &str)] = &[
    (b"RIFF", b"WEBPVP", "image/webp"),
    (b"RIFF", b"WAVE", "audio/wave"),
    (b"RIFF", b"AVI ", "video/avi"),
    (b"FORM", b"AIFF", "audio/aiff"),
];

/// Tags by which a page is known, behind white space; a space or `>` follows.
const TAGS: &[&str] = &[
    "<!DOCTYPE HTML",
    "<HTML",
    "<HEAD",
    "<SCRIPT",
    "<IFRAME",
    "<H1",
    "<DIV",
    "<FONT",
    "<TABLE",
    "<A",
    "<STYLE",
    "<TITLE",
    "<B",
    "<BODY",
    "<BR",
    "<P",
    "<!--",
];

/// The media type of a file with this beginning.
pub(super) fn content_type(beginning: &[u8]) -> &'static str {
    let start = beginning
        .iter()
        .position(|byte| !matches!(byte, b'\t' | b'\n' | b'\x0c' | b'\r' | b' '));
    let text = &beginning[start.unwrap_or(beginning.len())..];
    if TAGS.iter().any(|tag| begins_with_tag(text, tag)) {
        return "text/html; charset=utf-8";
    }
    if text.starts_with(b"<?xml") {
        return "text/xml; charset=utf-8";
    }
    if let Some((_, found)) = MAGIC.iter().find(|(magic, _)| beginning.starts_with(magic)) {
        return found;
    }
    let is_chunked = |(kind, form, _): &&(&[u8], &[u8], &str)| {
        beginning.starts_with(kind)
            && beginning
                .get(8..)
                .is_some_and(|rest| rest.starts_with(form))
    };
    if let Some((_, _, found)) = CHUNKED.iter().find(is_chunked) {
        return found;
    }
    if is_mp4(beginning) {
        return "video/mp4";
    }
    let is_binary = |byte: &u8| matches!(byte, 0..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f);
    if text.iter().any(is_binary) {
        "application/octet-stream"
    } else {
        "text/plain; charset=utf-8"
    }
}

fn begins_with_tag(text: &[u8], tag: &str) -> bool {
    let Some((begin, rest)) = text.split_at_checked(tag.len()) else {
        return false;
    };
    begin.eq_ignore_ascii_case(tag.as_bytes()) && matches!(rest.first(), Some(b' ' | b'>'))
}

/// Whether it is MPEG-4: a box of that type, with a brand that begins so.
fn is_mp4(beginning: &[u8]) -> bool {
    let Some((length, rest)) = beginning.split_first_chunk::<4>() else {
        return false;
    };
    let length = u32::from_be_bytes(*length) as usize;
    if !length.is_multiple_of(4) || beginning.len() < length || !rest.starts_with(b"ftyp") {
        return false;
    }
    // The number between the major brand and the others is none.
    let brands = beginning[..length].chunks(4).enumerate().skip(2);
    brands
        .filter(|(place, _)| *place != 3)
        .any(|(_, brand)| brand.starts_with(b"mp4"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_how_they_begin() {
        for (beginning, expected) in [
            (&b""[..], "text/plain; charset=utf-8"),
            (b"hello\n", "text/plain; charset=utf-8"),
            ("schön".as_bytes(), "text/plain; charset=utf-8"),
            (b"{\"a\": 1}", "text/plain; charset=utf-8"),
            (b"\n <html><body>", "text/html; charset=utf-8"),
            (b"<!doctype html>", "text/html; charset=utf-8"),
            (b"<pre>", "text/plain; charset=utf-8"),
            (b" <?xml version", "text/xml; charset=utf-8"),
            (b"%PDF-1.7", "application/pdf"),
            (b"\x1f\x8b\x08\0", "application/x-gzip"),
            (b"PK\x03\x04", "application/zip"),
            (b"\0asm\x01", "application/wasm"),
            (b"\x89PNG\r\n\x1a\n\0", "image/png"),
            (b"RIFF\0\0\0\0WAVEfmt ", "audio/wave"),
            (b"RIFF\0\0\0\0text", "application/octet-stream"),
            (b"\0\0\0\x14ftypmp42\0\0\0\0isom", "video/mp4"),
            (
                b"\0\0\0\x14ftypqt  \0\0\0\0qt  ",
                "application/octet-stream",
            ),
            (b"\x7fELF\x02\x01", "application/octet-stream"),
            (b"GGUF\x03\0\0\0", "application/octet-stream"),
        ] {
            assert_eq!(content_type(beginning), expected, "{beginning:?}");
        }
    }
}
