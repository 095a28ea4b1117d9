//! Programs that keep credentials: `docker-credential-NAME get|store|erase|list`.
//!
//! The protocol is that of docker's credential helpers: the server or a JSON document on standard
//! input, a JSON document on standard output, and a message on standard output on failure.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::auth::Credential;

/// The user name that says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

#[derive(Serialize, Deserialize)]
struct Document {
    #[serde(rename = "ServerURL", default)]
    server: String,
    #[serde(rename = "Username", default)]
    username: String,
    #[serde(rename = "Secret", default)]
    secret: String,
}

/// Whether the helper's program is in `$PATH`.
pub(crate) fn is_installed(helper: &str) -> bool {
    let program = format!("docker-credential-{helper}");
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|at| at.join(&program).is_file()))
}

/// The credentials that the helper has for a server.
pub(crate) fn get(helper: &str, server: &str) -> Result<Option<Credential>, Error> {
    let (success, output) = run(helper, "get", server)?;
    if !success {
        // docker's own libraries compare this text.
        if output
            .to_ascii_lowercase()
            .contains("credentials not found")
        {
            return Ok(None);
        }
        return Err(helper_error(helper, &output));
    }
    let document: Document = serde_json::from_str(&output)
        .map_err(|error| helper_error(helper, &format!("its answer is not JSON: {error}")))?;
    if document.secret.is_empty() {
        return Ok(None);
    }
    Ok(Some(if document.username == TOKEN_USER {
        Credential::IdentityToken(document.secret.into())
    } else {
        Credential::Basic {
            username: document.username,
            password: document.secret.into(),
        }
    }))
}

/// Hands credentials to the helper.
pub(crate) fn store(helper: &str, server: &str, username: &str, secret: &str) -> Result<(), Error> {
    let document = serde_json::json!({
        "ServerURL": server, "Username": username, "Secret": secret,
    });
    match run(helper, "store", &document.to_string())? {
        (true, _) => Ok(()),
        (false, output) => Err(helper_error(helper, &output)),
    }
}

/// Makes the helper forget a server; whether it knew it.
pub(crate) fn erase(helper: &str, server: &str) -> Result<bool, Error> {
    if get(helper, server)?.is_none() {
        return Ok(false);
    }
    match run(helper, "erase", server)? {
        (true, _) => Ok(true),
        (false, output) => Err(helper_error(helper, &output)),
    }
}

/// The servers that the helper has credentials for.
pub(crate) fn list(helper: &str) -> Result<Vec<String>, Error> {
    match run(helper, "list", "")? {
        (true, output) => {
            let users: BTreeMap<String, String> = serde_json::from_str(&output)
                .map_err(|error| helper_error(helper, &format!("its list is not JSON: {error}")))?;
            Ok(users.into_keys().collect())
        }
        (false, output) => Err(helper_error(helper, &output)),
    }
}

fn run(helper: &str, action: &str, input: &str) -> Result<(bool, String), Error> {
    if helper.is_empty() || helper.contains('/') {
        return Err(helper_error(
            helper,
            "its name must be the end of docker-credential-NAME, not a path",
        ));
    }
    let program = format!("docker-credential-{helper}");
    let failed = |error: std::io::Error| {
        let hint = if error.kind() == std::io::ErrorKind::NotFound {
            "it is configured as a credential helper, but not in $PATH".to_owned()
        } else {
            error.to_string()
        };
        helper_error(helper, &hint)
    };
    let mut child = Command::new(program)
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that ends without reading says why on its standard output.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok((output.status.success(), text))
}

fn helper_error(helper: &str, reason: &str) -> Error {
    let line = reason.lines().next().unwrap_or("it failed");
    let line: String = line.chars().take(300).collect();
    Error::Invalid(format!("docker-credential-{helper}: {line}"))
}
