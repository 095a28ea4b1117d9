//! Volumes of Kubernetes YAML as mounts of a container.

use anyhow::{Context, bail};
use kelp_args::mount::{self, ImageMount, Mount, Source};
use kelp_engine::container::CreateOptions;
use kelp_engine::pod::place::{HostPlace, PlaceKind};
use kelp_kube::{Container, HostPath, Mount as Asked, Pod, Propagation, Source as From, Volume};

use super::kube_annotations::Annotations;
use super::kube_pod::{plain, volume_name};

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
        if let From::HostPath(path, HostPath::CharDevice | HostPath::BlockDevice) = &volume.source
            && *path == asked.target
            && asked.subpath.is_none()
        {
            options.devices.push(path.into());
            continue;
        }
        let made = mount_of(pod, volume, asked, known);
        let what = || format!("volume {}", volume.name);
        options.volumes.push(made.with_context(what)?);
    }
    Ok(())
}

/// A volume as a mount, read as `--volume` and `--tmpfs` read theirs.
fn mount_of(
    pod: &Pod,
    volume: &Volume,
    asked: &Asked,
    known: &Annotations,
) -> anyhow::Result<Mount> {
    let mut words = asked.options.clone();
    let mut read_only = asked.read_only;
    let source = match &volume.source {
        From::HostPath(path, _) => {
            words.extend(known.bind_options(path));
            Source::Bind(absolute(path)?)
        }
        From::Empty | From::Missing | From::Files(_) => {
            Source::Volume(Some(volume_name(pod, &volume.name)))
        }
        From::Memory(size) => {
            check_memory(pod, asked)?;
            words.extend(size.map(|size| format!("size={size}")));
            Source::Tmpfs
        }
        From::Claim(name, is_read_only) => {
            read_only |= is_read_only;
            Source::Volume(Some(name.clone()))
        }
        From::Image(image, _) => Source::Image(ImageMount {
            source: image.clone(),
            read_write: false,
            subpath: asked.subpath.clone(),
        }),
    };
    if read_only && !words.iter().any(|word| word == "ro") {
        words.push("ro".to_owned());
    }
    let propagation = match asked.propagation {
        Propagation::None => None,
        Propagation::HostToContainer => Some("rslave".to_owned()),
        Propagation::Bidirectional => Some("rshared".to_owned()),
    };
    if source == Source::Tmpfs {
        return tmpfs(&asked.target, &words, propagation);
    }
    words.extend(propagation);
    // Which options there are depends on whether it is a directory or a volume, and not on which.
    let place = match source {
        Source::Bind(_) => "/host",
        _ => "volume",
    };
    let text = format!("{place}:{}:{}", asked.target, words.join(","));
    let mut made = mount::volume(&text, "/").map_err(anyhow::Error::msg)?;
    made.source = source;
    match &volume.source {
        From::Image(..) => {
            let is_written = words.iter().any(|word| word == "rw");
            if is_written || made.chown || made.overlay || made.copy.is_some() {
                bail!("an image is not written: leave rw, U, O, copy and nocopy out");
            }
        }
        From::Empty | From::Missing | From::Files(_) => {
            made.copy = made.copy.or(Some(false));
            made.subpath.clone_from(&asked.subpath);
        }
        _ => made.subpath.clone_from(&asked.subpath),
    }
    Ok(made)
}

/// A tmpfs, which is empty unless it is said that it is filled from the image.
fn tmpfs(target: &str, words: &[String], propagation: Option<String>) -> anyhow::Result<Mount> {
    let text = format!("{target}:{}", words.join(","));
    let mut made = mount::tmpfs(&text).map_err(anyhow::Error::msg)?;
    made.copy = Some(words.iter().any(|word| word == "tmpcopyup"));
    made.options.extend(propagation);
    Ok(made)
}

/// A tmpfs is one container's: nobody could show it to another.
fn check_memory(pod: &Pod, asked: &Asked) -> anyhow::Result<()> {
    let all = pod.init.iter().chain(&pod.containers);
    let mounts = all.flat_map(|container| &container.mounts);
    if mounts.filter(|it| it.volume == asked.volume).count() > 1 {
        bail!(
            "medium: Memory that is mounted more than once is not supported by kelp: leave medium out"
        );
    }
    if asked.subpath.is_some() {
        bail!("subPath is not supported by kelp with medium: Memory");
    }
    Ok(())
}

/// The places of the host that containers of a pod are given. What is there already is looked at.
pub fn places(pod: &Pod) -> anyhow::Result<Vec<HostPlace>> {
    let mut places = Vec::new();
    for volume in &pod.volumes {
        let From::HostPath(path, kind) = &volume.source else {
            continue;
        };
        let mut all = pod.init.iter().chain(&pod.containers);
        if !all.any(|it| it.mounts.iter().any(|mount| mount.volume == volume.name)) {
            continue;
        }
        let place = HostPlace {
            path: absolute(path)?.into(),
            kind: match kind {
                HostPath::Any => PlaceKind::Any,
                HostPath::Directory => PlaceKind::Directory { made: false },
                HostPath::DirectoryOrCreate => PlaceKind::Directory { made: true },
                HostPath::File => PlaceKind::File { made: false },
                HostPath::FileOrCreate => PlaceKind::File { made: true },
                HostPath::Socket => PlaceKind::Socket,
                HostPath::CharDevice => PlaceKind::CharDevice,
                HostPath::BlockDevice => PlaceKind::BlockDevice,
            },
        };
        let what = || format!("volume {}", volume.name);
        let checked = place.check().map_err(|error| plain(&error));
        checked.with_context(what)?;
        places.push(place);
    }
    Ok(places)
}

