//! The entries of an index: made of images that are here or in a registry, and changed.

use oci_spec::image::Descriptor;
use serde_json::{Value, json};

use crate::Error;
use crate::access::{Access, AccessOptions, runtime};
use crate::blob::DOCUMENT_LIMIT;
use crate::digest::Digest;
use crate::fetch::{self, Config};
use crate::manifest::Document;
use crate::platform::{Platform, of_descriptor};
use crate::pull::is_remote;
use crate::reference::{ImageName, Reference};
use crate::registry::{Fetched, Repository};
use crate::short_name;
use crate::store::ImageRecord;

/// The most images of an index that are added to a list at once: their manifests are in memory.
const ENTRY_LIMIT: usize = 1000;

/// What an entry is to say besides, or instead.
#[derive(Clone, Debug, Default)]
pub struct EntryChanges {
    /// The operating system.
    pub os: Option<String>,
    /// The architecture.
    pub arch: Option<String>,
    /// Its variant.
    pub variant: Option<String>,
    /// The operating system's version.
    pub os_version: Option<String>,
    /// What the operating system has to have.
    pub os_features: Vec<String>,
    /// What the processor has to have.
    pub features: Vec<String>,
    /// Annotations of the entry.
    pub annotations: Vec<(String, String)>,
}

impl EntryChanges {
    /// Whether nothing is said but annotations.
    pub fn is_only_annotations(&self) -> bool {
        let words = [&self.os, &self.arch, &self.variant, &self.os_version];
        let lists = [&self.os_features, &self.features];
        words.iter().all(|word| word.is_none()) && lists.iter().all(|list| list.is_empty())
    }

    /// Applies them.
    pub fn apply(&self, entry: &mut Value) {
        let words = [
            ("os", &self.os),
            ("architecture", &self.arch),
            ("variant", &self.variant),
            ("os.version", &self.os_version),
        ];
        for (key, word) in words {
            if let Some(word) = word {
                entry["platform"][key] = json!(word);
            }
        }
        for (key, list) in [
            ("os.features", &self.os_features),
            ("features", &self.features),
        ] {
            if !list.is_empty() {
                entry["platform"][key] = json!(list);
            }
        }
        annotate(entry, &self.annotations);
    }
}

/// Sets annotations of an index or an entry.
pub fn annotate(document: &mut Value, annotations: &[(String, String)]) {
    for (key, value) in annotations {
        document["annotations"][key.as_str()] = json!(value);
    }
}

/// An entry that is to be added.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The digest of its manifest.
    pub digest: Digest,
    /// What the index says of it.
    pub descriptor: Value,
    /// The repository that has it, if it came from one.
    pub source: Option<String>,
    /// The manifest.
    pub manifest: Vec<u8>,
}

/// The entry of an image that is here.
pub fn of_image(record: &ImageRecord, manifest: Vec<u8>) -> Entry {
    let platform = record.platform();
    Entry {
        digest: record.manifest.clone(),
        descriptor: descriptor(
            &record.media_type,
            &record.manifest,
            manifest.len(),
            &platform,
        ),
        source: None,
        manifest,
    }
}

fn descriptor(media_type: &str, digest: &Digest, size: usize, platform: &Platform) -> Value {
    let mut entry = json!({
        "mediaType": media_type,
        "digest": digest,
        "size": size,
        "platform": {"os": platform.os, "architecture": platform.architecture},
    });
    if let Some(variant) = &platform.variant {
        entry["platform"]["variant"] = json!(variant);
    }
    entry
}

/// Adds entries to an index; one that it has already is replaced.
pub fn add(index: &mut Value, entries: Vec<Value>) {
    let Some(manifests) = index["manifests"].as_array_mut() else {
        return;
    };
    for entry in entries {
        match manifests
            .iter_mut()
            .find(|old| old["digest"] == entry["digest"])
        {
            Some(old) => *old = entry,
            None => manifests.push(entry),
        }
    }
}

/// The entry of a digest.
pub fn entry<'a>(index: &'a mut Value, digest: &Digest) -> Result<&'a mut Value, Error> {
    let wanted = json!(digest);
    let mut entries = index["manifests"].as_array_mut().into_iter().flatten();
    entries
        .find(|entry| entry["digest"] == wanted)
        .ok_or_else(|| Error::NotFound(format!("{digest} in the manifest list")))
}

/// Takes an entry out.
pub fn remove(index: &mut Value, digest: &Digest) -> Result<(), Error> {
    entry(index, digest)?;
    let wanted = json!(digest);
    if let Some(entries) = index["manifests"].as_array_mut() {
        entries.retain(|entry| entry["digest"] != wanted);
    }
    Ok(())
}

