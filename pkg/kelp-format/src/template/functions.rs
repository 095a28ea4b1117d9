//! Go's functions, and those that podman and docker add.

use std::cmp::Ordering;
use std::fmt::Write;

use serde_json::Value;

use super::Error;
use super::printf::printf;
use super::value::{print, sprint};

/// Whether `if` takes the branch: Go's zero values do not.
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// Calls a function.
pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, Error> {
    let wrong = |count: usize| {
        Error::new(format!(
            "wrong number of args for {name}: want {count} got {}",
            arguments.len()
        ))
    };
    let one = || match arguments {
        [value] => Ok(value),
        _ => Err(wrong(1)),
    };
    let two = || match arguments {
        [first, second] => Ok((first, second)),
        _ => Err(wrong(2)),
    };
    let text = |value: &Value| print(value);
    Ok(match name {
        "json" => Value::from(json(one()?)),
        "upper" => Value::from(text(one()?).to_uppercase()),
        "lower" => Value::from(text(one()?).to_lowercase()),
        "title" => Value::from(title(&text(one()?))),
        "join" => {
            let (list, separator) = two()?;
            let items: Vec<_> = match list {
                Value::Array(items) => items.iter().map(text).collect(),
                Value::Null => Vec::new(),
                _ => return Err(Error::new("error calling join: the value is no list")),
            };
            Value::from(items.join(&text(separator)))
        }
        "split" => {
            let (whole, separator) = two()?;
            let (whole, separator) = (text(whole), text(separator));
            // Go splits at nothing into characters; Rust would add an empty end on each side.
            let parts: Vec<Value> = if separator.is_empty() {
                whole.chars().map(|c| Value::from(c.to_string())).collect()
            } else {
                whole.split(separator.as_str()).map(Value::from).collect()
            };
            Value::from(parts)
        }
        "truncate" => {
            let (whole, length) = two()?;
            let length = length.as_u64().unwrap_or(0) as usize;
            Value::from(text(whole).chars().take(length).collect::<String>())
        }
        "pad" => match arguments {
            [whole, ..] if text(whole).is_empty() => Value::from(""),
            [whole, before, after] => {
                let spaces =
                    |value: &Value| " ".repeat(value.as_u64().unwrap_or(0).min(1000) as usize);
                Value::from(format!(
                    "{}{}{}",
                    spaces(before),
                    text(whole),
                    spaces(after)
                ))
            }
            _ => return Err(wrong(3)),
        },
        "len" => Value::from(match one()? {
            Value::Array(items) => items.len(),
            Value::Object(fields) => fields.len(),
            Value::String(text) => text.len(),
            // A list that is not there is an empty one in Go.
            Value::Null => 0,
            _ => return Err(Error::new("error calling len: the value has no length")),
        }),
        "index" => index(arguments)?,
        "slice" => slice(arguments)?,
        "not" => Value::from(!truth(one()?)),
        "and" | "or" => arguments.last().cloned().ok_or_else(|| wrong(1))?,
        "eq" => match arguments {
            [] | [_] => {
                return Err(Error::new(
                    "error calling eq: missing argument for comparison",
                ));
            }
            [first, others @ ..] => {
                let mut found = false;
                for other in others {
                    found = equal("eq", first, other)?;
                    if found {
                        break;
                    }
                }
                Value::from(found)
            }
        },
        "ne" => {
            let (first, second) = two()?;
            Value::from(!equal("ne", first, second)?)
        }
        "lt" | "le" | "gt" | "ge" => {
            let (first, second) = two()?;
            let order = compare(first, second).ok_or_else(|| incompatible(name))?;
            Value::from(match name {
                "lt" => order == Ordering::Less,
                "le" => order != Ordering::Greater,
                "gt" => order == Ordering::Greater,
                _ => order != Ordering::Less,
            })
        }
        "print" => Value::from(sprint(arguments)),
        "println" => Value::from(arguments.iter().map(text).collect::<Vec<_>>().join(" ") + "\n"),
        "printf" => {
            let (format, rest) = arguments.split_first().ok_or_else(|| wrong(1))?;
            let format = format
                .as_str()
                .ok_or_else(|| Error::new("wrong type for value; printf needs a format"))?;
            Value::from(printf(format, rest))
        }
        "html" => Value::from(html(&sprint(arguments))),
        "js" => Value::from(js(&sprint(arguments))),
        "urlquery" => Value::from(urlquery(&sprint(arguments))),
        _ => return Err(Error::new(format!("function \"{name}\" not defined"))),
    })
}

/// Compact; a number with nothing behind its point has none, as in Go.
fn json(value: &Value) -> String {
    let mut value = value.clone();
    whole_numbers(&mut value);
    value.to_string()
}

