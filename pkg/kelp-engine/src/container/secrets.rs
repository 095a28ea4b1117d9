//! Secrets in a container: copies of what they are when it is made.
//!
//! A file is in the record, in a directory of its own that nobody but the user can enter, and is mounted at its
//! place as /etc/hosts is. A variable is in launch.json, apart from the specification, which `inspect` and
//! `commit` show. What becomes of the secret later changes neither.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use kelp_args::{Secret as Asked, SecretKind};
use kelp_monitor::launch::variable_name;
use kelp_state::file::{self, Durability};
use kelp_userns::IdMap;
use oci_spec::runtime::Mount;
use serde::{Deserialize, Serialize};

use crate::container::config::CreateOptions;
use crate::container::copy::clean;
use crate::secret::{Secret, write_value};
use crate::{Engine, Error, spec, volume};

/// Where files are whose target is no absolute path.
const USUAL_PLACE: &str = "/run/secrets";

/// How long a variable may be, with its name (`MAX_ARG_STRLEN` of execve(2)).
const VARIABLE_SIZE: usize = 128 << 10;

/// A secret that a container has as a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretFile {
    /// The secret's name.
    pub name: String,
    /// Its id then.
    pub id: String,
    /// Where it is in the container.
    pub target: PathBuf,
    /// Whose it is there.
    pub uid: u32,
    /// Its group there.
    pub gid: u32,
    /// Its permissions.
    pub mode: u32,
    /// Its size in bytes.
    pub size: u64,
}

impl Engine {
    /// Refuses secrets that can't be had, before anything is made or removed.
    pub(crate) fn check_secrets(&self, options: &CreateOptions) -> Result<(), Error> {
        for asked in &options.secrets {
            let (secret, value) = self.secret_value(&asked.source)?;
            if asked.kind == SecretKind::Variable {
                variable(asked, &secret, value)?;
            }
        }
        Ok(())
    }

    /// Copies the secrets that are asked for: files to the record, whose list becomes part of the request; the
    /// variables, as `KEY=VALUE`.
    pub(crate) fn give_secrets(
        &self,
        options: &mut CreateOptions,
        record: &Path,
        map: &IdMap,
    ) -> Result<Vec<String>, Error> {
        let mut variables = Vec::new();
        if options.secrets.is_empty() {
            return Ok(variables);
        }
        let durability = if options.remove {
            Durability::None
        } else {
            Durability::Synced
        };
        let directory = directory(record);
        let what = || format!("make {}", directory.display());
        let mut builder = fs::DirBuilder::new();
        builder
            .mode(0o700)
            .create(&directory)
            .map_err(Error::io(what()))?;
        for asked in std::mem::take(&mut options.secrets) {
            let (secret, value) = self.secret_value(&asked.source)?;
            match asked.kind {
                SecretKind::Variable => {
                    let variable = variable(&asked, &secret, value)?;
                    check_variable(&variables, &variable)?;
                    variables.push(variable);
                }
                SecretKind::File { uid, gid, mode } => {
                    let target = place(asked.target.as_deref().unwrap_or(&secret.name))?;
                    check_place(options, &target)?;
                    let path = path(record, options.secret_files.len());
                    write_value(&path, &value, mode, durability)
                        .map_err(Error::io(format!("write {}", path.display())))?;
                    let what = format!("secret {:?}", secret.name);
                    self.give_to_ids(map, (uid, gid), &[path])
                        .map_err(|error| error.before(&what))?;
                    options.secret_files.push(SecretFile {
                        name: secret.name,
                        id: secret.id,
                        target,
                        uid,
                        gid,
                        mode,
                        size: value.len() as u64,
                    });
                }
            }
        }
        if durability == Durability::Synced {
            file::sync_directory(&directory).map_err(Error::io(what()))?;
        }
        Ok(variables)
    }
}

/// Refuses places and names that the requests have twice, as far as they say them.
pub(crate) fn check(options: &CreateOptions) -> Result<(), Error> {
    let mut variables = Vec::new();
    let mut files: Vec<PathBuf> = Vec::new();
    for asked in &options.secrets {
        let target = asked.target.as_deref().unwrap_or(&asked.source);
        match asked.kind {
            SecretKind::Variable => {
                let variable = format!("{target}=");
                check_variable(&variables, &variable)?;
                variables.push(variable);
            }
            SecretKind::File { .. } => {
                let place = place(target)?;
                let mut mounts = options.volumes.iter();
                if files.contains(&place)
                    || mounts.any(|mount| clean(Path::new(&mount.target)) == clean(&place))
                {
                    return Err(taken(&place));
                }
                files.push(place);
            }
        }
    }
    Ok(())
}

