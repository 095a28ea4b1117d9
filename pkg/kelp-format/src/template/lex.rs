//! Text and actions, and the words inside an action.

use super::{Error, constant};

/// A part of a template's text.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    Text(String),
    Action(Vec<Word>),
}

/// A word of an action.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Word {
    /// `.A.B`; empty for the dot alone.
    Field(Vec<String>),
    /// `$name.A`
    Variable(String, Vec<String>),
    Name(String),
    Text(String),
    Number(serde_json::Number),
    Pipe,
    Open,
    /// A closing parenthesis, and the fields asked of what is in it.
    Close(Vec<String>),
    Declare,
    Assign,
    Comma,
}

/// Makes `\t` and `\n` what they stand for, as --format has them for a shell's sake: in texts alone,
/// since an action's strings have their own escapes.
pub(super) fn unescape(text: &str) -> String {
    let plain = |text: &str| text.replace("\\t", "\t").replace("\\n", "\n");
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(&plain(before));
        let Some(end) = end_of_action(after) else {
            // The parser says what is wrong with it.
            return out + "{{" + after;
        };
        out.push_str("{{");
        out.push_str(&after[..end + 2]);
        rest = &after[end + 2..];
    }
    out + &plain(rest)
}

/// Splits a template; white space that `{{-` and `-}}` take is gone.
pub(super) fn split(text: &str) -> Result<Vec<Part>, Error> {
    let mut parts = Vec::new();
    let mut rest = text;
    let mut trim_next = false;
    loop {
        let (before, after) = match rest.split_once("{{") {
            Some((before, after)) => (before, Some(after)),
            None => (rest, None),
        };
        let mut before = if trim_next {
            before.trim_start()
        } else {
            before
        };
        let Some(mut action) = after else {
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            return Ok(parts);
        };
        if let Some(trimmed) = action.strip_prefix('-')
            && trimmed.starts_with(char::is_whitespace)
        {
            before = before.trim_end();
            action = trimmed;
        }
        if !before.is_empty() {
            parts.push(Part::Text(before.to_owned()));
        }
        let end = end_of_action(action).ok_or_else(|| Error::new("unclosed action"))?;
        let mut inside = &action[..end];
        rest = &action[end + 2..];
        trim_next = false;
        if let Some(trimmed) = inside.strip_suffix('-')
            && trimmed.ends_with(char::is_whitespace)
        {
            trim_next = true;
            inside = trimmed;
        }
        let inside = inside.trim();
        if inside.starts_with("/*") && inside.ends_with("*/") {
            continue;
        }
        parts.push(Part::Action(words(inside)?));
    }
}

/// Where `}}` ends the action, past the strings in it.
fn end_of_action(action: &str) -> Option<usize> {
    let bytes = action.as_bytes();
    let comment = action.trim_start().starts_with("/*");
    let mut at = if comment { action.find("*/")? } else { 0 };
    while at < bytes.len() {
        match bytes[at] {
            quote @ (b'"' | b'\'') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            b'`' => at += 1 + action[at + 1..].find('`')?,
            b'}' if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

fn words(action: &str) -> Result<Vec<Word>, Error> {
    let mut words = Vec::new();
    let mut rest = action.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, after) = word(first, rest)?;
        words.push(word);
        rest = after.trim_start();
    }
    Ok(words)
}

fn word(first: char, rest: &str) -> Result<(Word, &str), Error> {
    let after = &rest[first.len_utf8()..];
    Ok(match first {
        '|' => (Word::Pipe, after),
        '(' => (Word::Open, after),
        ')' => {
            let (fields, after) = fields(after);
            (Word::Close(fields), after)
        }
        ',' => (Word::Comma, after),
        ':' if after.starts_with('=') => (Word::Declare, &after[1..]),
        '=' => (Word::Assign, after),
        '.' if after.starts_with(|c: char| c.is_ascii_digit()) => constant::number(rest)?,
        '.' => {
            let (fields, after) = fields(rest);
            let after = if fields.is_empty() { &rest[1..] } else { after };
            (Word::Field(fields), after)
        }
        '$' => {
            let (name, after) = identifier(after);
            let (fields, after) = fields(after);
            (Word::Variable(name.to_owned(), fields), after)
        }
        '"' => constant::quoted(after)?,
        '`' => {
            let (text, after) = after
                .split_once('`')
                .ok_or_else(|| Error::new("unterminated raw quoted string"))?;
            (Word::Text(text.to_owned()), after)
        }
        '\'' => constant::character(after)?,
        '-' | '+' | '0'..='9' => constant::number(rest)?,
        _ if first.is_alphabetic() || first == '_' => {
            let (name, after) = identifier(rest);
            (Word::Name(name.to_owned()), after)
        }
        _ => return Err(Error::new(format!("unexpected {first:?} in command"))),
    })
}

fn identifier(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    text.split_at(end)
}

/// `.A.B` at the beginning of `text`.
fn fields(text: &str) -> (Vec<String>, &str) {
    let mut fields = Vec::new();
    let mut rest = text;
    while let Some(after) = rest.strip_prefix('.') {
        let (name, after) = identifier(after);
        if name.is_empty() {
            break;
        }
        fields.push(name.to_owned());
        rest = after;
    }
    (fields, rest)
}
