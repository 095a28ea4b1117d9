//! Volumes of a pod.

use crate::container::PullPolicy;
use crate::data::{Sources, Values};
use crate::environment::missing;
use crate::field::{Fields, Value};
use crate::{Error, quantity};

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// What mounts call it.
    pub name: String,
    /// What it is.
    pub source: Source,
}

/// What a volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A place on this machine.
    HostPath(String, HostPath),
    /// A directory that the containers of the pod share, and that goes with it.
    Empty,
    /// The same, in memory; with a size in bytes.
    Memory(Option<u64>),
    /// Files with what a config map or secret has.
    Files(Vec<File>),
    /// A volume by name, and whether it can't be written.
    Claim(String, bool),
    /// The files of an image.
    Image(String, PullPolicy),
    /// Nothing: what it refers to may be missing, and is.
    Missing,
}

/// What has to be at a place on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPath {
    /// Anything that is there.
    Any,
    /// A directory, made where there is none.
    DirectoryOrCreate,
    /// A directory.
    Directory,
    /// A file, made where there is none.
    FileOrCreate,
    /// A file.
    File,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// A file in a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where, relative to the volume; it does not lead out of it.
    pub path: String,
    /// Its mode.
    pub mode: u32,
    /// What is in it.
    pub content: Vec<u8>,
}

/// What a cluster has, and one machine has not.
const REFUSED: &[(&str, &str)] = &[
    ("awsElasticBlockStore", ""),
    ("azureDisk", ""),
    ("azureFile", ""),
    ("cephfs", ""),
    ("cinder", ""),
    ("csi", ""),
    ("downwardAPI", "use env with valueFrom"),
    ("ephemeral", "use emptyDir or persistentVolumeClaim"),
    ("fc", ""),
    ("flexVolume", ""),
    ("flocker", ""),
    ("gcePersistentDisk", ""),
    ("gitRepo", ""),
    ("glusterfs", ""),
    ("iscsi", ""),
    ("nfs", "mount it on this machine, and use hostPath"),
    ("photonPersistentDisk", ""),
    ("portworxVolume", ""),
    ("projected", "use a configMap and a secret volume"),
    ("quobyte", ""),
    ("rbd", ""),
    ("scaleIO", ""),
    ("storageos", ""),
    ("vsphereVolume", ""),
];

pub(crate) fn read(value: &Value<'_>, sources: &Sources) -> Result<Volume, Error> {
    let mut fields = value.fields()?;
    let named = fields.need("name")?;
    let name = named.text()?;
    crate::metadata::check_name(&named, &name)?;
    fields.refuse(REFUSED)?;
    let known = [
        "hostPath",
        "emptyDir",
        "configMap",
        "secret",
        "persistentVolumeClaim",
        "image",
    ];
    let mut found = Vec::new();
    for kind in known {
        found.extend(fields.take(kind).map(|value| (kind, value)));
    }
    fields.end()?;
    let [(kind, place)] = found.as_slice() else {
        return Err(value.error(format!("it has to have one of {}", known.join(", "))));
    };
    let mut inner = place.fields()?;
    let source = match *kind {
        "hostPath" => host_path(&mut inner)?,
        "emptyDir" => empty(&mut inner)?,
        "configMap" => {
            let name = inner.need("name")?.text()?;
            let values = sources.config_maps.get(&name);
            files(
                place,
                &mut inner,
                values,
                ("config map", &name, sources.others),
            )?
        }
        "secret" => {
            let name = inner.need("secretName")?.text()?;
            let values = sources.secrets.get(&name);
            files(place, &mut inner, values, ("secret", &name, sources.others))?
        }
        "persistentVolumeClaim" => {
            let name = inner.need("claimName")?.text()?;
            Source::Claim(name, inner.truth("readOnly")?)
        }
        _ => {
            let policy = inner.get("pullPolicy", PullPolicy::read)?;
            let reference = inner.need("reference")?.text()?;
            let policy = policy.unwrap_or_else(|| PullPolicy::usual(&reference));
            Source::Image(reference, policy)
        }
    };
    inner.end()?;
    Ok(Volume { name, source })
}

