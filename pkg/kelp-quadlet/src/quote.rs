//! Words of a value, as systemd splits and writes them (systemd.syntax(7), "Quoting").

use std::fmt::Write as _;
use std::ops::Range;

/// Splits a value at white space. Quotes group, wherever in a word they begin, and go; escapes become
/// what they mean. A quote that nothing closes ends with the value.
pub fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote = None;
    let mut rest = text.chars();
    while let Some(char) = rest.next() {
        match (char, quote) {
            ('\\', _) => unescape(&mut rest, word.get_or_insert_default())?,
            (char, Some(end)) if char == end => quote = None,
            ('"' | '\'', None) => {
                quote = Some(char);
                word.get_or_insert_default();
            }
            (' ' | '\t' | '\n' | '\r', None) => words.extend(word.take()),
            (char, _) => {
                let mut bytes = [0; 4];
                let bytes = char.encode_utf8(&mut bytes).as_bytes();
                word.get_or_insert_default().extend(bytes);
            }
        }
    }
    words.extend(word);
    let utf8 = |word| String::from_utf8(word).map_err(|_| "its escapes make no UTF-8".to_owned());
    words.into_iter().map(utf8).collect()
}

/// The words of a value in which systemd leaves escapes as they are, as in names of units, and where each stands;
/// nothing where a quote is open.
pub fn names(text: &str) -> Option<Vec<(Range<usize>, String)>> {
    let mut words = Vec::new();
    let mut word: Option<(usize, String)> = None;
    let mut quote = None;
    for (index, char) in text.char_indices() {
        match (char, quote) {
            (char, Some(end)) if char == end => quote = None,
            ('"' | '\'', None) => {
                quote = Some(char);
                word.get_or_insert_with(|| (index, String::new()));
            }
            (' ' | '\t' | '\n' | '\r', None) => {
                words.extend(word.take().map(|(start, word)| (start..index, word)));
            }
            (char, _) => {
                word.get_or_insert_with(|| (index, String::new()))
                    .1
                    .push(char);
            }
        }
    }
    words.extend(word.map(|(start, word)| (start..text.len(), word)));
    quote.is_none().then_some(words)
}

/// Whether a quote is left open at the end of a value.
pub fn is_open(text: &str) -> bool {
    let (mut quote, mut escaped) = (None, false);
    for char in text.chars() {
        match (char, quote) {
            _ if escaped => escaped = false,
            ('\\', _) => escaped = true,
            (char, Some(end)) if char == end => quote = None,
            ('"' | '\'', None) => quote = Some(char),
            _ => {}
        }
    }
    quote.is_some()
}

/// What follows a backslash.
fn unescape(rest: &mut std::str::Chars<'_>, word: &mut Vec<u8>) -> Result<(), String> {
    let Some(letter) = rest.next() else {
        return Err("a backslash at the end escapes nothing".into());
    };
    let byte = match letter {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        's' => b' ',
        '\\' | '"' | '\'' => letter as u8,
        'x' | 'u' | 'U' | '0'..='7' => {
            let (radix, length) = match letter {
                'x' => (16, 2),
                'u' => (16, 4),
                'U' => (16, 8),
                _ => (8, 3),
            };
            // As many as there have to be, and nothing else among them (systemd.syntax(7)).
            let mut digits = String::new();
            if radix == 8 {
                digits.push(letter);
            }
            while digits.len() < length
                && let Some(digit) = rest.next().filter(|char| char.is_digit(radix))
            {
                digits.push(digit);
            }
            let code = u32::from_str_radix(&digits, radix).ok();
            let code = code.filter(|code| digits.len() == length && *code != 0);
            let Some(code) = code else {
                return Err(format!(
                    "\\{letter} is followed by no code of {length} digits"
                ));
            };
            return match (letter, u8::try_from(code), char::from_u32(code)) {
                ('u' | 'U', _, Some(char)) => {
                    word.extend(char.encode_utf8(&mut [0; 4]).as_bytes());
                    Ok(())
                }
                ('x' | '0'..='7', Ok(byte), _) => {
                    word.push(byte);
                    Ok(())
                }
                _ => Err(format!(
                    "\\{letter} is followed by the code of no character"
                )),
            };
        }
        _ => {
            return Err(format!(
                "\\{letter} is no escape: write \\\\{letter} for a backslash"
            ));
        }
    };
    word.push(byte);
    Ok(())
}

