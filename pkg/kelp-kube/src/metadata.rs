//! `metadata:` of a document.

use std::collections::BTreeMap;

use crate::Error;
use crate::field::Value;

/// What a document is called, and what is noted of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Its name; empty only in the template of a workload.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

/// What a cluster notes, and what one machine has no use for.
const PASSED_OVER: &[&str] = &[
    "creationTimestamp",
    "finalizers",
    "generation",
    "managedFields",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

impl Metadata {
    pub(crate) fn read(value: &Value<'_>) -> Result<Self, Error> {
        let mut fields = value.fields()?;
        fields.pass_over(PASSED_OVER);
        let name = match fields.take("name") {
            Some(value) => {
                let name = value.text()?;
                check_name(&value, &name)?;
                name
            }
            None => String::new(),
        };
        fields.refuse(&[("generateName", "write a name")])?;
        let metadata = Self {
            name,
            labels: fields.get("labels", Value::text_map)?.unwrap_or_default(),
            annotations: fields
                .get("annotations", Value::text_map)?
                .unwrap_or_default(),
        };
        fields.end()?;
        Ok(metadata)
    }
}

/// A DNS subdomain, as Kubernetes wants names (RFC 1123); podman lets capitals and underscores pass too.
pub(crate) fn check_name(value: &Value<'_>, name: &str) -> Result<(), Error> {
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_name = name.len() <= 253
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(letters);
    if is_name {
        return Ok(());
    }
    Err(value.error(format!(
        "invalid name {name:?}: it has letters, digits, - and ., and begins with a letter or digit"
    )))
}