fn whole_numbers(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        Value::Number(number) if number.is_f64() => {
            // Up to 2^53 every whole number is one.
            let float = number.as_f64().unwrap_or_default();
            if float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0 {
                *value = Value::from(float as i64);
            }
        }
        _ => {}
    }
}

/// Letters after anything that is neither letter, digit nor underscore are capitals.
fn title(text: &str) -> String {
    let mut start = true;
    text.chars()
        .map(|c| {
            let upper = start && c.is_alphabetic();
            start = !(c.is_alphanumeric() || c == '_');
            if upper {
                c.to_uppercase().next().unwrap_or(c)
            } else {
                c
            }
        })
        .collect()
}

fn html(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;")
}

fn js(text: &str) -> String {
    let mut output = String::new();
    for c in text.chars() {
        match c {
            '\\' => output.push_str("\\\\"),
            '\'' => output.push_str("\\'"),
            '"' => output.push_str("\\\""),
            '<' | '>' | '&' | '=' | '\0'..' ' => {
                let _ = write!(output, "\\u{:04X}", u32::from(c));
            }
            _ => output.push(c),
        }
    }
    output
}

fn urlquery(text: &str) -> String {
    let mut output = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                output.push(byte.into());
            }
            b' ' => output.push('+'),
            _ => {
                let _ = write!(output, "%{byte:02X}");
            }
        }
    }
    output
}

fn index(arguments: &[Value]) -> Result<Value, Error> {
    let (mut value, keys) = arguments
        .split_first()
        .ok_or_else(|| Error::new("index of nothing"))?;
    for key in keys {
        value = match (value, key) {
            (Value::Array(items), Value::Number(number)) => number
                .as_u64()
                .and_then(|at| items.get(at as usize))
                .ok_or_else(|| {
                    Error::new(format!("error calling index: index out of range: {number}"))
                })?,
            // A key that a map does not have gives the zero value.
            (Value::Object(fields), Value::String(key)) => match fields.get(key) {
                Some(value) => value,
                None => return Ok(Value::from("")),
            },
            (Value::Object(_), _) => {
                return Err(Error::new("error calling index: a key must be a string"));
            }
            _ => return Err(Error::new("error calling index: can't index this value")),
        };
    }
    Ok(value.clone())
}

fn slice(arguments: &[Value]) -> Result<Value, Error> {
    let (value, bounds) = arguments
        .split_first()
        .ok_or_else(|| Error::new("slice of nothing"))?;
    let length = match value {
        Value::Array(items) => items.len(),
        Value::String(text) => text.len(),
        _ => return Err(Error::new("error calling slice: can't slice this value")),
    };
    let bound = |at: usize, usual: usize| match bounds.get(at) {
        None => Ok(usual),
        Some(bound) => bound
            .as_u64()
            .map(|bound| bound as usize)
            .ok_or_else(|| Error::new(format!("error calling slice: no index: {}", print(bound)))),
    };
    if bounds.len() > 2 {
        return Err(Error::new("error calling slice: too many slice indexes"));
    }
    let (from, to) = (bound(0, 0)?, bound(1, length)?);
    let out_of_range = || Error::new(format!("error calling slice: index out of range: {to}"));
    Ok(match value {
        Value::Array(items) => Value::from(items.get(from..to).ok_or_else(out_of_range)?.to_vec()),
        _ => Value::from(
            print(value)
                .get(from..to)
                .ok_or_else(out_of_range)?
                .to_owned(),
        ),
    })
}

fn incompatible(name: &str) -> Error {
    Error::new(format!(
        "error calling {name}: incompatible types for comparison"
    ))
}

/// Numbers are equal with and without a point: the types of fields are not to be seen in JSON.
fn equal(name: &str, first: &Value, second: &Value) -> Result<bool, Error> {
    match (first, second) {
        (Value::Number(_), Value::Number(_)) => Ok(compare(first, second) == Some(Ordering::Equal)),
        (Value::String(_), Value::String(_))
        | (Value::Bool(_), Value::Bool(_))
        | (Value::Null, _)
        | (_, Value::Null) => Ok(first == second),
        _ => Err(incompatible(name)),
    }
}

fn compare(first: &Value, second: &Value) -> Option<Ordering> {
    match (first, second) {
        (Value::Number(first), Value::Number(second)) => {
            match (first.as_i128(), second.as_i128()) {
                (Some(first), Some(second)) => Some(first.cmp(&second)),
                _ => first.as_f64()?.partial_cmp(&second.as_f64()?),
            }
        }
        (Value::String(first), Value::String(second)) => Some(first.cmp(second)),
        _ => None,
    }
}
