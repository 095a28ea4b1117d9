//! Go's printf: the verbs with flags, width and precision that values of JSON can have.

use std::fmt::Write;
use std::iter::Peekable;
use std::str::Chars;

use serde_json::Value;

use super::value::{float, nested, print, with_exponent};

/// Widths and precisions past this are taken for it.
const WIDEST: usize = 10_000;

/// What stands between `%` and the verb.
#[derive(Clone, Copy, Default)]
struct Spec {
    left: bool,
    zero: bool,
    plus: bool,
    space: bool,
    sharp: bool,
    width: usize,
    precision: Option<usize>,
}

/// Arguments as they are used up: in order, or from where `[N]` says.
struct Arguments<'a> {
    all: &'a [Value],
    next: usize,
    reordered: bool,
}

impl<'a> Arguments<'a> {
    fn take(&mut self) -> Option<&'a Value> {
        let value = self.all.get(self.next);
        self.next += 1;
        value
    }

    /// `[N]`, from 1 on; whether it is none that can be.
    fn reorder(&mut self, characters: &mut Peekable<Chars<'_>>) -> bool {
        if characters.next_if_eq(&'[').is_none() {
            return false;
        }
        self.reordered = true;
        let wanted = number(characters);
        let closed = characters.next_if_eq(&']').is_some();
        if !closed {
            while characters.next().is_some_and(|c| c != ']') {}
        }
        match wanted {
            Some(wanted @ 1..) if closed && wanted <= self.all.len() => {
                self.next = wanted - 1;
                false
            }
            _ => true,
        }
    }

    /// A width or precision that is an argument: `*`.
    fn size(&mut self) -> Option<i64> {
        self.take().and_then(Value::as_i64)
    }
}

impl Spec {
    /// Parses up to the verb; `None` for an index that no argument has.
    fn parse(characters: &mut Peekable<Chars<'_>>, arguments: &mut Arguments<'_>) -> Option<Self> {
        let mut spec = Self::default();
        while let Some(flag) = characters.next_if(|c| "-+# 0".contains(*c)) {
            match flag {
                '-' => spec.left = true,
                '0' => spec.zero = true,
                '+' => spec.plus = true,
                '#' => spec.sharp = true,
                _ => spec.space = true,
            }
        }
        let mut bad = arguments.reorder(characters);
        if characters.next_if_eq(&'*').is_some() {
            let width = arguments.size().unwrap_or(0);
            // A negative width is one to the left.
            spec.left |= width < 0;
            spec.width = (width.unsigned_abs() as usize).min(WIDEST);
        } else {
            spec.width = number(characters).unwrap_or(0);
        }
        if characters.next_if_eq(&'.').is_some() {
            bad |= arguments.reorder(characters);
            spec.precision = Some(if characters.next_if_eq(&'*').is_some() {
                let precision = arguments.size().unwrap_or(0).max(0);
                (precision as usize).min(WIDEST)
            } else {
                number(characters).unwrap_or(0)
            });
        }
        bad |= arguments.reorder(characters);
        (!bad).then_some(spec)
    }

    fn pad(&self, text: &str, is_number: bool) -> String {
        let missing = self.width.saturating_sub(text.chars().count());
        if self.left {
            return format!("{text}{}", " ".repeat(missing));
        }
        if self.zero && is_number {
            let (sign, digits) = match text.strip_prefix(['-', '+', ' ']) {
                Some(digits) => (&text[..1], digits),
                None => ("", text),
            };
            return format!("{sign}{}{digits}", "0".repeat(missing));
        }
        format!("{}{text}", " ".repeat(missing))
    }

    /// A sign where one is asked for; `%+v` asks for the names of fields instead.
    fn signed(&self, verb: char, text: String) -> String {
        match text.starts_with('-') {
            false if self.plus && verb == 'v' => text,
            false if self.plus => format!("+{text}"),
            false if self.space => format!(" {text}"),
            _ => text,
        }
    }
}

