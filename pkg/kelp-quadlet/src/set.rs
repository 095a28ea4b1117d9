//! The units that there are, what their services are called, and what one unit means by another's name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::finding::Finding;
use crate::key::{self, Key};
use crate::kind;
use crate::quote;
use crate::shape;
use crate::unit::{Place, Unit};

/// What a unit is for, which its file's extension says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `.image`: pulls an image.
    Image,
    /// `.artifact`: pulls an artifact.
    Artifact,
    /// `.volume`: makes a volume.
    Volume,
    /// `.network`: makes a network.
    Network,
    /// `.build`: builds an image.
    Build,
    /// `.container`: runs a container.
    Container,
    /// `.kube`: plays Kubernetes YAML.
    Kube,
    /// `.pod`: makes a pod, and starts what is in it.
    Pod,
}

impl Kind {
    /// All of them; those first that others refer to, but pods last: containers are added to them.
    pub const ALL: [Self; 8] = [
        Self::Image,
        Self::Artifact,
        Self::Volume,
        Self::Network,
        Self::Build,
        Self::Container,
        Self::Kube,
        Self::Pod,
    ];

    /// The extension of its files, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Artifact => "artifact",
            Self::Volume => "volume",
            Self::Network => "network",
            Self::Build => "build",
            Self::Container => "container",
            Self::Kube => "kube",
            Self::Pod => "pod",
        }
    }

    /// The section with its keys.
    pub fn section(self) -> &'static str {
        match self {
            Self::Image => "Image",
            Self::Artifact => "Artifact",
            Self::Volume => "Volume",
            Self::Network => "Network",
            Self::Build => "Build",
            Self::Container => "Container",
            Self::Kube => "Kube",
            Self::Pod => "Pod",
        }
    }

    /// What a service's name has between the unit's and `.service`.
    fn suffix(self) -> &'static str {
        match self {
            Self::Container | Self::Kube => "",
            Self::Image => "-image",
            Self::Artifact => "-artifact",
            Self::Volume => "-volume",
            Self::Network => "-network",
            Self::Build => "-build",
            Self::Pod => "-pod",
        }
    }

    /// The keys of its section: those of the command line in the order in which they stand there, and
    /// then those that every kind has.
    pub fn keys(self) -> impl Iterator<Item = &'static Key> {
        let own = match self {
            Self::Image => kind::image::KEYS,
            Self::Artifact => kind::artifact::KEYS,
            Self::Volume => kind::volume::KEYS,
            Self::Network => kind::network::KEYS,
            Self::Build => kind::build::KEYS,
            Self::Container => kind::container::KEYS,
            Self::Kube => kind::kube::KEYS,
            Self::Pod => kind::pod::KEYS,
        };
        own.iter().chain(key::COMMON)
    }

    /// The command of kelp's that the keys are flags of.
    pub fn command(self) -> &'static [&'static str] {
        match self {
            Self::Image => &["image", "pull"],
            Self::Artifact => &["artifact", "pull"],
            Self::Volume => &["volume", "create"],
            Self::Network => &["network", "create"],
            Self::Build => &["build"],
            Self::Container => &["run"],
            Self::Kube => &["kube", "play"],
            Self::Pod => &["pod", "create"],
        }
    }

    /// The kind of a file, by its name.
    pub fn of(name: &str) -> Option<Self> {
        let (_, extension) = name.rsplit_once('.')?;
        Self::ALL
            .into_iter()
            .find(|kind| kind.extension() == extension)
    }
}

/// A unit file, with its drop-ins.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file's name: `web.container`.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// What it is for.
    pub kind: Kind,
    /// What is in it.
    pub unit: Unit,
    /// What is wrong with the file or a drop-in. With an error there is no service.
    pub findings: Vec<Finding>,
}

/// What a reference to another unit means.
pub(crate) struct Resolved<'a> {
    pub source: &'a Source,
    /// With `.service`.
    pub service: String,
    /// The container, volume, image, … as the one who refers to it says.
    pub resource: String,
}

impl Source {
    /// The name without its extension.
    pub fn stem(&self) -> &str {
        self.name
            .rsplit_once('.')
            .map_or(&*self.name, |(stem, _)| stem)
    }

    /// What is before the `@` of a template or an instance, and the instance; `None` of neither, empty of a
    /// template.
    pub fn template(&self) -> (&str, Option<&str>) {
        match self.stem().split_once('@') {
            Some((prefix, instance)) => (prefix, Some(instance)),
            None => (self.stem(), None),
        }
    }

    /// The service's name without `.service`.
    pub fn service(&self) -> String {
        if let Some(name) = self.text("ServiceName") {
            return name;
        }
        let (prefix, instance) = self.template();
        let name = format!("{prefix}{}", self.kind.suffix());
        match instance {
            Some(instance) => format!("{name}@{instance}"),
            None => name,
        }
    }