/// Writes a word so that [`split`], and systemd, read it back. What stays a specifier or a variable for
/// systemd (`%`, `$`) is left as it is.
pub fn word(text: &str) -> String {
    let plain = |char: char| !char.is_ascii_control() && !matches!(char, ' ' | '"' | '\'' | '\\');
    // A semicolon alone would end the command (systemd.service(5)).
    if !text.is_empty() && text != ";" && text.chars().all(plain) {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for char in text.chars() {
        match char {
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            char if char == ' ' || char.is_ascii_control() => {
                let _ = write!(out, "\\x{:02x}", char as u32);
            }
            char => out.push(char),
        }
    }
    out.push('"');
    out
}

/// Writes a path into a list of paths, in which a backslash stands for nothing but what follows it. Nothing of one
/// with a line's end in it.
pub fn path(text: &str) -> Option<String> {
    let special = |char| matches!(char, ' ' | '\t' | '"' | '\'' | '\\');
    if text.contains(['\n', '\r', '\0']) {
        return None;
    }
    if !text.is_empty() && !text.contains(special) {
        return Some(text.to_owned());
    }
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    Some(format!("\"{text}\""))
}

/// Writes a path as the whole of a value, in which nothing but a specifier is replaced. Nothing of one that can't be
/// said so: its end would be the value's, or join the next line.
pub fn only_path(text: &str) -> Option<String> {
    let is_cut = text.trim_matches(|char: char| char.is_ascii_whitespace()) != text;
    let is_right = !is_cut && !text.contains(['\n', '\r', '\0']) && !text.ends_with('\\');
    is_right.then(|| text.to_owned())
}

/// What is no specifier of systemd's, though it may look like one.
pub fn plain(text: &str) -> String {
    text.replace('%', "%%")
}

/// Words as a line.
pub fn line<W: AsRef<str>>(words: &[W]) -> String {
    let words: Vec<_> = words.iter().map(|text| word(text.as_ref())).collect();
    words.join(" ")
}

/// A value that is one word as a whole: double quotes around all of it go.
pub fn whole(text: &str) -> &str {
    let inner = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    inner.unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_systemd_does() {
        for (text, expected) in [
            ("", &[][..]),
            ("  a\tb  ", &["a", "b"]),
            (r#"sh -c "a b" 'c d'"#, &["sh", "-c", "a b", "c d"]),
            (r#"a="b c" "d=e f"g"#, &["a=b c", "d=e fg"]),
            (r#""" ''"#, &["", ""]),
            (r"\x41\102\u00e9\U0001F600\s\n", &["AB\u{e9}\u{1f600} \n"]),
            (r"\xc3\xa9", &["\u{e9}"]),
            (r#"'it"s' "it's""#, &["it\"s", "it's"]),
            (r#""open end"#, &["open end"]),
            ("%i $x ${Y} ; é", &["%i", "$x", "${Y}", ";", "é"]),
        ] {
            assert_eq!(split(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_escape_is_refused() {
        for (text, said) in [
            (r"a \q", r"\q is no escape: write \\q for a backslash"),
            (r"\x4", r"\x is followed by no code of 2 digits"),
            (r"\x", r"\x is followed by no code of 2 digits"),
            (r"\x4g1", r"\x is followed by no code of 2 digits"),
            (r"\xg41", r"\x is followed by no code of 2 digits"),
            (r"\x4 1", r"\x is followed by no code of 2 digits"),
            (r"\u00g41", r"\u is followed by no code of 4 digits"),
            (r"\U0001F60", r"\U is followed by no code of 8 digits"),
            (r"\1", r"\1 is followed by no code of 3 digits"),
            (r"\18x0", r"\1 is followed by no code of 3 digits"),
            (r"\000", r"\0 is followed by no code of 3 digits"),
            (r"\8", r"\8 is no escape: write \\8 for a backslash"),
            (r"\x00", r"\x is followed by no code of 2 digits"),
            (r"\ud800", r"\u is followed by the code of no character"),
            (r"\777", r"\7 is followed by the code of no character"),
            (r"\xff", "its escapes make no UTF-8"),
            ("a\\", "a backslash at the end escapes nothing"),
        ] {
            assert_eq!(split(text).unwrap_err(), said, "{text}");
        }
    }

    #[test]
    fn words_are_read_back_as_they_were_written() {
        for (text, written) in [
            ("plain-%i$x", "plain-%i$x"),
            ("", "\"\""),
            (";", "\";\""),
            ("a b", r#""a\x20b""#),
            ("it's", r#""it's""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("\t\n\x01\x7f", r#""\t\n\x01\x7f""#),
            ("é", "é"),
        ] {
            assert_eq!(word(text), written);
            assert_eq!(split(written).unwrap(), [text]);
        }
    }

    #[test]
    fn names_keep_their_escapes() {
        for (text, expected) in [
            ("", Some(&[][..])),
            (
                " a.service  b.pod ",
                Some(&[(1..10, "a.service"), (12..17, "b.pod")]),
            ),
            (r"dev-a\x2db.device", Some(&[(0..17, r"dev-a\x2db.device")])),
            (r#"'a b'c "d""#, Some(&[(0..6, "a bc"), (7..10, "d")])),
            ("a 'b", None),
        ] {
            let expected = expected.map(|words| {
                let words = words.iter();
                words
                    .map(|(range, word)| (range.clone(), (*word).to_owned()))
                    .collect::<Vec<_>>()
            });
            assert_eq!(names(text), expected, "{text}");
        }
    }

    #[test]
    fn paths_are_written_as_their_keys_read_them() {
        for (text, listed, alone) in [
            ("/a", Some("/a"), Some("/a")),
            ("/a b", Some("\"/a b\""), Some("/a b")),
            ("/a\"b'", Some(r#""/a\"b'""#), Some("/a\"b'")),
            (r"/a\b", Some(r#""/a\\b""#), Some(r"/a\b")),
            (r"/a\", Some(r#""/a\\""#), None),
            ("/a ", Some("\"/a \""), None),
            ("/a\nB=c", None, None),
            ("/a\rB=c", None, None),
        ] {
            assert_eq!(path(text).as_deref(), listed, "{text:?}");
            assert_eq!(only_path(text).as_deref(), alone, "{text:?}");
        }
    }

    #[test]
    fn an_open_quote_is_seen() {
        for (text, open) in [
            ("\"a", true),
            ("\"a\"", false),
            (r#""a\""#, true),
            ("it's", true),
        ] {
            assert_eq!(is_open(text), open, "{text}");
        }
    }
}