fn number(characters: &mut Peekable<Chars<'_>>) -> Option<usize> {
    let mut number = None;
    while let Some(digit) = characters.peek().and_then(|c| c.to_digit(10)) {
        characters.next();
        number = Some((number.unwrap_or(0) * 10 + digit as usize).min(WIDEST));
    }
    number
}

/// Formats; what is wrong is said in the output, as in Go.
pub(super) fn printf(format: &str, all: &[Value]) -> String {
    let mut output = String::new();
    let mut arguments = Arguments {
        all,
        next: 0,
        reordered: false,
    };
    let mut characters = format.chars().peekable();
    while let Some(c) = characters.next() {
        if c != '%' {
            output.push(c);
            continue;
        }
        let spec = Spec::parse(&mut characters, &mut arguments);
        let Some(verb) = characters.next() else {
            output.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            output.push('%');
            continue;
        }
        let Some(spec) = spec else {
            let _ = write!(output, "%!{verb}(BADINDEX)");
            continue;
        };
        match arguments.take() {
            Some(value) => output.push_str(&formatted(verb, &spec, value)),
            None => {
                let _ = write!(output, "%!{verb}(MISSING)");
            }
        }
    }
    let rest = all.get(arguments.next..).unwrap_or_default();
    if !rest.is_empty() && !arguments.reordered {
        let extra: Vec<_> = rest.iter().map(typed).collect();
        let _ = write!(output, "%!(EXTRA {})", extra.join(", "));
    }
    output
}

/// `type=value`, for what does not fit.
fn typed(value: &Value) -> String {
    let kind = match value {
        Value::Null => return "<nil>".to_owned(),
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    };
    format!("{kind}={}", print(value))
}

/// A value with its padding; in lists and maps every item has its own.
fn formatted(verb: char, spec: &Spec, value: &Value) -> String {
    if let Value::Array(_) | Value::Object(_) = value {
        return match verb {
            'p' | 't' | 'U' | 'c' if value.as_array().is_some_and(Vec::is_empty) => "[]".to_owned(),
            _ => nested(value, &|item| match item {
                Value::Null => "<nil>".to_owned(),
                _ => formatted(verb, spec, item),
            }),
        };
    }
    match text(verb, spec, value) {
        Some(text) => {
            // A precision has put the zeros of a whole number already.
            let whole = value.as_number().is_some_and(|number| !number.is_f64());
            let zeros = value.is_number()
                && !matches!(verb, 'c' | 'q' | 'U')
                && !(whole && spec.precision.is_some());
            spec.pad(&text, zeros)
        }
        None if value.is_null() => format!("%!{verb}(<nil>)"),
        None => format!("%!{verb}({})", typed(value)),
    }
}

/// What a verb makes of a single value, if it takes such.
fn text(verb: char, spec: &Spec, value: &Value) -> Option<String> {
    match value {
        Value::Null => (verb == 'v').then(|| print(value)),
        Value::Bool(_) => matches!(verb, 'v' | 't').then(|| print(value)),
        Value::String(text) => string(verb, spec, text),
        Value::Number(number) => match number.as_i128() {
            Some(number) => whole(verb, spec, number),
            None => with_point(verb, spec, number.as_f64()?),
        },
        Value::Array(_) | Value::Object(_) => None,
    }
}

fn string(verb: char, spec: &Spec, text: &str) -> Option<String> {
    let cut: String = match spec.precision {
        Some(length) => text.chars().take(length).collect(),
        None => text.to_owned(),
    };
    Some(match verb {
        'v' if spec.sharp => quoted(text, '"'),
        'v' | 's' => cut,
        'q' => quoted(&cut, '"'),
        'x' | 'X' => {
            let separator = if spec.space { " " } else { "" };
            let bytes: Vec<_> = cut.bytes().map(|byte| format!("{byte:02x}")).collect();
            cased(verb, bytes.join(separator))
        }
        _ => return None,
    })
}

