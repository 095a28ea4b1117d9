//! Constants in an action: texts in quotes, characters and numbers, as Go writes them.

use std::str::Chars;

use serde_json::Number;

use super::Error;
use super::lex::Word;

/// A text up to its closing quote, after the opening one.
pub(super) fn quoted(text: &str) -> Result<(Word, &str), Error> {
    // Escapes can spell bytes that are no UTF-8 alone.
    let mut value = Vec::new();
    let mut characters = text.chars();
    loop {
        match characters.next() {
            Some('"') => break,
            Some('\\') => match escape(&mut characters, '"')? {
                Escaped::Byte(byte) => value.push(byte),
                Escaped::Character(c) => value.extend(c.to_string().bytes()),
            },
            Some('\n') | None => return Err(Error::new("unterminated quoted string")),
            Some(c) => value.extend(c.to_string().bytes()),
        }
    }
    let value = String::from_utf8_lossy(&value).into_owned();
    Ok((Word::Text(value), characters.as_str()))
}

/// A character up to its closing quote, after the opening one; its value is its number.
pub(super) fn character(text: &str) -> Result<(Word, &str), Error> {
    let malformed = || Error::new("malformed character constant");
    let mut characters = text.chars();
    let number = match characters.next() {
        None | Some('\'' | '\n') => return Err(malformed()),
        Some('\\') => match escape(&mut characters, '\'')? {
            Escaped::Byte(byte) => byte.into(),
            Escaped::Character(c) => u32::from(c),
        },
        Some(c) => u32::from(c),
    };
    if characters.next() != Some('\'') {
        return Err(malformed());
    }
    Ok((Word::Number(number.into()), characters.as_str()))
}

enum Escaped {
    Byte(u8),
    Character(char),
}

/// What stands behind a backslash.
fn escape(characters: &mut Chars<'_>, quote: char) -> Result<Escaped, Error> {
    let invalid = || Error::new("invalid syntax in a constant after \\");
    let first = characters.next().ok_or_else(invalid)?;
    let digits = |characters: &mut Chars<'_>, count, radix, value| {
        (0..count).try_fold(value, |value: u32, _| {
            let digit = characters.next()?.to_digit(radix)?;
            Some(value * radix + digit)
        })
    };
    let byte = |value: Option<u32>| {
        let byte = value.and_then(|value| u8::try_from(value).ok());
        byte.map(Escaped::Byte).ok_or_else(invalid)
    };
    let character = |value: Option<u32>| {
        let character = value.and_then(char::from_u32);
        character.map(Escaped::Character).ok_or_else(invalid)
    };
    match first {
        'a' => Ok(Escaped::Byte(7)),
        'b' => Ok(Escaped::Byte(8)),
        'f' => Ok(Escaped::Byte(12)),
        'n' => Ok(Escaped::Byte(b'\n')),
        'r' => Ok(Escaped::Byte(b'\r')),
        't' => Ok(Escaped::Byte(b'\t')),
        'v' => Ok(Escaped::Byte(11)),
        '\\' => Ok(Escaped::Byte(b'\\')),
        'x' => byte(digits(characters, 2, 16, 0)),
        'u' => character(digits(characters, 4, 16, 0)),
        'U' => character(digits(characters, 8, 16, 0)),
        '0'..='7' => byte(digits(characters, 2, 8, first.to_digit(8).unwrap_or(0))),
        _ if first == quote => Ok(Escaped::Character(quote)),
        _ => Err(invalid()),
    }
}

/// A number: decimal, hexadecimal, octal or binary, with underscores, a point or an exponent.
pub(super) fn number(text: &str) -> Result<(Word, &str), Error> {
    let (digits, after) = text.split_at(end_of_number(text));
    let number =
        parse(digits).ok_or_else(|| Error::new(format!("bad number syntax: {digits:?}")))?;
    Ok((Word::Number(number), after))
}

/// Letters belong to it, so that `1x` is a bad number and not two words; a sign does behind an
/// exponent's letter.
fn end_of_number(text: &str) -> usize {
    let hexadecimal = text.trim_start_matches(['+', '-']).starts_with("0x");
    let mut before = None;
    for (at, c) in text.char_indices() {
        let sign = match before {
            None => true,
            Some('e' | 'E') => !hexadecimal,
            Some(_) => false,
        };
        let belongs =
            c.is_alphanumeric() || c == '.' || c == '_' || (sign && matches!(c, '+' | '-'));
        if !belongs {
            return at;
        }
        before = Some(c);
    }
    text.len()
}

fn parse(text: &str) -> Option<Number> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    // An underscore stands between two digits.
    if digits.contains("__") || digits.ends_with('_') {
        return None;
    }
    let plain = digits.replace('_', "");
    let lower = plain.to_ascii_lowercase();
    let (radix, body) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        _ if lower.len() > 1
            && lower.bytes().all(|byte| byte.is_ascii_digit())
            && lower.starts_with('0') =>
        {
            (8, &lower[1..])
        }
        _ => (10, lower.as_str()),
    };
    if radix != 10 || body.bytes().all(|byte| byte.is_ascii_digit()) {
        if body.starts_with(['+', '-']) {
            return None;
        }
        let size = i128::from_str_radix(body, radix).ok()?;
        let number = if negative { -size } else { size };
        return i64::try_from(number).ok().map(Number::from);
    }
    let size: f64 = lower.parse().ok()?;
    let number = if negative { -size } else { size };
    Number::from_f64(number)
}
