//! What a request for a container says by itself that can't be, whatever image it is of and whatever is on this
//! machine: looked at before anything is made, and by who only wants to know.

use std::path::Path;

use kelp_args::mount::{Mount, Source};
use kelp_image::artifact::file::check_given_name;
use oci_spec::image::Config as ImageConfig;

use crate::auto_update::policy;
use crate::container::config::{CreateOptions, Namespace};
use crate::container::copy::clean;
use crate::container::system::Systemd;
use crate::container::{limits, log, secrets, system};
use crate::{Error, spec};

impl CreateOptions {
    /// Refuses what no image makes possible.
    ///
    /// # Errors
    /// As the creation of the container would have it.
    pub fn check(&self) -> Result<(), Error> {
        self.check_words()?;
        log::check_options(self)?;
        policy::check_label(&self.labels)?;
        if self.systemd == Systemd::Always {
            system::settle(&mut self.clone(), &ImageConfig::default())?;
        }
        if let Some(resources) = &self.resources {
            limits::settings(resources)?;
        }
        spec::rlimits(self)?;
        spec::capability_sets(self, &ImageConfig::default()).map(drop)
    }

    /// The part of it that no later step of a creation looks at.
    pub(crate) fn check_words(&self) -> Result<(), Error> {
        check_targets(&self.volumes)?;
        secrets::check(self)?;
        if self.hostname.is_some() && self.namespaces.uts != Namespace::Private {
            return Err(Error::invalid(
                "cannot set a hostname when the UTS namespace is not the container's own: leave \
                 --hostname or --uts away",
            ));
        }
        Ok(())
    }
}

/// Places of mounts: none is the root, and no two are the same.
fn check_targets(mounts: &[Mount]) -> Result<(), Error> {
    for (number, mount) in mounts.iter().enumerate() {
        let target = &mount.target;
        let place = clean(Path::new(target));
        if place.as_os_str().is_empty() && matches!(mount.source, Source::Artifact(_)) {
            return Err(Error::invalid(format!(
                "invalid mount on {target:?}: an artifact's files are not put among those of the container's root: \
                 give them a directory or a name of their own"
            )));
        }
        if place.as_os_str().is_empty() {
            return Err(Error::invalid(format!(
                "invalid mount on {target:?}: it would hide the container's root; use --rootfs for a root of \
                 your own"
            )));
        }
        let is_it = |other: &Mount| clean(Path::new(&other.target)) == place;
        if mounts[..number].iter().any(is_it) {
            return Err(Error::invalid(format!(
                "{target}: duplicate mount destination"
            )));
        }
        if mount.overlay && mount.subpath.is_some() {
            return Err(Error::invalid(format!(
                "invalid mount on {target:?}: a place in the volume and O exclude each other: leave out one or the \
                 other"
            )));
        }
        if let Source::Artifact(artifact) = &mount.source {
            if artifact.title.is_some() && artifact.digest.is_some() {
                return Err(Error::invalid("a digest and a title exclude each other"));
            }
            if let Some(name) = &artifact.name {
                check_given_name(name)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_is_said_as_the_creation_says_it() {
        let usual = CreateOptions::default;
        let mounted = |texts: &[&str]| CreateOptions {
            volumes: texts
                .iter()
                .map(|text| kelp_args::mount::mount(text, "/").unwrap())
                .collect(),
            ..usual()
        };
        let label = |value: &str| CreateOptions {
            labels: [("io.containers.autoupdate".to_owned(), value.to_owned())].into(),
            ..usual()
        };
        let cases = vec![
            (usual(), None),
            (mounted(&["type=tmpfs,dst=/a", "type=tmpfs,dst=/a/b"]), None),
            (label("registry"), None),
            (label("daily"), Some("invalid auto-update policy \"daily\"")),
            (
                mounted(&["type=tmpfs,dst=/a", "type=artifact,src=x,dst=/a/"]),
                Some("/a/: duplicate mount destination"),
            ),
            (
                mounted(&["type=tmpfs,dst=/a", "type=artifact,src=x,dst=/b/../a"]),
                Some("/b/../a: duplicate mount destination"),
            ),
            (
                mounted(&["type=tmpfs,dst=/.."]),
                Some("it would hide the container's root"),
            ),
            (
                mounted(&["type=artifact,src=x,dst=/"]),
                Some("give them a directory or a name of their own"),
            ),
            (
                mounted(&["type=artifact,src=x,dst=/a,name=../y"]),
                Some("invalid name \"../y\": it has a slash"),
            ),
            (
                mounted(&["type=tmpfs,dst=/a/.."]),
                Some("it would hide the container's root"),
            ),
            (
                mounted(&["type=artifact,src=x,dst=/a,title=b,digest=c"]),
                Some("a digest and a title exclude each other"),
            ),
            (
                mounted(&["type=artifact,src=x,dst=/a,name=.."]),
                Some("is no file's name"),
            ),
            (
                CreateOptions {
                    volumes: vec![Mount {
                        subpath: Some("x".to_owned()),
                        ..kelp_args::mount::volume("v:/a:O", "/").unwrap()
                    }],
                    ..usual()
                },
                Some("a place in the volume and O exclude each other"),
            ),
            (
                CreateOptions {
                    init: true,
                    systemd: Systemd::Always,
                    ..usual()
                },
                Some("--init and --systemd=always exclude each other"),
            ),
            (
                CreateOptions {
                    log_tag: Some("x".parse().unwrap()),
                    ..usual()
                },
                Some("the log option tag is for the log driver journald alone"),
            ),
            (
                CreateOptions {
                    cap_add: vec!["CAP_NONE".to_owned()],
                    ..usual()
                },
                Some("CAP_NONE"),
            ),
            (
                CreateOptions {
                    ulimits: vec![("files".to_owned(), 1, 2)],
                    ..usual()
                },
                Some("invalid ulimit type: files"),
            ),
        ];
        for (options, said) in cases {
            let found = options.check().err().map(|error| error.to_string());
            match said {
                None => assert_eq!(found, None),
                Some(said) => {
                    let found = found.expect(said);
                    assert!(found.contains(said), "{found}");
                }
            }
        }
    }
}
