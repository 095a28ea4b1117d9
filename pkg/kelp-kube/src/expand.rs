//! `$(VARIABLE)` in commands, arguments and values of variables.

/// Replaces references to variables that are known; others stay as they are, and `$$` is one dollar sign.
pub(crate) fn expand(text: &str, variable: impl Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(place) = rest.find('$') {
        expanded.push_str(&rest[..place]);
        rest = &rest[place + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|it| it.split_once(')'))
        {
            match variable(name) {
                Some(value) => expanded.push_str(&value),
                None => expanded.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            expanded.push('$');
        }
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_variables_are_replaced_and_others_stay() {
        let variable = |name: &str| (name == "A").then(|| "x$(A)".to_owned());
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("$(A)", "x$(A)"),
            ("a$(A)b$(B)", "ax$(A)b$(B)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$x$(A)"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("cost: 5$", "cost: 5$"),
            ("$()", "$()"),
        ] {
            assert_eq!(expand(text, variable), expected, "{text}");
        }
    }
}
