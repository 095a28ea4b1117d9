//! `WWW-Authenticate`: how a registry says what it wants (RFC 9110, section 11.6.1).

/// One challenge: a scheme and its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// In lower case: `bearer`, `basic`.
    pub(crate) scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The value of a parameter, whose name is in lower case.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// The challenges of one header field. What can't be read ends the list: a registry that writes
/// nonsense is treated as one that says nothing more.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = token(rest);
        if word.is_empty() {
            return challenges;
        }
        let value = after.trim_start_matches([' ', '\t']).strip_prefix('=');
        match (value, challenges.last_mut()) {
            // `name = value` belongs to the challenge before it; a word alone begins one.
            (Some(value), Some(challenge)) => {
                let Some((text, after)) = parameter_value(value.trim_start_matches([' ', '\t']))
                else {
                    return challenges;
                };
                let name = word.to_ascii_lowercase();
                if challenge.parameter(&name).is_none() {
                    challenge.parameters.push((name, text));
                }
                rest = after;
            }
            (Some(_), None) => return challenges,
            (None, _) => {
                challenges.push(Challenge {
                    scheme: word.to_ascii_lowercase(),
                    parameters: Vec::new(),
                });
                rest = after;
            }
        }
    }
}

/// The token at the beginning, and what follows it.
fn token(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/:?".contains(c)))
        .unwrap_or(text.len());
    text.split_at(end)
}

/// A token or a quoted string, and what follows it.
fn parameter_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = token(text);
        return Some((value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(header: &str) -> String {
        parse(header)
            .iter()
            .map(|challenge| {
                let parameters: Vec<String> = challenge
                    .parameters
                    .iter()
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect();
                format!("{}[{}]", challenge.scheme, parameters.join("|"))
            })
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn challenges_are_taken_apart() {
        for (header, expected) in [
            ("", ""),
            ("Basic", "basic[]"),
            (r#"Basic realm="a b""#, "basic[realm=a b]"),
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
                "bearer[realm=https://auth.docker.io/token|service=registry.docker.io|\
                 scope=repository:a/b:pull,push]",
            ),
            (
                "Bearer realm=https://a.example/t , SERVICE = x",
                "bearer[realm=https://a.example/t|service=x]",
            ),
            (
                r#"Basic realm="x", Bearer realm="y\"z",error="invalid_token""#,
                r#"basic[realm=x] bearer[realm=y"z|error=invalid_token]"#,
            ),
            (
                r#"Negotiate, Basic realm="x""#,
                "negotiate[] basic[realm=x]",
            ),
            (
                r#"Bearer realm="first",realm="second""#,
                "bearer[realm=first]",
            ),
            (r#"Bearer realm="open"#, "bearer[]"),
            (r#"realm="x""#, ""),
            ("Bearer realm=\"é\"", "bearer[realm=é]"),
            ("é", ""),
        ] {
            assert_eq!(shown(header), expected, "{header}");
        }
    }
}
