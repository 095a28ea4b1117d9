//! Reading a specification's documents: what this runtime need not know is passed over.
//!
//! "Runtimes MUST NOT generate an error if they encounter an unknown property", and a capability that the
//! kernel, or this build, does not know is no reason to fail (runtime-spec, config.md, "Extensibility" and
//! "Linux Process"). A document is read as it stands first; what is unknown is looked for only where that
//! fails.

use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::Error;

/// What the specification calls them, and what the types that it is read into do.
const RENAMED: &[(&str, &str)] = &[
    ("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"),
    ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN"),
];

/// Reads a file. What was passed over in it is not told.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = fs::read(path).map_err(Error::io(format!("read {}", path.display())))?;
    let (document, _) =
        parse(&text).map_err(|error| Error::Invalid(format!("{}: {error}", path.display())))?;
    Ok(document)
}

/// The document, and a line for each thing that was passed over.
pub fn parse<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<(T, Vec<String>)> {
    let first = match serde_json::from_slice(text) {
        Ok(document) => return Ok((document, Vec::new())),
        Err(error) => error,
    };
    let Ok(mut value) = serde_json::from_slice::<Value>(text) else {
        return Err(first);
    };
    let mut notes = Vec::new();
    let as_it_stood = value.clone();
    for process in ["/process", ""] {
        if let Some(process) = value.pointer_mut(process) {
            drop_unknown_capabilities(process, &mut notes);
            rename_flags(process);
        }
    }
    // A value has the last of what is there twice, which is no reason to take it.
    if value == as_it_stood {
        return Err(first);
    }
    // What is still wrong has its line and column in the first error.
    let document = serde_json::from_value(value).map_err(|_| first)?;
    Ok((document, notes))
}

fn drop_unknown_capabilities(process: &mut Value, notes: &mut Vec<String>) {
    let known = kelp_runtime::capabilities::known_names();
    let sets = process
        .get_mut("capabilities")
        .and_then(Value::as_object_mut);
    for (_, set) in sets.into_iter().flatten() {
        let Some(names) = set.as_array_mut() else {
            continue;
        };
        names.retain(|name| {
            let Some(name) = name.as_str() else {
                return true;
            };
            let is_known = known.iter().any(|known| known == name);
            let note = format!("process.capabilities: {name} is unknown and not given");
            if !is_known && !notes.contains(&note) {
                notes.push(note);
            }
            is_known
        });
    }
}

fn rename_flags(process: &mut Value) {
    let flags = process.pointer_mut("/scheduler/flags");
    for flag in flags.and_then(Value::as_array_mut).into_iter().flatten() {
        let renamed = RENAMED.iter().find(|(name, _)| flag == name);
        if let Some((_, to)) = renamed {
            *flag = Value::from(*to);
        }
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::Process;

    use super::*;

    #[test]
    fn what_is_there_twice_is_an_error() {
        let text = br#"{"user": {"uid": 0, "gid": 0}, "cwd": "/a", "cwd": "/b"}"#;
        let error = parse::<Process>(text).unwrap_err();
        assert!(
            error.to_string().starts_with("duplicate field `cwd`"),
            "{error}"
        );
    }

    #[test]
    fn unknown_capabilities_are_passed_over_and_told_once() {
        let text = br#"{"user": {"uid": 0, "gid": 0}, "cwd": "/", "unknown": 1,
            "capabilities": {"bounding": ["CAP_KILL", "CAP_NOSUCH"], "effective": ["CAP_NOSUCH"]}}"#;
        let (process, notes) = parse::<Process>(text).unwrap();
        let sets = process.capabilities().as_ref().unwrap();
        assert_eq!(sets.bounding().as_ref().unwrap().len(), 1);
        assert_eq!(
            notes,
            ["process.capabilities: CAP_NOSUCH is unknown and not given"]
        );
    }

    #[test]
    fn flags_have_the_specifications_names() {
        for (flag, _) in RENAMED {
            let text = format!(
                r#"{{"user": {{"uid": 0, "gid": 0}}, "cwd": "/",
                "scheduler": {{"policy": "SCHED_OTHER", "flags": ["{flag}"]}}}}"#
            );
            parse::<Process>(text.as_bytes()).unwrap();
        }
    }

    #[test]
    fn an_error_is_the_one_of_the_document_as_it_stands() {
        let text = b"{\"user\": {\"uid\": \"0\", \"gid\": 0},\n \"cwd\": \"/\"}";
        let error = parse::<Process>(text).unwrap_err();
        assert!(error.to_string().contains("line 1 column"), "{error}");
    }
}
