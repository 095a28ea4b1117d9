//! `manifest`: lists of images for several platforms, made here and pushed.

use std::collections::BTreeMap;

use kelp_image::Digest;
use kelp_image::blob::{BlobStore, DOCUMENT_LIMIT};
use kelp_image::index::{self, Entry};
use kelp_image::platform::Platform;
use kelp_image::progress::{Progress, Silent, Terminal};
use kelp_image::push_index::IndexPush;
use kelp_image::reference::{ImageName, Reference};
use kelp_image::store::list::manifests;
use kelp_image::store::{ListRecord, Removal, Store};
use kelp_image::transport;
use kelp_image::trust::publish::Signers;
use serde_json::Value;

pub use kelp_image::index::EntryChanges;

use crate::image::push::{PushRequest, target};
use crate::image::registry::AccessRequest;
use crate::image::remove::reference;
use crate::{Engine, Error, Kind};

/// What is added to a list, and how.
#[derive(Clone, Debug, Default)]
pub struct AddRequest {
    /// Whether of an index all images are added, and not that of one platform.
    pub all: bool,
    /// What the entries are to say. Operating system, architecture and variant choose the image of an
    /// index as well.
    pub changes: EntryChanges,
    /// How registries are reached.
    pub access: AccessRequest,
}

impl Engine {
    /// Makes a list of images that `request` says how to add, in one step; its id. One of this name that is
    /// here is an error, unless it is to be amended.
    pub fn create_list(
        &self,
        name: &str,
        amend: bool,
        annotations: &[(String, String)],
        images: &[String],
        request: &AddRequest,
    ) -> Result<String, Error> {
        let store = self.store()?;
        let full = reference(name)?;
        let known = store.find_list(name)?.filter(|_| amend);
        if known.is_none() {
            // Before anything is fetched.
            store.name_for_list(&full)?;
        }
        let (lease, blobs) = store.lease()?;
        let mut entries = Vec::new();
        for image in images {
            entries.extend(self.entries(&store, &blobs, image, request)?);
        }
        let mut edit = |list: &mut ListRecord, index: &mut Value| {
            index::annotate(index, annotations);
            enter(list, index, &entries);
            Ok(())
        };
        let id = if let Some((list, _)) = known {
            store.edit_list(&list.id, &mut edit)?;
            list.id
        } else {
            let created = jiff::Timestamp::now().to_string();
            let seed = std::process::id().to_string();
            let list = store.create_list(&full, &created, &seed, &mut edit)?;
            self.note_image("create", list.id.hex(), name);
            list.id
        };
        drop(lease);
        Ok(id.hex().to_owned())
    }

    /// Adds an image to a list: one that is here, in a registry or in files; the list's id.
    pub fn add_to_list(
        &self,
        list: &str,
        image: &str,
        request: &AddRequest,
    ) -> Result<String, Error> {
        let store = self.store()?;
        let list = found(&store, list)?;
        let (lease, blobs) = store.lease()?;
        let entries = self.entries(&store, &blobs, image, request)?;
        store.edit_list(&list.id, &mut |list, index| {
            enter(list, index, &entries);
            Ok(())
        })?;
        drop(lease);
        Ok(list.id.hex().to_owned())
    }

    /// The entries for an image, as they are to be, whose manifests are here.
    fn entries(
        &self,
        store: &Store,
        blobs: &BlobStore,
        image: &str,
        request: &AddRequest,
    ) -> Result<Vec<Entry>, Error> {
        let mut entries = self.entries_of(store, blobs, image, request)?;
        for entry in &mut entries {
            request.changes.apply(&mut entry.descriptor);
            blobs.put(&entry.manifest, Some(&entry.digest))?;
        }
        Ok(entries)
    }