/// The mounts of the files.
pub(crate) fn mounts(options: &CreateOptions, record: &Path) -> Vec<Mount> {
    let writes = if options.read_only { "ro" } else { "rw" };
    let files = options.secret_files.iter().enumerate();
    files
        .map(|(number, file)| {
            let target = file.target.to_string_lossy();
            let options = ["bind", "nosuid", "nodev", writes];
            spec::mount(&target, "bind", &path(record, number), &options)
        })
        .collect()
}

fn directory(record: &Path) -> PathBuf {
    record.join("secrets")
}

/// Where the copy of a file is. It has a number for its name, and nothing that anybody else chose.
fn path(record: &Path, number: usize) -> PathBuf {
    directory(record).join(number.to_string())
}

/// The place of a file, whatever leads out of it and back.
fn place(target: &str) -> Result<PathBuf, Error> {
    let beneath = clean(&Path::new(USUAL_PLACE).join(target));
    if beneath.as_os_str().is_empty() {
        return Err(Error::invalid(format!(
            "invalid target of --secret {target:?}: it is the container's root"
        )));
    }
    Ok(Path::new("/").join(beneath))
}

fn check_place(options: &CreateOptions, place: &Path) -> Result<(), Error> {
    let mut files = options.secret_files.iter();
    if files.any(|file| file.target == place)
        || volume::is_taken(&options.mounts, &place.to_string_lossy())
    {
        return Err(taken(place));
    }
    Ok(())
}

fn taken(place: &Path) -> Error {
    Error::invalid(format!("{}: duplicate mount destination", place.display()))
}

fn check_variable(variables: &[String], variable: &str) -> Result<(), Error> {
    let name = variable_name(variable);
    if variables.iter().any(|other| variable_name(other) == name) {
        return Err(Error::invalid(format!(
            "two secrets are to be the variable {name}: give one of them another target"
        )));
    }
    Ok(())
}

/// A secret as a variable. What no variable can have is refused, and not told.
fn variable(asked: &Asked, secret: &Secret, value: Vec<u8>) -> Result<String, Error> {
    let name = asked.target.as_deref().unwrap_or(&secret.name);
    let size = name.len() + 1 + value.len() + 1;
    let why = if size > VARIABLE_SIZE {
        "is too long"
    } else if value.contains(&0) {
        "has a null byte"
    } else {
        match String::from_utf8(value) {
            Ok(value) => return Ok(format!("{name}={value}")),
            Err(_) => "is no UTF-8 text",
        }
    };
    Err(Error::invalid(format!(
        "secret {:?} {why} and can't be a variable: use type=mount",
        secret.name
    )))
}

#[cfg(test)]
mod tests {
    use kelp_args::mount::tmpfs;

    use super::*;

    #[test]
    fn a_place_is_in_the_container_wherever_it_leads() {
        for (target, expected) in [
            ("key", Some("/run/secrets/key")),
            ("a/b", Some("/run/secrets/a/b")),
            ("/etc/key", Some("/etc/key")),
            ("../x", Some("/run/x")),
            ("../../../../x", Some("/x")),
            ("/a/./../b/", Some("/b")),
            ("/", None),
            ("../..", None),
        ] {
            let place = place(target).ok();
            assert_eq!(place.as_deref(), expected.map(Path::new), "{target}");
        }
    }

    #[test]
    fn two_at_one_place_are_refused() {
        for (secrets, said) in [
            (&["a", "b"][..], None),
            (&["a", "a,type=env"], None),
            (
                &["a", "b,target=a"],
                Some("/run/secrets/a: duplicate mount destination"),
            ),
            (
                &["a,target=/x/../t"],
                Some("/t: duplicate mount destination"),
            ),
            (
                &["a,type=env", "b,type=env,target=a"],
                Some("two secrets are to be the variable a: give one of them another target"),
            ),
        ] {
            let options = CreateOptions {
                secrets: secrets.iter().map(|text| text.parse().unwrap()).collect(),
                volumes: vec![tmpfs("/t").unwrap()],
                ..CreateOptions::default()
            };
            let found = check(&options).err().map(|error| error.to_string());
            assert_eq!(found.as_deref(), said, "{secrets:?}");
        }
    }
}
