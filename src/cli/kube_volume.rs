//! Volumes of Kubernetes YAML as mounts of a container.

use std::fs::{self, DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, bail};
use kelp_args::mount::{self, ImageMount, Mount, Source};
use kelp_engine::container::CreateOptions;
use kelp_kube::{Container, HostPath, Pod, Propagation, Source as From};

use super::kube_annotations::Annotations;
use super::kube_pod::volume_name;

/// Adds the mounts of a container.
pub fn add(
    pod: &Pod,
    container: &Container,
    known: &Annotations,
    options: &mut CreateOptions,
) -> anyhow::Result<()> {
    for asked in &container.mounts {
        let Some(volume) = pod.volumes.iter().find(|it| it.name == asked.volume) else {
            continue;
        };
        let mut read_only = asked.read_only;
        let mut words = asked.options.clone();
        let (source, subpath) = match &volume.source {
            From::HostPath(path, HostPath::CharDevice | HostPath::BlockDevice)
                if *path == asked.target && asked.subpath.is_none() =>
            {
                check(path, kind_of(&volume.source))?;
                options.devices.push(path.into());
                continue;
            }
            From::HostPath(path, kind) => {
                words.extend(known.bind_options(path));
                prepare(path, *kind)?;
                (Source::Bind(absolute(path)?), asked.subpath.clone())
            }
            From::Empty | From::Missing | From::Files(_) => {
                let name = volume_name(pod, &volume.name);
                (Source::Volume(Some(name)), asked.subpath.clone())
            }
            From::Memory(size) => {
                memory(pod, &volume.name)?;
                if asked.subpath.is_some() {
                    bail!(
                        "volume {}: subPath is not supported by kelp with medium: Memory",
                        volume.name
                    );
                }
                words.extend(size.map(|size| format!("size={size}")));
                (Source::Tmpfs, None)
            }
            From::Claim(name, is_read_only) => {
                read_only |= is_read_only;
                (Source::Volume(Some(name.clone())), asked.subpath.clone())
            }
            From::Image(image, _) => {
                let image = ImageMount {
                    source: image.clone(),
                    read_write: false,
                    subpath: asked.subpath.clone(),
                };
                (Source::Image(image), None)
            }
        };
        let is_tmpfs = source == Source::Tmpfs;
        let is_own = matches!(volume.source, From::Empty | From::Missing | From::Files(_));
        let mut made = Mount::new(source, asked.target.clone());
        if is_tmpfs {
            made.options = words;
        } else {
            let parsed = mount::volume(&format!("/a:/b:{}", words.join(",")), "/");
            let parsed = parsed.map_err(anyhow::Error::msg)?;
            made.options = parsed.options;
            made.chown = parsed.chown;
        }
        if is_own {
            made.copy = Some(false);
        }
        made.subpath = subpath;
        if read_only && !made.options.iter().any(|option| option == "ro") {
            made.options.push("ro".to_owned());
        }
        match asked.propagation {
            Propagation::None => {}
            Propagation::HostToContainer => made.options.push("rslave".to_owned()),
            Propagation::Bidirectional => made.options.push("rshared".to_owned()),
        }
        options.volumes.push(made);
    }
    Ok(())
}

/// A tmpfs is one container's: nobody could show it to another.
fn memory(pod: &Pod, name: &str) -> anyhow::Result<()> {
    let all = pod.init.iter().chain(&pod.containers);
    let mounts = all.flat_map(|container| &container.mounts);
    if mounts.filter(|mount| mount.volume == name).count() > 1 {
        bail!(
            "volume {name}: medium: Memory that is mounted more than once is not supported by kelp: leave medium out"
        );
    }
    Ok(())
}

fn kind_of(source: &From) -> HostPath {
    match source {
        From::HostPath(_, kind) => *kind,
        _ => HostPath::Any,
    }
}

fn absolute(path: &str) -> anyhow::Result<String> {
    let path = std::path::absolute(path).with_context(|| format!("hostPath {path}"))?;
    Ok(path.display().to_string())
}

/// Makes what is to be made, and looks at what has to be there.
fn prepare(path: &str, kind: HostPath) -> anyhow::Result<()> {
    let what = || format!("hostPath {path}");
    match kind {
        HostPath::DirectoryOrCreate if !Path::new(path).exists() => {
            let mut builder = DirBuilder::new();
            builder
                .recursive(true)
                .mode(0o755)
                .create(path)
                .with_context(what)?;
        }
        HostPath::FileOrCreate if !Path::new(path).exists() => {
            let mut options = OpenOptions::new();
            let opened = options.write(true).create_new(true).mode(0o644).open(path);
            opened.with_context(what)?;
        }
        _ => {}
    }
    check(path, kind)
}

fn check(path: &str, kind: HostPath) -> anyhow::Result<()> {
    let found = fs::metadata(path)
        .with_context(|| format!("hostPath {path}"))?
        .file_type();
    let (fits, wanted) = match kind {
        HostPath::Any => return Ok(()),
        HostPath::Directory | HostPath::DirectoryOrCreate => (found.is_dir(), "a directory"),
        HostPath::File | HostPath::FileOrCreate => (found.is_file(), "a file"),
        HostPath::Socket => (found.is_socket(), "a socket"),
        HostPath::CharDevice => (found.is_char_device(), "a character device"),
        HostPath::BlockDevice => (found.is_block_device(), "a block device"),
    };
    if !fits {
        bail!("hostPath {path} is not {wanted}");
    }
    Ok(())
}