fn host_path(fields: &mut Fields<'_>) -> Result<Source, Error> {
    let path = fields.need("path")?;
    let given = fields.take("type");
    let kind = match &given {
        Some(value) => match value.literal()? {
            "" => HostPath::Any,
            "DirectoryOrCreate" => HostPath::DirectoryOrCreate,
            "Directory" => HostPath::Directory,
            "FileOrCreate" => HostPath::FileOrCreate,
            "File" => HostPath::File,
            "Socket" => HostPath::Socket,
            "CharDevice" => HostPath::CharDevice,
            "BlockDevice" => HostPath::BlockDevice,
            other => return Err(value.error(format!("invalid type {other:?} of a hostPath"))),
        },
        None => HostPath::Any,
    };
    let text = path.text()?;
    if text.is_empty() {
        return Err(path.error("it is empty"));
    }
    // As podman has it, what is no path is the name of a volume.
    if !text.contains('/') && text != "." && text != ".." {
        if let Some(value) = given.filter(|_| kind != HostPath::Any) {
            return Err(value.error(format!(
                "{text} is the name of a volume, which has no type: write ./{text} for a path"
            )));
        }
        return Ok(Source::Claim(text, false));
    }
    Ok(Source::HostPath(text, kind))
}

fn empty(fields: &mut Fields<'_>) -> Result<Source, Error> {
    let medium = fields.take("medium");
    let limit = fields.take("sizeLimit");
    let bytes =
        |value: &Value<'_>| quantity::units(value.literal()?).map_err(|why| value.error(why));
    match medium.as_ref().map(Value::literal).transpose()? {
        None | Some("") => match limit {
            Some(limit) => Err(limit.error(
                "it is not supported by kelp on a disk: leave it out, or use medium: Memory",
            )),
            None => Ok(Source::Empty),
        },
        Some("Memory") => Ok(Source::Memory(limit.as_ref().map(bytes).transpose()?)),
        Some(other) => {
            let value = medium.as_ref().expect("it was just read");
            Err(value.error(format!("invalid medium {other:?}: use Memory, or nothing")))
        }
    }
}

fn files(
    place: &Value<'_>,
    fields: &mut Fields<'_>,
    values: Option<&Values>,
    (what, name, others): (&str, &str, bool),
) -> Result<Source, Error> {
    let optional = fields.truth("optional")? || others;
    let usual = mode(fields, "defaultMode")?.unwrap_or(0o644);
    let items = fields.take("items");
    let Some(values) = values else {
        return if optional {
            Ok(Source::Missing)
        } else {
            Err(place.error(missing(what, name)))
        };
    };
    let Some(items) = items else {
        let files = values.iter().map(|(key, content)| File {
            path: key.clone(),
            mode: usual,
            content: content.clone(),
        });
        return Ok(Source::Files(files.collect()));
    };
    let mut files = Vec::new();
    for item in items.items()? {
        let mut fields = item.fields()?;
        let key = fields.need("key")?.text()?;
        let path = fields.need("path")?;
        let mode = mode(&mut fields, "mode")?.unwrap_or(usual);
        fields.end()?;
        match values.get(&key) {
            Some(content) => files.push(File {
                path: relative(&path)?,
                mode,
                content: content.clone(),
            }),
            None if optional => {}
            None => return Err(item.error(format!("there is no key {key} in {what} {name}"))),
        }
    }
    Ok(Source::Files(files))
}

fn mode(fields: &mut Fields<'_>, name: &str) -> Result<Option<u32>, Error> {
    let Some(value) = fields.take(name) else {
        return Ok(None);
    };
    match value.fitting::<u32>()? {
        mode if mode <= 0o777 => Ok(Some(mode)),
        mode => Err(value.error(format!(
            "invalid mode {mode}: it is from 0 to 0777, which is 511"
        ))),
    }
}

/// A path that stays beneath where it begins.
pub(crate) fn relative(value: &Value<'_>) -> Result<String, Error> {
    let path = value.text()?;
    let bad = path.is_empty() || path.starts_with('/') || path.split('/').any(|part| part == "..");
    if bad {
        return Err(value.error(format!(
            "invalid path {path:?}: it is relative, and has no .."
        )));
    }
    Ok(path)
}
