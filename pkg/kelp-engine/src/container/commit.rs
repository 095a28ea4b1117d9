//! `commit`: an image from a container.

use std::collections::BTreeSet;

use kelp_args::Change;
use kelp_image::ingest::{LayerBlob, store_layer_as};
use kelp_image::reference::Reference;
use kelp_image::space::is_full;
use kelp_monitor::Launch;
use kelp_monitor::launch::variable_name;
use kelp_runtime::plan::Rootfs;
use kelp_state::{ContainerId, Record, Status, file};
use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use crate::container::Config;
use crate::container::environment::changed;
use crate::container::pack::{Archive, What};
use crate::image::draft::{Draft, members};
use crate::image::make::{Making, ManifestForm};
use crate::image::remove::reference;
use crate::{Engine, Error, Kind};

/// Variables that every container gets anew: they are no part of an image that none of image and request
/// has given them.
const OWN_VARIABLES: [&str; 4] = ["container", "HOME", "HOSTNAME", "TERM"];

/// How an image is made from a container.
#[derive(Clone, Debug, Default)]
pub struct CommitOptions {
    /// The image's name; it is taken from any other image.
    pub name: Option<String>,
    /// Who made it.
    pub author: Option<String>,
    /// Changes of its configuration.
    pub changes: Vec<Change>,
    /// A configuration that is merged into it, in docker's words.
    pub config: Option<Value>,
    /// Whose format it has.
    pub documents: ManifestForm,
    /// Whether the places of all volumes that the container was asked to have are volumes of the image.
    pub include_volumes: bool,
    /// A remark, which only docker's format has.
    pub message: Option<String>,
    /// Whether a container that runs is paused meanwhile.
    pub pause: bool,
    /// Whether it has one layer.
    pub squash: bool,
}

impl Engine {
    /// Makes an image from a container; its id.
    pub fn commit_container(
        &self,
        id: &ContainerId,
        options: &CommitOptions,
    ) -> Result<String, Error> {
        if options.message.is_some() && options.documents != ManifestForm::Docker {
            return Err(Error::invalid(
                "messages are only compatible with the docker image format (-f docker)",
            ));
        }
        let name = options.name.as_deref().map(reference).transpose()?;
        let config = self.config(id)?;
        if config.image_id.is_empty() {
            return Err(Error::invalid(format!(
                "container {} has no image: its root is a directory, which can't be committed; kelp \
                 export and kelp import make an image of it",
                id.short()
            )));
        }
        let committed = self.commit(&config, name.as_ref(), options);
        committed.map_err(|error| {
            let asked = is_full(&error) && !options.squash;
            match asked.then(|| self.written(id)).flatten() {
                Some(bytes) => self.explain_size(error, bytes),
                None => error,
            }
        })
    }

    fn commit(
        &self,
        config: &Config,
        name: Option<&Reference>,
        options: &CommitOptions,
    ) -> Result<String, Error> {
        let id = &config.id;
        let making = self.make_image()?;
        let base = making.base(&config.image_id)?;
        let layer = self.commit_layer(id, &making, options)?;
        self.extract_new(&making, &layer)?;
        let mut layers = Vec::new();
        if !options.squash {
            layers.extend(base.layers.iter().map(LayerBlob::from));
        }
        layers.push(layer);
        let mut draft = Draft::from_config(&making.config(&base)?)?;
        self.describe(&mut draft, config)?;
        if options.include_volumes {
            self.add_volumes(&mut draft, config);
        }
        finish(&mut draft, config, options)?;
        let record = making.finish(draft, &layers, options.documents, name)?;
        self.note("commit", config);
        Ok(record.id.hex().to_owned())
    }

    /// The bytes of the disk that what a container has written takes; where it has a copy of its image, that
    /// is not known.
    fn written(&self, id: &ContainerId) -> Option<u64> {
        let record = Record::new(&self.paths, id.clone());
        let launch: Launch = file::read_json(&record.data.join("launch.json")).ok()??;
        let Rootfs::Overlay { upper, .. } = launch.rootfs else {
            return None;
        };
        self.disk_usage(&[upper]).ok()?.pop()?
    }

    /// Stores what the container has written; paused, if that was asked for.
    fn commit_layer(
        &self,
        id: &ContainerId,
        making: &Making,
        options: &CommitOptions,
    ) -> Result<LayerBlob, Error> {
        let paused = (options.pause && self.status(id)? == Status::Running)
            .then(|| Paused::new(self, id))
            .transpose()?;
        let what = if options.squash {
            What::Layer
        } else {
            What::Changes
        };
        let mut archive = Archive::start(self, id, what)?;
        let format = options.documents.layer_format();
        let stored = store_layer_as(&making.blobs, &mut archive, None, format);
        drop(paused);
        match (stored, archive.failure()) {
            (_, Some(failure)) => Err(failure),
            (stored, None) => Ok(stored?),
        }
    }

