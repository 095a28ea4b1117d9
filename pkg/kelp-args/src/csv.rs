//! Lists with commas, whose fields may be quoted as in RFC 4180.

/// The fields of a line: one that begins with a quote ends with one, and a doubled quote in it is a
/// quote. `Err` says what is wrong.
pub(crate) fn fields(text: &str) -> Result<Vec<String>, &'static str> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => plain_field(rest)?,
        };
        fields.push(field);
        match after {
            Some(after) => rest = after,
            None => return Ok(fields),
        }
    }
}

/// A field, and what follows its comma if there is one.
type Split<'a> = (String, Option<&'a str>);

fn plain_field(text: &str) -> Result<Split<'_>, &'static str> {
    let (field, after) = match text.split_once(',') {
        Some((field, after)) => (field, Some(after)),
        None => (text, None),
    };
    if field.contains('"') {
        return Err("a quote is possible only around a whole field");
    }
    Ok((field.to_owned(), after))
}

fn quoted_field(text: &str) -> Result<Split<'_>, &'static str> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"').ok_or("a quote is not closed")?;
        field.push_str(before);
        if let Some(after) = after.strip_prefix('"') {
            field.push('"');
            rest = after;
        } else if after.is_empty() {
            return Ok((field, None));
        } else {
            let after = after
                .strip_prefix(',')
                .ok_or("a comma is missing after a quote")?;
            return Ok((field, Some(after)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_may_be_quoted() {
        for (text, expected) in [
            ("", &[""][..]),
            ("a", &["a"]),
            ("a,b=c", &["a", "b=c"]),
            ("a,,b,", &["a", "", "b", ""]),
            ("\"a,b\",c", &["a,b", "c"]),
            ("\"a\"\"b\"", &["a\"b"]),
            ("\"\"", &[""]),
        ] {
            let fields = fields(text).unwrap();
            assert_eq!(fields, expected, "{text}");
        }
        for text in ["a\"b", "\"a", "\"a\"b", "\"", "\"\"\""] {
            assert!(fields(text).is_err(), "{text}");
        }
    }
}