    /// What the unit makes or runs, as its own service says it; nothing if a key is missing.
    pub(crate) fn resource(&self) -> Option<String> {
        let (prefix, instance) = self.template();
        let named = |key: &str| {
            let name = self.text(key);
            Some(name.unwrap_or_else(|| match instance {
                Some(_) => format!("systemd-{prefix}-%i"),
                None => format!("systemd-{prefix}"),
            }))
        };
        match self.kind {
            Kind::Container => Some(self.text("ContainerName").unwrap_or_else(|| {
                let name = if instance.is_some() { "%p_%i" } else { "%N" };
                format!("systemd-{name}")
            })),
            Kind::Pod => named("PodName"),
            Kind::Volume => named("VolumeName"),
            Kind::Network => named("NetworkName"),
            Kind::Image => self.text("ImageTag").or_else(|| self.text("Image")),
            Kind::Artifact => self.text("Artifact"),
            Kind::Build => {
                let tags = self.unit.all(self.kind.section(), "ImageTag");
                tags.first().map(|set| set.value.clone())
            }
            Kind::Kube => None,
        }
    }

    /// The value of a key that has one, if it is not empty.
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        let set = self.unit.last(self.kind.section(), key)?;
        let value = quote::whole(&set.value);
        Some(value.to_owned()).filter(|value| !value.is_empty())
    }

    /// The directory that relative paths are relative to.
    pub(crate) fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// The file of a place, and its line.
    pub(crate) fn at(&self, place: Option<Place>) -> (&Path, Option<usize>) {
        let file = place.and_then(|place| self.unit.files.get(place.file));
        (file.unwrap_or(&self.path), place.map(|place| place.line))
    }
}

/// All units, by their files' names.
#[derive(Clone, Debug, Default)]
pub struct Set {
    sources: BTreeMap<String, Source>,
}

impl Set {
    /// Adds a unit, unless there is one of that name already.
    pub fn add(&mut self, source: Source) {
        self.sources.entry(source.name.clone()).or_insert(source);
    }

    /// A unit.
    pub fn get(&self, name: &str) -> Option<&Source> {
        self.sources.get(name)
    }

    /// All units, in the order in which their services are made.
    pub fn iter(&self) -> impl Iterator<Item = &Source> {
        let of = move |kind| {
            self.sources
                .values()
                .filter(move |source| source.kind == kind)
        };
        Kind::ALL.into_iter().flat_map(of)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// What `name` means where `from` says it.
    pub(crate) fn resolve(&self, name: &str, from: &Source) -> Result<Resolved<'_>, String> {
        // It may have any character.
        let shown = name.escape_debug();
        let missing = || {
            let nearest = crate::suggest::nearest(name, self.sources.keys().map(String::as_str));
            let nearest = nearest.map(|name| format!("; did you mean {name}?"));
            format!("there is no unit {shown}{}", nearest.unwrap_or_default())
        };
        let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
        let asked = stem.split_once('@').map(|(_, instance)| instance);
        let (source, instance) = match (self.sources.get(name), stem.split_once('@')) {
            (Some(source), Some((_, ""))) => {
                if from.template().1.is_none() {
                    let (prefix, _) = source.template();
                    return Err(format!(
                        "{shown} is a template: say which instance is meant, as {prefix}@INSTANCE.{extension}"
                    ));
                }
                (source, Some("%i"))
            }
            (Some(source), _) => (source, asked),
            (None, Some((prefix, instance))) if !instance.is_empty() => {
                let template = self.sources.get(&format!("{prefix}@.{extension}"));
                (template.ok_or_else(missing)?, Some(instance))
            }
            (None, _) => return Err(missing()),
        };
        let (prefix, _) = source.template();
        let service = match (source.text("ServiceName"), instance) {
            (Some(name), Some(instance)) if name.ends_with('@') => format!("{name}{instance}"),
            (Some(name), _) => name,
            (None, Some(instance)) => format!("{prefix}{}@{instance}", source.kind.suffix()),
            (None, None) => format!("{prefix}{}", source.kind.suffix()),
        };
        // It becomes a word of a line.
        let service_name = format!("{service}.service");
        if let Some(why) = shape::service_with_specifiers(&service_name) {
            return Err(format!("{shown} can't be meant: {why}"));
        }
        let resource = source.resource().unwrap_or_default();
        let resource = match instance {
            Some(instance) => resource.replace("%p", prefix).replace("%i", instance),
            None => resource.replace("%N", &service),
        };
        Ok(Resolved {
            source,
            service: service_name,
            resource,
        })
    }
}