    /// What the container is made with, over what the image says.
    fn describe(&self, draft: &mut Draft, config: &Config) -> Result<(), Error> {
        let record = Record::new(&self.paths, config.id.clone());
        let launch: Launch =
            file::read_json(&record.data.join("launch.json"))?.ok_or_else(|| {
                Error::new(Kind::NotFound, format!("no such container: {}", config.id))
            })?;
        let options = &config.options;
        let entrypoint = options.entrypoint.as_ref().unwrap_or(&config.entrypoint);
        let entrypoint: Vec<_> = entrypoint
            .iter()
            .filter(|word| !word.is_empty())
            .cloned()
            .collect();
        let command = config
            .command
            .strip_prefix(entrypoint.as_slice())
            .unwrap_or(&config.command);
        draft.set("Entrypoint", entrypoint);
        draft.set("Cmd", command);
        set_environment(draft, config, &launch.spec);
        draft.add("ExposedPorts", members(&exposed(config)));
        let labels = config.labels.iter();
        let labels: Vec<_> = labels
            .map(|(key, value)| (key.clone(), value.clone().into()))
            .collect();
        draft.add("Labels", labels);
        if let Some(user) = &options.user {
            draft.set("User", user.clone());
        }
        if let Some(process) = launch.spec.process() {
            draft.set("WorkingDir", process.cwd().to_string_lossy());
        }
        let anonymous = &launch.anonymous_volumes;
        let of_user = options.mounts.iter().filter(|mount| {
            let source = mount.source().as_ref();
            source.is_some_and(|source| anonymous.iter().any(|volume| source.starts_with(volume)))
        });
        let places: Vec<_> = of_user
            .map(|mount| mount.destination().to_string_lossy().into_owned())
            .collect();
        draft.add("Volumes", members(&places));
        Ok(())
    }

    /// The places of all volumes and binds that were asked for.
    fn add_volumes(&self, draft: &mut Draft, config: &Config) {
        let places: BTreeSet<_> = config
            .options
            .mounts
            .iter()
            .filter(|mount| !matches!(mount.typ().as_deref(), Some("tmpfs")))
            .map(|mount| mount.destination().to_string_lossy().into_owned())
            .collect();
        draft.add("Volumes", members(&places.into_iter().collect::<Vec<_>>()));
    }
}

/// The ports that it serves, each with its protocol: those of the request, and those that are published.
fn exposed(config: &Config) -> Vec<String> {
    let published = config.options.publish.iter().flat_map(|port| {
        let ports = (0..port.range).map(|offset| port.container_port.saturating_add(offset));
        ports.map(|number| format!("{number}/{}", port.protocol))
    });
    let asked = config.exposed.iter().map(|port| {
        if port.contains('/') {
            port.clone()
        } else {
            format!("{port}/tcp")
        }
    });
    asked.chain(published).collect()
}

/// The variables of the image and those that were asked for, with the values that they have.
fn set_environment(draft: &mut Draft, config: &Config, spec: &Spec) {
    let options = &config.options;
    let key = |entry: &str| variable_name(entry).to_owned();
    let before = draft.environment();
    let given: BTreeSet<String> = before
        .iter()
        .chain(&options.env)
        .chain(&options.merged_env)
        .map(|entry| key(entry))
        .collect();
    let current = spec
        .process()
        .as_ref()
        .and_then(|process| process.env().as_ref());
    let current: Vec<&String> = current.into_iter().flatten().collect();
    let has = |name: &str| current.iter().any(|entry| key(entry) == name);
    let gone = before.iter().map(|entry| key(entry));
    let gone: Vec<_> = gone.filter(|name| !has(name)).collect();
    let is_own = |name: &String| OWN_VARIABLES.contains(&name.as_str()) && !given.contains(name);
    let set = current.iter().filter(|entry| !is_own(&key(entry)));
    let set: Vec<String> = set.map(|&entry| entry.clone()).collect();
    draft.set("Env", changed(&before, &set, &gone));
}

/// What was asked for, and who made it when from what.
fn finish(draft: &mut Draft, config: &Config, options: &CommitOptions) -> Result<(), Error> {
    draft.apply(&options.changes);
    if let Some(merged) = &options.config {
        draft.merge(merged)?;
    }
    let now = jiff::Timestamp::now().to_string();
    draft.describe("created", &now);
    if let Some(author) = &options.author {
        draft.describe("author", author);
    }
    if let Some(message) = &options.message {
        draft.describe("comment", message);
    }
    if options.squash {
        draft.forget_steps();
    }
    let mut step = json!({
        "created": now,
        "created_by": "/bin/sh",
        "comment": format!("FROM {}", config.image_name),
    });
    if let Some(author) = &options.author {
        step["author"] = json!(author);
    }
    draft.add_step(step);
    Ok(())
}

/// A container that is paused as long as this lives.
struct Paused<'a> {
    engine: &'a Engine,
    id: &'a ContainerId,
}

impl<'a> Paused<'a> {
    fn new(engine: &'a Engine, id: &'a ContainerId) -> Result<Self, Error> {
        engine.pause_container(id, true)?;
        Ok(Self { engine, id })
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        // One that somebody else has let go on, or that has ended, is not paused any more.
        let _ = self.engine.pause_container(self.id, false);
    }
}
