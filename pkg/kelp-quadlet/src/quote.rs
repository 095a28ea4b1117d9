//! Words of a value, as systemd splits and writes them (systemd.syntax(7), "Quoting").

use std::fmt::Write as _;

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
