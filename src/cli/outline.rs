//! JSON values as YAML: what podman prints where a person reads.

use std::fmt::Write;

use serde_json::Value;

/// The lines of an object or a list.
pub fn outline(value: &Value) -> String {
    let mut text = String::new();
    write_inner(&mut text, value, 0);
    text
}

fn write_inner(text: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let _ = write!(text, "{indent}{name}:");
                write_value(text, value, depth + 1);
            }
        }
        Value::Array(items) => {
            for item in items {
                let _ = write!(text, "{indent}-");
                if item.is_object() {
                    let mut inner = String::new();
                    write_inner(&mut inner, item, depth + 1);
                    let _ = write!(text, " {}", inner.trim_start());
                } else {
                    write_value(text, item, depth + 1);
                }
            }
        }
        scalar => write_value(text, scalar, depth),
    }
}

fn write_value(text: &mut String, value: &Value, depth: usize) {
    let _ = match value {
        Value::Object(fields) if fields.is_empty() => writeln!(text, " {{}}"),
        Value::Array(items) if items.is_empty() => writeln!(text, " []"),
        Value::Object(_) | Value::Array(_) => {
            text.push('\n');
            write_inner(text, value, depth);
            Ok(())
        }
        Value::String(word) if is_plain(word) => writeln!(text, " {word}"),
        // JSON's quotes are YAML's.
        other => writeln!(text, " {other}"),
    };
}

/// Whether YAML reads a word as the text that it is.
fn is_plain(word: &str) -> bool {
    let is_number = word.parse::<f64>().is_ok();
    let is_word = matches!(word, "true" | "false" | "null" | "yes" | "no" | "~");
    let safe = |c: char| c.is_alphanumeric() || " _-./()+,@".contains(c);
    let starts_well = word.starts_with(|c: char| c.is_alphanumeric() || c == '/');
    !is_number && !is_word && starts_well && !word.ends_with(' ') && word.chars().all(safe)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_and_lists_are_indented() {
        let value = json!({
            "a": { "b": 1, "c": [] , "d": "x y", "e": "", "f": "13" },
            "l": [{ "m": 1, "n": 2 }, "s"],
            "z": null,
        });
        assert_eq!(
            outline(&value),
            "a:\n  b: 1\n  c: []\n  d: x y\n  e: \"\"\n  f: \"13\"\nl:\n  - m: 1\n    n: 2\n  - s\nz: null\n"
        );
    }
}
