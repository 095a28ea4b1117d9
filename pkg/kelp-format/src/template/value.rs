//! How Go prints values.

use serde_json::Value;

/// What `{{.X}}` prints.
pub(super) fn display(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        _ => print(value),
    }
}

/// What `%v` prints.
pub(super) fn print(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => match number.as_f64() {
            Some(value) if number.is_f64() => float(value),
            _ => number.to_string(),
        },
        Value::String(text) => text.clone(),
        Value::Array(_) | Value::Object(_) => nested(value, &print),
    }
}

/// A list as `[a b]`, or a map as `map[k:v]` in the order of its keys, with `print` for keys
/// and for what is in it.
pub(super) fn nested(value: &Value, print: &dyn Fn(&Value) -> String) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(print).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| key.as_str());
            let fields: Vec<_> = fields
                .into_iter()
                .map(|(key, value)| {
                    format!("{}:{}", print(&Value::from(key.as_str())), print(value))
                })
                .collect();
            format!("map[{}]", fields.join(" "))
        }
        _ => print(value),
    }
}

/// What `print` gives for several: a space between two that are both no text.
pub(super) fn sprint(values: &[Value]) -> String {
    let mut text = String::new();
    for (index, value) in values.iter().enumerate() {
        if index > 0 && !value.is_string() && !values[index - 1].is_string() {
            text.push(' ');
        }
        text.push_str(&print(value));
    }
    text
}

/// A number with a point as `%g` has it: the shortest digits that are this number, and an exponent
/// below 0.0001 and from a million on.
pub(super) fn float(value: f64) -> String {
    // `{:e}` has the shortest digits too: 1.5e6.
    let text = format!("{value:e}");
    let Some((digits, exponent)) = text.split_once('e') else {
        return text;
    };
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..6).contains(&exponent) => with_exponent(digits, exponent),
        _ => value.to_string(),
    }
}

/// Go's exponents have a sign and at least two digits.
pub(super) fn with_exponent(digits: &str, exponent: i32) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}
