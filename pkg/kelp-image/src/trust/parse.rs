//! The JSON of policy.json, strictly: every object has the members that it may have, each once.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::identity::SignedIdentity;
use super::policy::{
    KeySource, KeyType, Policy, Requirement, SignedBy, SigstoreSigned, SigstoreSigner,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    default: Vec<RawRequirement>,
    #[serde(default)]
    transports: Unique<Unique<Vec<RawRequirement>>>,
}

// The variants without members are structs: a unit variant would take any.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", deny_unknown_fields)]
enum RawRequirement {
    InsecureAcceptAnything {},
    Reject {},
    SignedBaseLayer {
        #[serde(rename = "baseLayerIdentity")]
        _identity: SignedIdentity,
    },
    SignedBy(RawSignedBy),
    SigstoreSigned(Box<RawSigstoreSigned>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawSignedBy {
    key_type: KeyType,
    #[serde(default)]
    key_path: Member<PathBuf>,
    #[serde(default)]
    key_paths: Member<Vec<PathBuf>>,
    #[serde(default)]
    key_data: Member<Data>,
    #[serde(default)]
    signed_identity: Member<SignedIdentity>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct RawSigstoreSigned {
    key_path: Member<PathBuf>,
    key_paths: Member<Vec<PathBuf>>,
    key_data: Member<Data>,
    key_datas: Member<Vec<Data>>,
    fulcio: Member<RawFulcio>,
    pki: Member<RawPki>,
    rekor_public_key_path: Member<PathBuf>,
    rekor_public_key_paths: Member<Vec<PathBuf>>,
    rekor_public_key_data: Member<Data>,
    rekor_public_key_datas: Member<Vec<Data>>,
    signed_identity: Member<SignedIdentity>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFulcio {
    #[serde(default, rename = "caPath")]
    path: Member<PathBuf>,
    #[serde(default, rename = "caData")]
    data: Member<Data>,
    #[serde(rename = "oidcIssuer")]
    issuer: String,
    #[serde(rename = "subjectEmail")]
    email: String,
}

// Only its form is checked: images under such a rule are refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPki {
    #[serde(default, rename = "caRootsPath")]
    _roots_path: Option<PathBuf>,
    #[serde(default, rename = "caRootsData")]
    _roots_data: Option<Data>,
    #[serde(default, rename = "caIntermediatesPath")]
    _intermediates_path: Option<PathBuf>,
    #[serde(default, rename = "caIntermediatesData")]
    _intermediates_data: Option<Data>,
    #[serde(default, rename = "subjectEmail")]
    _email: Option<String>,
    #[serde(default, rename = "subjectHostname")]
    _hostname: Option<String>,
}

/// Bytes in base64.
struct Data(Vec<u8>);

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let text: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        let bytes = STANDARD
            .decode(text)
            .map_err(|error| D::Error::custom(format!("base64: {error}")))?;
        Ok(Self(bytes))
    }
}

/// A member that may be missing, but not null.
struct Member<T>(Option<T>);

impl<T> Default for Member<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Member<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(|value| Self(Some(value)))
    }
}

/// An object with any keys, each of them once.
struct Unique<V>(BTreeMap<String, V>);

impl<V> Default for Unique<V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Members<V> {
            type Value = Unique<V>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, V>()? {
                    if members.contains_key(&key) {
                        return Err(A::Error::custom(format!("duplicate key {key:?}")));
                    }
                    members.insert(key, value);
                }
                Ok(Unique(members))
            }
        }
        deserializer.deserialize_map(Members(PhantomData))
    }
}

/// Parses a policy.
pub(super) fn policy(text: &[u8]) -> Result<Policy, String> {
    let raw: RawPolicy = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let mut transports = BTreeMap::new();
    for (transport, scopes) in raw.transports.0 {
        let mut rules = BTreeMap::new();
        for (scope, requirements) in scopes.0 {
            let place = format!("{transport} {scope:?}");
            check_scope(&transport, &scope).map_err(|reason| format!("{place}: {reason}"))?;
            let rule = rule(requirements).map_err(|reason| format!("{place}: {reason}"))?;
            rules.insert(scope, rule);
        }
        transports.insert(transport, rules);
    }
    Ok(Policy {
        default: rule(raw.default).map_err(|reason| format!("default: {reason}"))?,
        transports,
    })
}

fn rule(raw: Vec<RawRequirement>) -> Result<Vec<Requirement>, String> {
    if raw.is_empty() {
        return Err("the list of requirements is empty".to_owned());
    }
    raw.into_iter().map(requirement).collect()
}

fn requirement(raw: RawRequirement) -> Result<Requirement, String> {
    Ok(match raw {
        RawRequirement::InsecureAcceptAnything {} => Requirement::InsecureAcceptAnything,
        RawRequirement::Reject {} => Requirement::Reject,
        RawRequirement::SignedBaseLayer { .. } => Requirement::SignedBaseLayer,
        RawRequirement::SignedBy(raw) => {
            let keys = one_source(raw.key_path.0, raw.key_paths.0, raw.key_data.0, None)?;
            Requirement::SignedBy(SignedBy {
                key_type: raw.key_type,
                keys: keys.ok_or(
                    "signedBy: exactly one of keyPath, keyPaths and keyData must be there",
                )?,
                identity: raw.signed_identity.0.unwrap_or_default(),
            })
        }
        RawRequirement::SigstoreSigned(raw) => {
            Requirement::SigstoreSigned(Box::new(sigstore_signed(*raw)?))
        }
    })
}

