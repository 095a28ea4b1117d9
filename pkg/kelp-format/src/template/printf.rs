//! Go's printf: the verbs with flags, width and precision that values of JSON can have.

use std::fmt::Write;
use std::iter::Peekable;
use std::str::Chars;

use serde_json::Value;

use super::functions::print;

/// Widths and precisions past this are taken for it.
const WIDEST: usize = 10_000;

/// What stands between `%` and the verb.
#[derive(Default)]
struct Spec {
    left: bool,
    zero: bool,
    plus: bool,
    sharp: bool,
    width: usize,
    precision: Option<usize>,
}

impl Spec {
    fn parse(characters: &mut Peekable<Chars<'_>>) -> Self {
        let mut spec = Self::default();
        while let Some(flag) = characters.next_if(|c| "-+# 0".contains(*c)) {
            match flag {
                '-' => spec.left = true,
                '0' => spec.zero = true,
                '+' => spec.plus = true,
                '#' => spec.sharp = true,
                _ => {}
            }
        }
        spec.width = number(characters).unwrap_or(0);
        if characters.next_if_eq(&'.').is_some() {
            spec.precision = Some(number(characters).unwrap_or(0));
        }
        spec
    }

    fn pad(&self, output: &mut String, text: &str, is_number: bool) {
        let missing = self.width.saturating_sub(text.chars().count());
        if self.left {
            output.push_str(text);
            output.extend(std::iter::repeat_n(' ', missing));
        } else if self.zero && is_number {
            let (sign, digits) = match text.strip_prefix(['-', '+']) {
                Some(digits) => (&text[..1], digits),
                None => ("", text),
            };
            output.push_str(sign);
            output.extend(std::iter::repeat_n('0', missing));
            output.push_str(digits);
        } else {
            output.extend(std::iter::repeat_n(' ', missing));
            output.push_str(text);
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
pub(super) fn printf(format: &str, arguments: &[Value]) -> String {
    let mut output = String::new();
    let mut rest = arguments.iter();
    let mut characters = format.chars().peekable();
    while let Some(c) = characters.next() {
        if c != '%' {
            output.push(c);
            continue;
        }
        let spec = Spec::parse(&mut characters);
        match characters.next() {
            None => output.push_str("%!(NOVERB)"),
            Some('%') => output.push('%'),
            Some(verb) => match rest.next() {
                None => {
                    let _ = write!(output, "%!{verb}(MISSING)");
                }
                Some(value) => {
                    let text = formatted(verb, &spec, value);
                    spec.pad(&mut output, &text, value.is_number());
                }
            },
        }
    }
    let extra: Vec<_> = rest.map(typed).collect();
    if !extra.is_empty() {
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

fn formatted(verb: char, spec: &Spec, value: &Value) -> String {
    let wrong = || format!("%!{verb}({})", typed(value));
    let signed = |text: String| {
        if spec.plus && !text.starts_with('-') {
            return format!("+{text}");
        }
        text
    };
    match (verb, value) {
        ('v', Value::Number(_)) => signed(print(value)),
        ('v', Value::String(text)) if spec.sharp => format!("{text:?}"),
        // Lists and maps are printed item by item.
        ('v', _) | ('t', Value::Bool(_)) | ('s' | 'd', Value::Array(_) | Value::Object(_)) => {
            print(value)
        }
        ('s', Value::String(text)) => match spec.precision {
            Some(length) => text.chars().take(length).collect(),
            None => text.clone(),
        },
        ('q', Value::String(text)) => format!("{text:?}"),
        ('q', Value::Array(items)) => {
            let items: Vec<_> = items
                .iter()
                .map(|item| formatted('q', spec, item))
                .collect();
            format!("[{}]", items.join(" "))
        }
        ('x' | 'X', Value::String(text)) => {
            let hex = text.bytes().fold(String::new(), |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}");
                hex
            });
            cased(verb, hex)
        }
        ('d' | 'x' | 'X' | 'o' | 'b' | 'c', Value::Number(number)) => {
            let Some(number) = integer(number) else {
                return wrong();
            };
            match verb {
                'd' => signed(number.to_string()),
                'c' => u32::try_from(number)
                    .ok()
                    .and_then(char::from_u32)
                    .unwrap_or(char::REPLACEMENT_CHARACTER)
                    .to_string(),
                _ => based(verb, spec, number),
            }
        }
        ('f' | 'F' | 'g', Value::Number(number)) if number.is_f64() => {
            let number = number.as_f64().unwrap_or_default();
            let precision = spec.precision.unwrap_or(6);
            signed(match verb {
                'g' => print(value),
                _ => format!("{number:.precision$}"),
            })
        }
        _ => wrong(),
    }
}

fn integer(number: &serde_json::Number) -> Option<i128> {
    number
        .as_i64()
        .map(i128::from)
        .or_else(|| number.as_u64().map(i128::from))
}

/// Hexadecimal, octal and binary, where a negative number has a sign.
fn based(verb: char, spec: &Spec, number: i128) -> String {
    let sign = if number < 0 { "-" } else { "" };
    let size = number.unsigned_abs();
    let (prefix, digits) = match verb {
        'o' => ("0", format!("{size:o}")),
        'b' => ("0b", format!("{size:b}")),
        _ => ("0x", format!("{size:x}")),
    };
    let prefix = if spec.sharp { prefix } else { "" };
    cased(verb, format!("{sign}{prefix}{digits}"))
}

fn cased(verb: char, text: String) -> String {
    if verb == 'X' {
        return text.to_uppercase();
    }
    text
}
