//! Go's functions, and those that podman and docker add.

use std::cmp::Ordering;
use std::fmt::Write;

use serde_json::Value;

use super::Error;
use super::printf::printf;

/// A value as Go prints it with `%v`.
pub(super) fn print(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => match number.as_f64() {
            Some(value) if number.is_f64() => value.to_string(),
            _ => number.to_string(),
        },
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(print).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| key.as_str());
            let fields: Vec<_> = fields
                .into_iter()
                .map(|(key, value)| format!("{key}:{}", print(value)))
                .collect();
            format!("map[{}]", fields.join(" "))
        }
    }
}

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
    let one = || arguments.first().ok_or_else(|| wrong(1));
    let two = || match arguments {
        [first, second] => Ok((first, second)),
        _ => Err(wrong(2)),
    };
    let text = |value: &Value| print(value);
    Ok(match name {
        "json" => Value::from(one()?.to_string()),
        "upper" => Value::from(text(one()?).to_uppercase()),
        "lower" => Value::from(text(one()?).to_lowercase()),
        "title" => Value::from(title(&text(one()?))),
        "join" => {
            let (list, separator) = two()?;
            let items: Vec<_> = list.as_array().into_iter().flatten().map(text).collect();
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
            Value::Null => 0,
            _ => return Err(Error::new("len of a value that has none")),
        }),
        "index" => index(arguments)?,
        "slice" => slice(arguments)?,
        "not" => Value::from(!truth(one()?)),
        "and" | "or" => arguments.last().cloned().unwrap_or_default(),
        "eq" => {
            let first = one()?;
            Value::from(arguments[1..].iter().any(|other| equal(first, other)))
        }
        "ne" => {
            let (first, second) = two()?;
            Value::from(!equal(first, second))
        }
        "lt" | "le" | "gt" | "ge" => {
            let (first, second) = two()?;
            let order = compare(first, second)
                .ok_or_else(|| Error::new(format!("{name}: incompatible types for comparison")))?;
            Value::from(match name {
                "lt" => order == Ordering::Less,
                "le" => order != Ordering::Greater,
                "gt" => order == Ordering::Greater,
                _ => order != Ordering::Less,
            })
        }
        "print" => Value::from(arguments.iter().map(text).collect::<String>()),
        "println" => Value::from(arguments.iter().map(text).collect::<Vec<_>>().join(" ") + "\n"),
        "printf" => {
            let format = one()?.as_str().unwrap_or_default();
            Value::from(printf(format, &arguments[1..]))
        }
        "html" => Value::from(html(&text(one()?))),
        "js" => Value::from(js(&text(one()?))),
        "urlquery" => Value::from(urlquery(&text(one()?))),
        _ => return Err(Error::new(format!("function \"{name}\" not defined"))),
    })
}

fn title(text: &str) -> String {
    let mut start = true;
    text.chars()
        .map(|c| {
            let upper = start && c.is_alphabetic();
            start = c.is_whitespace();
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
            (Value::Object(fields), key) => match fields.get(&print(key)) {
                Some(value) => value,
                None => return Ok(Value::from("")),
            },
            _ => return Err(Error::new("error calling index: can't index this value")),
        };
    }
    Ok(value.clone())
}

fn slice(arguments: &[Value]) -> Result<Value, Error> {
    let (value, bounds) = arguments
        .split_first()
        .ok_or_else(|| Error::new("slice of nothing"))?;
    let bound = |at: usize| {
        bounds
            .get(at)
            .and_then(Value::as_u64)
            .map(|number| number as usize)
    };
    let length = match value {
        Value::Array(items) => items.len(),
        Value::String(text) => text.len(),
        _ => return Err(Error::new("error calling slice: can't slice this value")),
    };
    let (from, to) = (bound(0).unwrap_or(0), bound(1).unwrap_or(length));
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

fn equal(first: &Value, second: &Value) -> bool {
    match (first.as_f64(), second.as_f64()) {
        (Some(first), Some(second)) => first.total_cmp(&second) == Ordering::Equal,
        _ => first == second,
    }
}

fn compare(first: &Value, second: &Value) -> Option<Ordering> {
    match (first, second) {
        (Value::Number(first), Value::Number(second)) => {
            first.as_f64()?.partial_cmp(&second.as_f64()?)
        }
        (Value::String(first), Value::String(second)) => Some(first.cmp(second)),
        _ => None,
    }
}