    fn entries_of(
        &self,
        store: &Store,
        blobs: &BlobStore,
        image: &str,
        request: &AddRequest,
    ) -> Result<Vec<Entry>, Error> {
        let changes = &request.changes;
        let platform = Platform::new(
            changes.os.as_deref(),
            changes.arch.as_deref(),
            changes.variant.as_deref(),
        );
        let mut records = Vec::new();
        if let Some(place) = transport::parse(image)? {
            for id in self.bring_nameless(place, &platform)? {
                records.extend(store.record(&id)?);
            }
        } else if !image.starts_with("docker://") {
            match store.find(image) {
                Ok(record) => records.push(record),
                Err(kelp_image::Error::NotFound(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if records.is_empty() {
            let name = ImageName::parse(image).map_err(kelp_image::Error::from)?;
            let access = request.access.options()?;
            return Ok(index::of_registry(&name, &access, &platform, request.all)?);
        }
        let mut entries = Vec::new();
        for record in records {
            // Looked for under the lease, so that they stay; then whether the image still does.
            for digest in record.references() {
                blobs.contains(digest)?;
            }
            if store.record(&record.id)?.is_none() {
                return Err(kelp_image::Error::NotFound(image.to_owned()).into());
            }
            let manifest = blobs.read(&record.manifest, DOCUMENT_LIMIT)?;
            entries.push(index::of_image(&record, manifest));
        }
        Ok(entries)
    }

    /// Changes what a list says of an entry, or with no digest of itself; the list's id.
    pub fn annotate_list(
        &self,
        list: &str,
        digest: Option<&str>,
        changes: &EntryChanges,
    ) -> Result<String, Error> {
        let store = self.store()?;
        let list = found(&store, list)?;
        let digest = digest.map(str::parse::<Digest>).transpose()?;
        store.edit_list(&list.id, &mut |_, index| {
            match &digest {
                Some(digest) => changes.apply(index::entry(index, digest)?),
                None => index::annotate(index, &changes.annotations),
            }
            Ok(())
        })?;
        Ok(list.id.hex().to_owned())
    }

    /// Takes an entry out of a list; the list's id.
    pub fn remove_from_list(&self, list: &str, digest: &str) -> Result<String, Error> {
        let store = self.store()?;
        let list = found(&store, list)?;
        let digest: Digest = digest.parse()?;
        store.edit_list(&list.id, &mut |_, index| index::remove(index, &digest))?;
        Ok(list.id.hex().to_owned())
    }

    /// A list that is here, or the document that a registry has under the name.
    pub fn inspect_list(&self, name: &str, access: &AccessRequest) -> Result<Value, Error> {
        let store = self.store()?;
        if !name.starts_with("docker://")
            && let Some((list, _)) = store.find_list(name)?
        {
            return Ok(store.index_document(&list.index)?);
        }
        let image_name = ImageName::parse(name).map_err(kelp_image::Error::from)?;
        let (_, _, bytes) = index::document(&image_name, &access.options()?)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| kelp_image::Error::json("read a manifest")(error).into())
    }

    /// Whether a list is here.
    pub fn list_exists(&self, name: &str) -> Result<bool, Error> {
        Ok(self.store()?.find_list(name)?.is_some())
    }

    /// Removes a list, or one of its names; `None` if it is none.
    pub fn remove_list(&self, name: &str, all_names: bool) -> Result<Option<Removal>, Error> {
        let removal = self.store()?.remove_list(name, all_names)?;
        if let Some(removal) = &removal {
            if let Some(id) = &removal.deleted {
                self.note_image("remove", id.hex(), name);
            }
            self.remove_trees(&removal.trash)?;
        }
        Ok(removal)
    }

    /// Sends a list, and with `all` its images; the digest of its index in the registry.
    pub fn push_list(
        &self,
        name: &str,
        destination: Option<&str>,
        all: bool,
        request: &PushRequest,
    ) -> Result<String, Error> {
        let store = self.store()?;
        let (list, meant) = store.find_list(name)?.ok_or_else(|| no_list(name))?;
        let sources = list.sources.into_iter();
        let sources = sources
            .map(|(digest, source)| (digest, vec![source]))
            .collect();
        let name = meant.as_deref().unwrap_or(name);
        let digest = self.push_index(
            &store,
            &list.index,
            sources,
            (name, destination),
            all,
            request,
        )?;
        self.note_image("push", list.id.hex(), destination.unwrap_or(name));
        Ok(digest)
    }

    /// Sends the index that an image came by, with all its images.
    pub fn push_index_of(
        &self,
        name: &str,
        destination: Option<&str>,
        request: &PushRequest,
    ) -> Result<String, Error> {
        let store = self.store()?;
        let record = store.find(name)?;
        let index = record.indexes.first().ok_or_else(|| {
            Error::invalid(format!(
                "{name} did not come by an index: there is one image to push"
            ))
        })?;
        let known = record.repo_digests.iter();
        let known = known.filter_map(|known| Some(Reference::parse(known).ok()?.name()));
        let known: Vec<String> = known.collect();
        let sources = manifests(&store.index_document(index)?)
            .map(|(digest, _)| (digest, known.clone()))
            .collect();
        let digest = self.push_index(&store, index, sources, (name, destination), true, request)?;
        self.note_image("push", record.id.hex(), destination.unwrap_or(name));
        Ok(digest)
    }

    fn push_index(
        &self,
        store: &Store,
        index: &Digest,
        mut sources: BTreeMap<Digest, Vec<String>>,
        (name, destination): (&str, Option<&str>),
        all: bool,
        request: &PushRequest,
    ) -> Result<String, Error> {
        if let Some(destination) = destination
            && transport::parse(destination)?.is_some()
        {
            return Err(Error::invalid(format!(
                "{destination}: an index is pushed to a registry only"
            )));
        }
        if !Signers::load(&request.signer)?.is_empty() {
            return Err(Error::invalid(
                "an index and its images are not signed on their way: push and sign each image",
            ));
        }
        // On a full disk it works with what is here; what it lacks finds no space then.
        let (lease, blobs) = store.lease_to_read()?;
        lease.keep(index)?;
        let document = store.index_document(index)?;
        let named: Vec<Digest> = manifests(&document).map(|(digest, _)| digest).collect();
        // What is here stays while it is sent, and who else has it is where it may be mounted from.
        for image in self.images()? {
            let record = image.record;
            if !named.contains(&record.manifest) {
                continue;
            }
            let known = sources.entry(record.manifest.clone()).or_default();
            for name in &record.repo_digests {
                if let Ok(name) = Reference::parse(name)
                    && !known.contains(&name.name())
                {
                    known.push(name.name());
                }
            }
            for digest in record.references() {
                lease.keep(digest)?;
            }
        }
        let to = target(store, name, destination)?;
        let terminal = Terminal::default();
        let progress: &dyn Progress = if request.quiet { &Silent } else { &terminal };
        let access = request.access.options()?;
        let push = IndexPush {
            index: blobs.read(index, DOCUMENT_LIMIT)?,
            blobs: &blobs,
            sources: &sources,
            to: &to,
            access: &access,
            wanted: request.wanted()?,
            all,
            progress,
        };
        let pushed = push.run()?;
        drop(blobs);
        drop(lease);
        self.remove_trees(&store.discard(&pushed.brought)?)?;
        Ok(pushed.digest.to_string())
    }
}

/// Puts entries into a list.
fn enter(list: &mut ListRecord, index: &mut Value, entries: &[Entry]) {
    for entry in entries {
        match &entry.source {
            Some(source) => {
                list.sources.insert(entry.digest.clone(), source.clone());
            }
            // It was added as it is here, and is kept so.
            None => {
                list.sources.remove(&entry.digest);
            }
        }
    }
    let added = entries.iter().map(|entry| entry.descriptor.clone());
    index::add(index, added.collect());
}

fn found(store: &Store, name: &str) -> Result<ListRecord, Error> {
    let found = store.find_list(name)?;
    found.map(|(list, _)| list).ok_or_else(|| no_list(name))
}

fn no_list(name: &str) -> Error {
    Error::new(Kind::NotFound, format!("{name}: no such manifest list"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kelp_image::Digest;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_added_from_here_again_is_held_from_here() {
        let digest = Digest::of(b"manifest");
        let mut list = ListRecord {
            id: Digest::of(b"list"),
            index: Digest::of(b"index"),
            created: String::new(),
            sources: BTreeMap::new(),
        };
        let mut index = json!({"manifests": []});
        let mut enter_from = |source: Option<&str>| {
            let entry = Entry {
                digest: digest.clone(),
                descriptor: json!({"digest": digest}),
                source: source.map(str::to_owned),
                manifest: Vec::new(),
            };
            enter(&mut list, &mut index, &[entry]);
            list.sources.contains_key(&digest)
        };
        assert!(enter_from(Some("registry.example/one")));
        assert!(!enter_from(None));
        assert_eq!(index["manifests"].as_array().map(Vec::len), Some(1));
    }
}
