//! Changing policy.json: `image trust set`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value, json};

use super::cosign::PublicKey;
use super::policy::{FILE, Policy};
use super::simple::Keys;
use crate::Error;
use crate::config_paths::ConfigPaths;
use crate::temporary::Output;

/// What a scope is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewRule {
    /// Every image.
    Accept,
    /// None.
    Reject,
    /// Images with a simple signature by a key of each file.
    SignedBy(Vec<PathBuf>),
    /// Images with a sigstore signature by the key of each file.
    SigstoreSigned(Vec<PathBuf>),
}

impl NewRule {
    /// Takes podman's words.
    pub fn parse(kind: &str, keys: &[PathBuf]) -> Result<Self, Error> {
        let invalid = |reason: String| Err(Error::Invalid(reason));
        match (kind, keys) {
            ("accept" | "insecureAcceptAnything", []) => Ok(Self::Accept),
            ("reject", []) => Ok(Self::Reject),
            ("accept" | "insecureAcceptAnything" | "reject", _) => {
                invalid(format!("the type {kind} has no --pubkeysfile"))
            }
            ("signedBy" | "sigstoreSigned", []) => {
                invalid(format!("the type {kind} needs a --pubkeysfile"))
            }
            ("signedBy", keys) => Ok(Self::SignedBy(keys.to_vec())),
            ("sigstoreSigned", keys) => Ok(Self::SigstoreSigned(keys.to_vec())),
            _ => invalid(format!(
                "unknown type {kind:?}: it is accept, reject, signedBy or sigstoreSigned"
            )),
        }
    }

    /// As the file has it; keys that are none are an error.
    fn to_json(&self) -> Result<Value, Error> {
        Ok(match self {
            Self::Accept => json!([{"type": "insecureAcceptAnything"}]),
            Self::Reject => json!([{"type": "reject"}]),
            Self::SignedBy(files) => Value::Array(
                files
                    .iter()
                    .map(|file| {
                        let path = checked(file, |text| Keys::parse(&[text]).map(drop))?;
                        Ok(json!({"type": "signedBy", "keyType": "GPGKeys", "keyPath": path}))
                    })
                    .collect::<Result<_, Error>>()?,
            ),
            Self::SigstoreSigned(files) => Value::Array(
                files
                    .iter()
                    .map(|file| {
                        let path = checked(file, |text| PublicKey::from_pem(&text).map(drop))?;
                        Ok(json!({"type": "sigstoreSigned", "keyPath": path}))
                    })
                    .collect::<Result<_, Error>>()?,
            ),
        })
    }
}

/// The absolute path of a file with a key.
fn checked(file: &Path, check: impl Fn(Vec<u8>) -> Result<(), String>) -> Result<PathBuf, Error> {
    let what = || format!("read the key {}", file.display());
    let text = fs::read(file).map_err(Error::io(what()))?;
    check(text).map_err(|reason| Error::Invalid(format!("{}: {reason}", file.display())))?;
    std::path::absolute(file).map_err(Error::io(what()))
}

/// Gives a scope (a registry or a part of it, or `default`) a rule, in the file that was named, else in
/// the user's, which begins as a copy of the machine's. The file that has it now.
pub fn set(
    paths: &ConfigPaths,
    named: Option<&Path>,
    scope: &str,
    rule: &NewRule,
) -> Result<PathBuf, Error> {
    let file = match named {
        Some(named) => named.to_owned(),
        None => paths.user_containers(FILE).ok_or_else(|| {
            Error::Invalid("there is no $HOME: name the file with --signature-policy".to_owned())
        })?,
    };
    let what = || format!("write {}", file.display());
    // A link stays, and what it leads to is replaced.
    let real = fs::canonicalize(&file).unwrap_or_else(|_| file.clone());
    let directory = match real.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(directory).map_err(Error::io(what()))?;
    // Two changes at once must not lose one of them; the lock ends with the descriptor.
    let lock = fs::File::open(directory).map_err(Error::io(what()))?;
    lock.lock().map_err(Error::io(what()))?;
    let mut policy = match read(&file)? {
        Some(policy) => policy,
        None if named.is_none() => match read(&paths.system_containers(FILE))? {
            Some(policy) => policy,
            // What no file says is what a file says then.
            None => Map::from_iter([("default".to_owned(), NewRule::Accept.to_json()?)]),
        },
        None => Map::new(),
    };
    put(&mut policy, scope, rule.to_json()?)?;
    let text = pretty(&Value::Object(policy))?;
    // A rule that the next pull would not understand is not written.
    Policy::parse(&text)
        .map_err(|reason| Error::Invalid(format!("{}: {reason}", file.display())))?;
    let mut new = Output::create(directory)?;
    new.fill(&text).map_err(Error::io(what()))?;
    new.persist(&real)?;
    Ok(file)
}

fn put(policy: &mut Map<String, Value>, scope: &str, rule: Value) -> Result<(), Error> {
    if scope == "default" {
        policy.insert("default".to_owned(), rule);
        return Ok(());
    }
    if !policy.contains_key("default") {
        return Err(Error::Invalid(
            "a policy needs a default first: kelp image trust set --type reject default".to_owned(),
        ));
    }
    let malformed = || Error::Invalid("transports is not as it should be".to_owned());
    let transports = policy
        .entry("transports")
        .or_insert_with(|| json!({}))
        .as_object_mut()
        .ok_or_else(malformed)?;
    // As podman does: a scope that is there is changed where it is.
    let place = transports
        .iter()
        .find(|(_, scopes)| scopes.get(scope).is_some())
        .map_or("docker", |(transport, _)| transport)
        .to_owned();
    transports
        .entry(place)
        .or_insert_with(|| json!({}))
        .as_object_mut()
        .ok_or_else(malformed)?
        .insert(scope.to_owned(), rule);
    Ok(())
}

fn read(file: &Path) -> Result<Option<Map<String, Value>>, Error> {
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(format!("read {}", file.display()))(error)),
    };
    Policy::parse(&text)
        .map_err(|reason| Error::Invalid(format!("{}: {reason}", file.display())))?;
    let policy =
        serde_json::from_slice(&text).map_err(Error::json(format!("read {}", file.display())))?;
    Ok(Some(policy))
}

fn pretty(policy: &Value) -> Result<Vec<u8>, Error> {
    let mut text = Vec::new();
    let formatter = PrettyFormatter::with_indent(b"    ");
    policy
        .serialize(&mut Serializer::with_formatter(&mut text, formatter))
        .map_err(Error::json("write a policy"))?;
    text.push(b'\n');
    Ok(text)
}
