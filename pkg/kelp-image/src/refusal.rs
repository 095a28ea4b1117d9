//! What a registry says when it says no, in one line.

use reqwest::StatusCode;
use serde::Deserialize;

use crate::Error;

/// Puts a registry's refusal into one line with the way out.
pub(crate) fn refusal(
    registry: &str,
    what: &str,
    status: StatusCode,
    body: &[u8],
    own: bool,
) -> Error {
    let said = said(body);
    let reason = said.unwrap_or_else(|| {
        format!(
            "the {} answered {status}",
            if own {
                "registry"
            } else {
                "server that it redirects to"
            }
        )
    });
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::Denied(format!(
            "{what}: {reason}; the repository may not exist or may need credentials: \
             kelp login {registry}"
        )),
        StatusCode::NOT_FOUND => Error::NotInRegistry(format!("{what}: {reason}")),
        StatusCode::TOO_MANY_REQUESTS => Error::Registry(format!(
            "{what}: {reason}; wait, or raise the limit with kelp login {registry}"
        )),
        _ => Error::Registry(format!("{what}: {reason}")),
    }
}

/// The first error of a registry's JSON, as one printable line.
fn said(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        errors: Vec<Said>,
    }
    #[derive(Deserialize)]
    struct Said {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let body: Body = serde_json::from_slice(body).ok()?;
    let first = body.errors.into_iter().next()?;
    let code = first.code.to_ascii_lowercase().replace('_', " ");
    let text = match (code.as_str(), first.message.as_str()) {
        ("", "") => return None,
        (code, "") => code.to_owned(),
        ("", message) => message.to_owned(),
        (code, message) if message.eq_ignore_ascii_case(code) => code.to_owned(),
        (code, message) => format!("{code}: {message}"),
    };
    Some(printable(&text).chars().take(300).collect())
}

/// A registry's text as it is shown on a terminal: one line, and nothing that moves its cursor.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_says_is_one_printable_line() {
        for (body, expected) in [
            (
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
                Some("manifest unknown"),
            ),
            (
                r#"{"errors":[{"code":"DENIED","message":"requested access is denied"}]}"#,
                Some("denied: requested access is denied"),
            ),
            (
                "{\"errors\":[{\"message\":\"a\\n\\u001b[31mb\"}]}",
                Some("a  [31mb"),
            ),
            (r#"{"errors":[]}"#, None),
            ("<html>", None),
        ] {
            assert_eq!(said(body.as_bytes()).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn a_refusal_names_the_way_out() {
        let denied = refusal("r.example", "reading", StatusCode::FORBIDDEN, b"", true);
        assert!(matches!(denied, Error::Denied(_)));
        assert!(denied.to_string().contains("kelp login r.example"));
        let missing = refusal("r.example", "reading", StatusCode::NOT_FOUND, b"", true);
        assert!(matches!(missing, Error::NotInRegistry(_)));
    }
}