fn absolute(path: &str) -> anyhow::Result<String> {
    let path = std::path::absolute(path).with_context(|| format!("hostPath {path}"))?;
    Ok(path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kelp_kube::{Sources, Stream, parse};

    /// The one mount of a pod that has this volume, with these fields of its mount.
    fn mount(volume: &str, fields: &str) -> Result<Mount, String> {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web, annotations: {{bind-mount-options: '/lower:O'}}}}\nspec:\n  \
             volumes: [{{name: v, {volume}}}]\n  containers:\n  - {{name: a, image: 'x:1', volumeMounts: [{{name: v, \
             {fields}}}]}}\n"
        );
        let stream = Stream {
            name: "",
            text: &text,
        };
        let documents = parse(&[stream], &Sources::default()).unwrap();
        let pod = &documents.pods[0];
        let known = Annotations::read(pod, &[]).unwrap();
        let mut options = CreateOptions::default();
        let added = add(pod, &pod.containers[0], &known, &mut options);
        added.map_err(|error| format!("{error:#}"))?;
        options.check().map_err(|error| error.to_string())?;
        Ok(options.volumes.remove(0))
    }

    const CLAIM: &str = "persistentVolumeClaim: {claimName: data}";
    const HOST: &str = "hostPath: {path: /srv}";
    const MEMORY: &str = "emptyDir: {medium: Memory, sizeLimit: 1Mi}";
    const IMAGE: &str = "image: {reference: 'y:1'}";

    #[test]
    fn options_behind_a_place_are_those_of_a_volume() {
        let usual = |source| Mount::new(source, "/x");
        let host = || usual(Source::Bind("/srv".to_owned()));
        let claim = || usual(Source::Volume(Some("data".to_owned())));
        let strings = |words: &[&str]| words.iter().map(|it| (*it).to_owned()).collect();
        for (volume, fields, expected) in [
            (
                HOST,
                "mountPath: '/x:O,U'",
                Mount {
                    overlay: true,
                    chown: true,
                    ..host()
                },
            ),
            (
                HOST,
                "mountPath: '/x:O,upperdir=/u,workdir=/w'",
                Mount {
                    overlay: true,
                    layer: Some(("/u".to_owned(), "/w".to_owned())),
                    ..host()
                },
            ),
            (
                "hostPath: {path: /lower}",
                "mountPath: /x",
                Mount {
                    overlay: true,
                    ..usual(Source::Bind("/lower".to_owned()))
                },
            ),
            (
                HOST,
                "mountPath: /x, subPath: a, readOnly: true, mountPropagation: HostToContainer",
                Mount {
                    options: strings(&["ro", "rslave"]),
                    subpath: Some("a".to_owned()),
                    ..host()
                },
            ),
            (
                CLAIM,
                "mountPath: '/x:nocopy'",
                Mount {
                    copy: Some(false),
                    ..claim()
                },
            ),
            (CLAIM, "mountPath: /x", claim()),
            (
                "emptyDir: {}",
                "mountPath: /x",
                Mount {
                    copy: Some(false),
                    ..usual(Source::Volume(Some("web-v".to_owned())))
                },
            ),
            (
                MEMORY,
                "mountPath: '/x:noexec'",
                Mount {
                    options: strings(&["nosuid", "nodev", "noexec", "size=1048576"]),
                    copy: Some(false),
                    ..usual(Source::Tmpfs)
                },
            ),
        ] {
            assert_eq!(mount(volume, fields).as_ref(), Ok(&expected), "{fields}");
        }
    }

    #[test]
    fn options_that_can_not_be_are_refused() {
        for (volume, fields, said) in [
            (HOST, "mountPath: '/x:nope'", "volume v: invalid mount"),
            (HOST, "mountPath: '/x:nocopy'", "nocopy is for volumes"),
            (HOST, "mountPath: '/x:O', readOnly: true", "can't use O"),
            (
                CLAIM,
                "mountPath: '/x:O', subPath: a",
                "O exclude each other",
            ),
            (
                HOST,
                "mountPath: '/x:O', subPath: a",
                "O exclude each other",
            ),
            (
                HOST,
                "mountPath: '/x:rw', readOnly: true",
                "rw and ro exclude",
            ),
            (MEMORY, "mountPath: '/x:O'", "invalid option \"O\""),
            (
                MEMORY,
                "mountPath: /x, subPath: a",
                "subPath is not supported",
            ),
            (IMAGE, "mountPath: '/x:O'", "an image is not written"),
            (IMAGE, "mountPath: '/x:rw'", "an image is not written"),
            (CLAIM, "mountPath: /", "it would hide the container's root"),
        ] {
            let error = mount(volume, fields).unwrap_err();
            assert!(error.contains(said), "{fields}: {error}");
        }
    }
}
