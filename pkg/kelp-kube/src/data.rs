//! Config maps, secrets and claims: what pods refer to.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::Error;
use crate::field::{Fields, Value};
use crate::metadata::{Metadata, check_name};

/// The keys of a config map or secret, and what stands there.
pub type Values = BTreeMap<String, Vec<u8>>;

/// The config maps and secrets that are known, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Config maps.
    pub config_maps: BTreeMap<String, Values>,
    /// Secrets.
    pub secrets: BTreeMap<String, Values>,
    /// Whether there may be others elsewhere: then none is missed. For who wants to know what a stream has, and not
    /// what is in that.
    pub others: bool,
}

/// A claim of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What it is called, and the volume is.
    pub metadata: Metadata,
}

/// Reads `data` and `binaryData` of a config map.
pub(crate) fn config_map(fields: &mut Fields<'_>) -> Result<Values, Error> {
    let mut values = Values::new();
    add(&mut values, fields.take("data"), |value| {
        value.text().map(String::into_bytes)
    })?;
    add(&mut values, fields.take("binaryData"), decoded)?;
    // It says that the cluster does not let it be changed.
    fields.pass_over(&["immutable"]);
    Ok(values)
}

/// Reads `data` and `stringData` of a secret.
pub(crate) fn secret(fields: &mut Fields<'_>) -> Result<Values, Error> {
    let mut values = Values::new();
    add(&mut values, fields.take("data"), decoded)?;
    add(&mut values, fields.take("stringData"), |value| {
        value.text().map(String::into_bytes)
    })?;
    // What it is for, which a cluster checks.
    fields.pass_over(&["immutable", "type"]);
    Ok(values)
}

fn add(
    values: &mut Values,
    map: Option<Value<'_>>,
    read: impl Fn(&Value<'_>) -> Result<Vec<u8>, Error>,
) -> Result<(), Error> {
    let Some(map) = map else { return Ok(()) };
    for (key, value) in map.fields()?.rest() {
        check_key(&value, key)?;
        values.insert(key.to_owned(), read(&value)?);
    }
    Ok(())
}

fn decoded(value: &Value<'_>) -> Result<Vec<u8>, Error> {
    let text: String = value
        .literal()?
        .chars()
        .filter(|letter| !letter.is_whitespace())
        .collect();
    STANDARD
        .decode(text)
        .map_err(|_| value.error("it has to be base64"))
}

/// A key is a file's name too.
fn check_key(value: &Value<'_>, key: &str) -> Result<(), Error> {
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if !key.is_empty() && !key.starts_with("..") && key != "." && key.bytes().all(letters) {
        return Ok(());
    }
    Err(value.error(format!(
        "invalid key {key:?}: it has letters, digits, -, _ and ., and does not begin with .."
    )))
}

/// What a cluster looks at to find a volume that fits; here it is made.
const OF_CLUSTER: &[&str] = &[
    "accessModes",
    "resources",
    "selector",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeName",
];

/// podman's annotations for volumes that are not just directories.
const DRIVER: &str = "volume.podman.io/";

pub(crate) fn claim(
    document: &Value<'_>,
    metadata: Metadata,
    fields: &mut Fields<'_>,
) -> Result<Claim, Error> {
    check_name(document, &metadata.name)?;
    for (key, value) in &metadata.annotations {
        if let Some(option) = key.strip_prefix(DRIVER)
            && (option, value.as_str()) != ("driver", "local")
        {
            return Err(document.error(format!(
                "the annotation {key} is not supported by kelp: its volumes are directories"
            )));
        }
    }
    if let Some(spec) = fields.take("spec") {
        let mut spec = spec.fields()?;
        spec.pass_over(OF_CLUSTER);
        if let Some(mode) = spec.take("volumeMode")
            && mode.text()? != "Filesystem"
        {
            return Err(mode.error("it is not supported by kelp: a volume is a directory"));
        }
        spec.refuse(&[("dataSource", ""), ("dataSourceRef", "")])?;
        spec.end()?;
    }
    Ok(Claim { metadata })
}
