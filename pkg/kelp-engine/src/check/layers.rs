//! Looking at extracted layers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use kelp_image::Digest;
use kelp_image::layer::{LayerInfo, LayerStore};
use kelp_image::store::{Image, ImageRecord, LayerRecord, Store};
use kelp_image::verify::{Extracted, Verdict, verify_in_role};
use kelp_monitor::Launch;
use kelp_runtime::plan::Rootfs;
use kelp_state::shown::{Place, Seen};
use kelp_state::{Record, file};
use kelp_userns::IdMap;

use super::Damage;
use crate::container::config::UserMode;
use crate::image::{ownership, start_role};
use crate::{Engine, Error, host, internal};

/// How many layers are compared at the same time.
const AT_ONCE: usize = 4;

/// A layer that is there.
struct There {
    layers: LayerStore,
    layer: LayerRecord,
}

impl Engine {
    /// Layers that are not what their blobs say, and those that a container needs and that are gone.
    pub(super) fn find_layers(
        &self,
        store: &Store,
        images: &[ImageRecord],
        bad: &BTreeMap<Digest, String>,
        quick: bool,
        damages: &mut Vec<Damage>,
    ) -> Result<(), Error> {
        // By their diff ids; one whose blob is whole, if there are several.
        let mut known: BTreeMap<&Digest, &LayerRecord> = BTreeMap::new();
        for layer in images.iter().flat_map(|image| &image.layers) {
            let better = known
                .get(&layer.diff_id)
                .is_none_or(|other| bad.contains_key(&other.digest));
            if better {
                known.insert(&layer.diff_id, layer);
            }
        }
        let mut found = Vec::new();
        for layers in store.maps()? {
            let map = self.map_of_layers(&layers);
            let mut there = Vec::new();
            for diff_id in layers.list()? {
                let Some(&layer) = known.get(&diff_id) else {
                    continue;
                };
                there.push(There {
                    layers: layers.clone(),
                    layer: layer.clone(),
                });
            }
            found.extend(match map {
                Some(map) if !quick => self.compare_all(store, &there, &map, bad)?,
                _ => there.iter().filter_map(|there| look(there, None)).collect(),
            });
        }
        for (key, diff_id) in self.layers_of_containers() {
            let is_there = store.layers(&key)?.contains(&diff_id);
            if let (false, Some(&layer)) = (is_there, known.get(&diff_id)) {
                found.push(Damage::Layer {
                    key,
                    layer: layer.clone(),
                    what: vec!["is missing, and a container needs it".to_owned()],
                    info: None,
                });
            }
        }
        damages.extend(found);
        Ok(())
    }

    /// Compares layers of a map with their blobs.
    fn compare_all(
        &self,
        store: &Store,
        there: &[There],
        map: &IdMap,
        bad: &BTreeMap<Digest, String>,
    ) -> Result<Vec<Damage>, Error> {
        let (usual, ids) = host::translation(map)?;
        let userns = self.user_namespace(usual)?;
        let spawn = |role: &[String], fds: internal::Fds<'_>| start_role(role, fds, &userns);
        let tmp = self.paths.data.join("tmp");
        let compare = |there: &There| -> Result<Option<Damage>, Error> {
            let directory = there.layers.path(&there.layer.diff_id);
            if bad.contains_key(&there.layer.digest) || !directory.is_dir() {
                return Ok(look(there, None));
            }
            let blob = store.blobs().reader(&there.layer.digest)?;
            let extracted = Extracted {
                directory: &directory,
                tmp: &tmp,
                ownership: ownership(map),
                ids: ids.as_ref(),
            };
            let verdict = verify_in_role(&extracted, &blob, &spawn)?;
            Ok(look(there, Some(verdict)))
        };
        let mut damages = Vec::new();
        for some in there.chunks(AT_ONCE) {
            std::thread::scope(|scope| {
                let started: Vec<_> = some
                    .iter()
                    .map(|there| scope.spawn(|| compare(there)))
                    .collect();
                for thread in started {
                    match thread.join() {
                        Ok(damage) => damages.extend(damage?),
                        Err(panic) => std::panic::resume_unwind(panic),
                    }
                }
                Ok::<(), Error>(())
            })?;
        }
        Ok(damages)
    }

    /// The map that layers are for, as far as it can be known: their directory has but its key. One
    /// whose ids this user no longer has is of no use.
    pub(crate) fn map_of_layers(&self, layers: &LayerStore) -> Option<IdMap> {
        let (uid, gid) = kelp_userns::own::ids();
        let keep_id = UserMode::KeepId {
            uid: None,
            gid: None,
        };
        let modes = [UserMode::Host, keep_id, UserMode::NoMap];
        let usual = modes.iter().filter_map(|mode| host::id_map(mode).ok());
        // Each is read only if none before it fits.
        let of_containers = std::iter::once_with(|| self.containers()).flatten();
        let of_containers =
            of_containers.filter_map(|config| host::map_of(&config.options.namespaces).ok());
        usual
            .chain([IdMap::single(uid, gid)])
            .chain(std::iter::once_with(|| layers.map()).flatten())
            .chain(of_containers)
            .find(|map| map.key() == layers.key() && host::translation(map).is_ok())
    }

