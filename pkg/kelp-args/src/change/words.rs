//! The words of an instruction.

/// A JSON list of strings, if it is one.
pub(super) fn json_list(text: &str) -> Option<Vec<String>> {
    if !text.starts_with('[') {
        return None;
    }
    serde_json::from_str(text).ok()
}

/// Splits at white space that is neither quoted nor escaped, as a shell does: what is in single quotes
/// stays as it is, and in double quotes a backslash stands before a quote, a dollar or itself.
pub(super) fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(open), c) if c == open => quote = None,
            (None, '\\') => {
                let next = characters
                    .next()
                    .ok_or("a backslash has nothing behind it")?;
                word.get_or_insert_default().push(next);
            }
            (Some('"'), '\\') if matches!(characters.peek(), Some('"' | '\\' | '$')) => {
                word.get_or_insert_default().extend(characters.next());
            }
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote has no end".to_owned());
    }
    words.extend(word);
    Ok(words)
}