fn sigstore_signed(raw: RawSigstoreSigned) -> Result<SigstoreSigned, String> {
    const SIGNERS: &str = "sigstoreSigned: exactly one of keyPath, keyPaths, keyData, keyDatas, \
                           fulcio and pki must be there";
    let keys = one_source(
        raw.key_path.0,
        raw.key_paths.0,
        raw.key_data.0,
        raw.key_datas.0,
    )?;
    let log = one_source(
        raw.rekor_public_key_path.0,
        raw.rekor_public_key_paths.0,
        raw.rekor_public_key_data.0,
        raw.rekor_public_key_datas.0,
    )?;
    let signer = match (keys, raw.fulcio.0, raw.pki.0) {
        (Some(keys), None, None) => SigstoreSigner::Keys(keys),
        (None, Some(fulcio), None) => fulcio_signer(fulcio)?,
        (None, None, Some(_)) => SigstoreSigner::Pki,
        _ => return Err(SIGNERS.to_owned()),
    };
    match (&signer, &log) {
        (SigstoreSigner::Fulcio { .. }, None) => {
            return Err(
                "sigstoreSigned: fulcio needs a rekorPublicKey: the log tells when its \
                        short-lived certificate was used"
                    .to_owned(),
            );
        }
        (SigstoreSigner::Pki, Some(_)) => {
            return Err("sigstoreSigned: pki and a rekorPublicKey exclude each other".to_owned());
        }
        _ => {}
    }
    Ok(SigstoreSigned {
        signer,
        log,
        identity: raw.signed_identity.0.unwrap_or_default(),
    })
}

fn fulcio_signer(raw: RawFulcio) -> Result<SigstoreSigner, String> {
    let authority = one_source(raw.path.0, None, raw.data.0, None)?
        .ok_or("fulcio: exactly one of caPath and caData must be there")?;
    if raw.issuer.is_empty() || raw.email.is_empty() {
        return Err("fulcio: oidcIssuer and subjectEmail must not be empty".to_owned());
    }
    Ok(SigstoreSigner::Fulcio {
        authority,
        issuer: raw.issuer,
        email: raw.email,
    })
}

/// The one source that is there, if there is one; several are an error, and so is an empty one.
fn one_source(
    path: Option<PathBuf>,
    paths: Option<Vec<PathBuf>>,
    data: Option<Data>,
    datas: Option<Vec<Data>>,
) -> Result<Option<KeySource>, String> {
    let bytes = |datas: Vec<Data>| KeySource::Data(datas.into_iter().map(|data| data.0).collect());
    let mut sources = [
        path.map(|path| KeySource::Files(vec![path])),
        paths.map(KeySource::Files),
        data.map(|data| bytes(vec![data])),
        datas.map(bytes),
    ]
    .into_iter()
    .flatten();
    let first = sources.next();
    if sources.next().is_some() {
        return Err("more than one source of the same keys".to_owned());
    }
    let is_empty = match &first {
        None => false,
        Some(KeySource::Data(data)) => data.is_empty() || data.iter().any(Vec::is_empty),
        Some(KeySource::Files(files)) => {
            files.is_empty() || files.iter().any(|file| file.as_os_str().is_empty())
        }
    };
    if is_empty {
        return Err("a source of keys is empty".to_owned());
    }
    Ok(first)
}

/// What a transport takes for a scope, which the empty one always is. Transports that are not known
/// here may have any.
fn check_scope(transport: &str, scope: &str) -> Result<(), String> {
    if scope.is_empty() {
        return Ok(());
    }
    match transport {
        "dir" | "oci" | "oci-archive" | "sif" => check_path(scope),
        "docker-archive" | "tarball" => Err("only the scope \"\" is known here".to_owned()),
        "containers-storage" => check_storage(scope),
        _ => Ok(()),
    }
}

fn check_path(scope: &str) -> Result<(), String> {
    let clean = scope
        .strip_prefix('/')
        .is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")));
    match (scope, clean) {
        ("/", _) => Err("use \"\" for every path".to_owned()),
        (_, true) => Ok(()),
        (_, false) => Err("a scope is an absolute path without \".\", \"..\" and //".to_owned()),
    }
}

/// `[driver@/root]` or `[/root]`, and perhaps a name.
fn check_storage(scope: &str) -> Result<(), String> {
    let store = scope
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        .map(|(store, _)| store);
    let root = store.map(|store| match store.split_once('@') {
        Some(("", _)) => "",
        Some((_, root)) => root,
        None => store,
    });
    if root.is_some_and(|root| Path::new(root).is_absolute()) {
        Ok(())
    } else {
        Err("a scope begins with [driver@/path] or [/path]".to_owned())
    }
}