/// The document that a registry has under a name, as it came with its digest, and the full name.
pub fn document(
    name: &ImageName,
    options: &AccessOptions,
) -> Result<(Reference, Digest, Vec<u8>), Error> {
    let (reference, (digest, bytes)) = in_registry(name, options, &|_, top, _| {
        Document::parse(&top.bytes, top.media_type.as_deref())?;
        Ok((top.digest, top.bytes))
    })?;
    Ok((reference, digest, bytes))
}

/// The images of an index with their platforms; none of what is no index. What is for no platform, such
/// as an attestation, is left out.
pub fn platforms(bytes: &[u8]) -> Result<Vec<(Platform, Digest)>, Error> {
    let Document::Index(index) = Document::parse(bytes, None)? else {
        return Ok(Vec::new());
    };
    let entries = index.manifests().iter();
    let offered = entries.filter_map(|entry| {
        let platform = of_descriptor(entry)?;
        Some(Digest::try_from(entry.digest()).map(|digest| (platform, digest)))
    });
    offered.collect()
}

/// The entries of what a registry has under a name: of an index that of a platform, or with `all` all.
pub fn of_registry(
    name: &ImageName,
    options: &AccessOptions,
    platform: &Platform,
    all: bool,
) -> Result<Vec<Entry>, Error> {
    let (reference, mut entries) = in_registry(name, options, &|repository, top, runtime| {
        runtime.block_on(entries(repository, top, platform, all))
    })?;
    for entry in &mut entries {
        entry.source = Some(reference.name());
    }
    Ok(entries)
}

async fn entries(
    repository: &Repository,
    top: Fetched,
    platform: &Platform,
    all: bool,
) -> Result<Vec<Entry>, Error> {
    let index = match Document::parse(&top.bytes, top.media_type.as_deref())? {
        Document::Index(index) => index,
        Document::Manifest(manifest) => {
            let id = Digest::try_from(manifest.config().digest())?;
            let config = repository.document(&id, DOCUMENT_LIMIT as usize).await?;
            let platform = Config::parse(&config)?.platform();
            let media_type = manifest.media_type().as_ref().map(ToString::to_string);
            let media_type = media_type.or(top.media_type).unwrap_or_default();
            return Ok(vec![Entry {
                descriptor: descriptor(&media_type, &top.digest, top.bytes.len(), &platform),
                digest: top.digest,
                source: None,
                manifest: top.bytes,
            }]);
        }
    };
    let chosen: Vec<&Descriptor> = if all {
        index.manifests().iter().collect()
    } else {
        vec![fetch::choose(&index, platform, &repository.name())?]
    };
    if chosen.len() > ENTRY_LIMIT {
        return Err(Error::Invalid(format!(
            "{}: the index has more than {ENTRY_LIMIT} images",
            repository.name()
        )));
    }
    let mut entries = Vec::new();
    for descriptor in chosen {
        let digest = Digest::try_from(descriptor.digest())?;
        let fetched = repository.manifest(&digest.to_string()).await?;
        if fetched.bytes.len() as u64 != descriptor.size() {
            return Err(Error::Invalid(format!(
                "{}: manifest {digest} does not have the {} bytes that the index says",
                repository.name(),
                descriptor.size()
            )));
        }
        let media_type = descriptor.media_type().to_string();
        if let Document::Index(_) = Document::parse(&fetched.bytes, Some(&media_type))? {
            return Err(Error::Invalid(format!(
                "{}: an index leads to another index",
                repository.name()
            )));
        }
        entries.push(Entry {
            descriptor: serde_json::to_value(descriptor)
                .map_err(Error::json("write an index's entry"))?,
            digest,
            source: None,
            manifest: fetched.bytes,
        });
    }
    Ok(entries)
}

/// What is done with what a registry has under a name.
type Use<'a, T> = dyn Fn(&Repository, Fetched, &tokio::runtime::Runtime) -> Result<T, Error> + 'a;

/// Asks the registries that a name may mean, and their mirrors, one after the other.
fn in_registry<T>(
    name: &ImageName,
    options: &AccessOptions,
    then: &Use<'_, T>,
) -> Result<(Reference, T), Error> {
    let access = Access::new(options)?;
    let runtime = runtime()?;
    let mut failed = None;
    for reference in short_name::to_ask(name, &access.registries, options)?.references {
        let reference = reference.or_latest();
        for endpoint in access.registries.endpoints(&reference)? {
            let repository = access.repository(&endpoint, reference.registry());
            let name = endpoint.reference.manifest_name();
            let asked = runtime
                .block_on(repository.manifest(&name))
                .and_then(|top| then(&repository, top, &runtime));
            match asked {
                Ok(done) => return Ok((reference, done)),
                Err(error) if is_remote(&error) => failed = Some(error),
                Err(error) => return Err(error),
            }
        }
    }
    Err(failed.unwrap_or_else(|| {
        Error::Invalid(format!("{name}: registries.conf leaves no place to ask"))
    }))
}