    /// The layers that containers have, by map and diff id.
    fn layers_of_containers(&self) -> BTreeSet<(String, Digest)> {
        let mut layers = BTreeSet::new();
        for record in Record::all(&self.paths) {
            for path in layer_paths(&record) {
                let text = |path: Option<&std::ffi::OsStr>| Some(path?.to_str()?.to_owned());
                let key = text(path.parent().and_then(|parent| parent.file_name()));
                let diff_id = text(path.file_name()).and_then(|hex| Digest::from_hex(&hex));
                let is_ours = path.starts_with(self.paths.data.join("layers"));
                if let (Some(key), Some(diff_id), true) = (key, diff_id, is_ours) {
                    layers.insert((key, diff_id));
                }
            }
        }
        layers
    }

    /// Who has a layer mounted, and what is to be done about it. The caller has the store's lock.
    pub(super) fn user_of_layer(&self, layer: &PathBuf) -> Result<Option<String>, Error> {
        let is_mounted = |place: Place| Ok::<_, Error>(place.seen()? != Seen::Nowhere);
        for record in Record::all(&self.paths) {
            let id = &record.id;
            if !layer_paths(&record).contains(layer) {
                continue;
            }
            if record.is_alive() {
                return Ok(Some(format!(
                    "container {}, which runs: stop it",
                    id.short()
                )));
            }
            if is_mounted(Place::of_container(&self.paths.data, id))? {
                let user = format!("container {}, which is mounted: unmount it", id.short());
                return Ok(Some(user));
            }
        }
        let key = host::id_map(&UserMode::Host)?.key();
        let store = self.store()?;
        for Image { record, .. } in store.images()? {
            let place = Place::of_image(&self.paths.data, record.id.hex());
            if is_mounted(place)? && store.layer_paths(&record, &key)?.contains(layer) {
                let user = format!("image {}, which is mounted: unmount it", record.id.short());
                return Ok(Some(user));
            }
        }
        Ok(None)
    }
}

/// The layers beneath a container's root and mounts.
fn layer_paths(record: &Record) -> Vec<PathBuf> {
    let launch: Result<Option<Launch>, _> = file::read_json(&record.data.join("launch.json"));
    let Ok(Some(launch)) = launch else {
        return Vec::new();
    };
    let mut paths = match launch.rootfs {
        Rootfs::Overlay { lower, .. } => lower,
        Rootfs::Copied { layers, .. } => layers,
        Rootfs::Directory(_) => Vec::new(),
    };
    let mounts = launch.spec.mounts().iter().flatten();
    for option in mounts
        .filter_map(|mount| mount.options().as_ref())
        .flatten()
    {
        if let Some(lower) = option.strip_prefix("lowerdir=") {
            paths.extend(lower.split(':').map(PathBuf::from));
        }
    }
    paths
}

/// What is wrong with a layer, after a comparison if there was one.
fn look(there: &There, verdict: Option<Verdict>) -> Option<Damage> {
    let diff_id = &there.layer.diff_id;
    let damaged = |what, info| {
        Some(Damage::Layer {
            key: there.layers.key().to_owned(),
            layer: there.layer.clone(),
            what,
            info,
        })
    };
    if !there.layers.path(diff_id).is_dir() {
        return damaged(vec!["is no directory".to_owned()], None);
    }
    let info = there.layers.info(diff_id);
    let written = match &info {
        Ok(Some(_)) => None,
        Ok(None) => Some("its size is not written down"),
        Err(_) => Some("what is written down of its size can't be read"),
    };
    let Some(verdict) = verdict else {
        return written.and_then(|what| damaged(vec![what.to_owned()], None));
    };
    if !verdict.differences.is_empty() {
        let first = verdict.differences.first.iter();
        let mut lines: Vec<_> = first
            .map(|one| format!("{} {}", one.path, one.what))
            .collect();
        if verdict.differences.more > 0 {
            lines.push(format!("{} more differences", verdict.differences.more));
        }
        return damaged(lines, None);
    }
    let LayerInfo { size, files, .. } = verdict.info;
    let wrong = match info {
        Ok(Some(info)) if (info.size, info.files) != (size, files) => Some(format!(
            "its size is written down as {} bytes in {} entries instead of {size} in {files}",
            info.size, info.files
        )),
        _ => written.map(str::to_owned),
    };
    wrong.and_then(|what| damaged(vec![what], Some(verdict.info)))
}