/// A text in quotes, with Go's escapes for what can't be printed.
fn quoted(text: &str, quote: char) -> String {
    let mut output = String::from(quote);
    for c in text.chars() {
        match c {
            '\u{7}' => output.push_str("\\a"),
            '\u{8}' => output.push_str("\\b"),
            '\u{b}' => output.push_str("\\v"),
            '\u{c}' => output.push_str("\\f"),
            '\n' => output.push_str("\\n"),
            '\r' => output.push_str("\\r"),
            '\t' => output.push_str("\\t"),
            '\\' => output.push_str("\\\\"),
            _ if c == quote => output.extend(['\\', c]),
            '\0'..='\u{1f}' | '\u{7f}' => {
                let _ = write!(output, "\\x{:02x}", u32::from(c));
            }
            '\u{80}'..='\u{a0}' | '\u{ad}' => {
                let _ = write!(output, "\\u{:04x}", u32::from(c));
            }
            _ => output.push(c),
        }
    }
    output.push(quote);
    output
}

fn whole(verb: char, spec: &Spec, number: i128) -> Option<String> {
    let character = || {
        let code = u32::try_from(number).ok();
        code.and_then(char::from_u32)
            .unwrap_or(char::REPLACEMENT_CHARACTER)
    };
    Some(match verb {
        'v' | 'd' | 'x' | 'X' | 'o' | 'O' | 'b' => spec.signed(verb, based(verb, spec, number)),
        'c' => character().to_string(),
        'q' => quoted(&character().to_string(), '\''),
        'U' => format!("U+{number:04X}"),
        _ => return None,
    })
}

/// The digits, at least as many as the precision says; a negative number has a sign in every base.
fn based(verb: char, spec: &Spec, number: i128) -> String {
    let sign = if number < 0 { "-" } else { "" };
    let size = number.unsigned_abs();
    let (prefix, digits) = match verb {
        'O' => ("0o", format!("{size:o}")),
        'o' => ("0", format!("{size:o}")),
        'b' => ("0b", format!("{size:b}")),
        'x' | 'X' => ("0x", format!("{size:x}")),
        _ => ("", size.to_string()),
    };
    let least = spec.precision.unwrap_or(0);
    let digits = format!("{digits:0>least$}");
    let prefix = if spec.sharp || verb == 'O' {
        prefix
    } else {
        ""
    };
    cased(verb, format!("{sign}{prefix}{digits}"))
}

fn with_point(verb: char, spec: &Spec, number: f64) -> Option<String> {
    let precision = spec.precision.unwrap_or(6);
    let text = match verb {
        'v' | 'g' | 'G' => match spec.precision {
            None => float(number),
            Some(digits) => significant(number, digits.max(1)),
        },
        'f' | 'F' => format!("{number:.precision$}"),
        'e' | 'E' => exponential(&format!("{number:.precision$e}")),
        _ => return None,
    };
    let text = if matches!(verb, 'G' | 'E') {
        text.to_uppercase()
    } else {
        text
    };
    Some(spec.signed(verb, text))
}

/// `%.3g`: so many digits, and an exponent where they do not reach the point or are far behind it.
fn significant(number: f64, digits: usize) -> String {
    let text = format!("{number:.*e}", digits - 1);
    let Some((mantissa, exponent)) = text.split_once('e') else {
        return text;
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| {
        if text.contains('.') {
            return text.trim_end_matches('0').trim_end_matches('.').to_owned();
        }
        text.to_owned()
    };
    if exponent < -4 || exponent >= digits as i32 {
        return with_exponent(&trim(mantissa), exponent);
    }
    let places = (digits as i32 - 1 - exponent).max(0) as usize;
    trim(&format!("{number:.places$}"))
}

fn exponential(text: &str) -> String {
    match text.split_once('e') {
        Some((digits, exponent)) => with_exponent(digits, exponent.parse().unwrap_or(0)),
        None => text.to_owned(),
    }
}

fn cased(verb: char, text: String) -> String {
    if verb == 'X' {
        return text.to_uppercase();
    }
    text
}
