//! Environment variables: `-e` and `--env-file`.

/// The host's variables, as `(name, value)`.
pub type Host = [(String, String)];

/// One `-e`: `KEY=VALUE`, a bare `KEY` for the host's value, or `PREFIX*` for all that begin so.
pub fn argument(text: &str, host: &Host) -> Result<Vec<String>, String> {
    if let Some((key, _)) = text.split_once('=') {
        if key.is_empty() {
            return Err(format!(
                "invalid environment variable {text:?}: the name is missing"
            ));
        }
        return Ok(vec![text.to_owned()]);
    }
    if text.is_empty() {
        return Err("invalid environment variable \"\": the name is missing".to_owned());
    }
    Ok(from_host(text, host))
}

/// The content of an --env-file; `name` is for errors.
///
/// Leading white space goes; blank lines and lines with `#` are skipped; the first `=` splits, and
/// the value is verbatim.
pub fn file(content: &str, name: &str, host: &Host) -> Result<Vec<String>, String> {
    let mut list = Vec::new();
    for (number, line) in content.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_once('=') {
            Some((key, _)) if key.trim_end().is_empty() => {
                return Err(format!(
                    "{name}, line {}: no variable name on line {line:?}",
                    number + 1
                ));
            }
            Some((key, value)) => list.push(format!("{}={value}", key.trim_end())),
            None => list.extend(from_host(line.trim_end(), host)),
        }
    }
    Ok(list)
}

fn from_host(name: &str, host: &Host) -> Vec<String> {
    let fits = |known: &str| match name.strip_suffix('*') {
        Some(prefix) => known.starts_with(prefix),
        None => known == name,
    };
    host.iter()
        .filter(|(known, _)| fits(known))
        .map(|(known, value)| format!("{known}={value}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Vec<(String, String)> {
        [("LANG", "C"), ("LC_A", "1"), ("LC_B", "2")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec()
    }

    #[test]
    fn arguments_are_pairs_names_or_prefixes() {
        for (text, expected) in [
            ("A=b=c", vec!["A=b=c"]),
            ("A=", vec!["A="]),
            ("LANG", vec!["LANG=C"]),
            ("NONE", vec![]),
            ("LC_*", vec!["LC_A=1", "LC_B=2"]),
        ] {
            assert_eq!(argument(text, &host()).unwrap(), expected, "{text}");
        }
        assert!(argument("=x", &host()).is_err());
        assert!(argument("", &host()).is_err());
    }

    #[test]
    fn files_are_read_verbatim() {
        let content = "# comment\n\n  A=1 \nB=\"q\" # not a comment\nLANG\nLC_*\n";
        assert_eq!(
            file(content, "f", &host()).unwrap(),
            [
                "A=1 ",
                "B=\"q\" # not a comment",
                "LANG=C",
                "LC_A=1",
                "LC_B=2"
            ]
        );
        let error = file("A=1\n=2\n", "f", &host()).unwrap_err();
        assert_eq!(error, "f, line 2: no variable name on line \"=2\"");
    }
}
