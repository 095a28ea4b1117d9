//! Looking at everything.

use std::collections::BTreeMap;

use kelp_image::Digest;
use kelp_image::store::{ImageRecord, Store};
use kelp_state::Record;

use super::artifacts::{find_artifact_blobs, find_artifacts};
use super::{CheckOptions, Damage, Findings};
use crate::container::config::Config;
use crate::{Engine, Error};

/// A blob that an image needs.
struct Needed<'a> {
    /// Its size, as a manifest says.
    size: Option<u64>,
    /// Whether it is a document, which is always read.
    document: bool,
    /// The image.
    image: &'a ImageRecord,
}

impl Engine {
    pub(super) fn find_damage(&self, options: &CheckOptions) -> Result<Findings, Error> {
        let store = self.store()?;
        // What is mended is under the exclusive lock.
        let reads = !(options.repair || options.force);
        let (lease, _) = if reads {
            store.lease_to_read()?
        } else {
            store.lease()?
        };
        let mut damages = Vec::new();
        let mut images = Vec::new();
        let mut unreadable = false;
        {
            let _lock = store.lock()?;
            for (id, record) in store.read_records()? {
                match record {
                    Ok(record) if record.id == id => {
                        for digest in record.references() {
                            lease.keep(digest)?;
                        }
                        images.push(record);
                    }
                    record => {
                        unreadable = true;
                        let what = match record {
                            Ok(_) => "its record is of another image".to_owned(),
                            Err(error) => {
                                format!("its record can't be read: {}", Error::from(error).line())
                            }
                        };
                        damages.push(Damage::Image { id, what });
                    }
                }
            }
        }
        let (artifacts, lost) = find_artifacts(&store, &lease, &mut damages)?;
        unreadable |= lost;
        let mut bad = find_blobs(&store, &images, options.quick, &mut damages)?;
        find_artifact_blobs(&store, &artifacts, options.quick, &mut bad, &mut damages)?;
        for image in &images {
            let documents = [&image.id, &image.manifest];
            let whole = !documents.iter().any(|digest| bad.contains_key(*digest));
            if whole && !store.check_record(image).unwrap_or(false) {
                damages.push(Damage::Image {
                    id: image.id.clone(),
                    what: "its record is not what its manifest and config say".to_owned(),
                });
            }
        }
        damages.extend(store.check_names()?.into_iter().map(Damage::Name));
        // Layers of images in read-only stores are the user's own.
        let all = [&images[..], &store.read_only_images()?].concat();
        self.find_layers(&store, &all, &bad, options.quick, &mut damages)?;
        self.find_containers(&store, &mut damages);
        let secrets = self.damaged_secrets()?.into_iter();
        damages.extend(secrets.map(|(name, what)| Damage::Secret { name, what }));
        // All that has to stay was looked at; who mends needs it yet, and who only reads may hold the shared
        // lock in its place, for which the exclusive one would wait.
        let lease = (!reads).then_some(lease);
        if let (Some(age), false) = (options.max, unreadable) {
            let old = store.unreferenced(age)?.into_iter();
            damages.extend(old.map(Damage::Unreferenced));
        }
        Ok(Findings {
            store,
            damages,
            images,
            artifacts,
            unreadable,
            _lease: lease,
        })
    }

    /// Containers whose record can't be read, or whose image is gone.
    fn find_containers(&self, store: &Store, damages: &mut Vec<Damage>) {
        for record in Record::all(&self.paths) {
            let id = record.id.clone();
            let config = match Config::read(&self.paths, &id) {
                Ok(Some(config)) => config,
                Ok(None) => continue,
                Err(error) => {
                    let what = format!("its record can't be read: {}", error.line());
                    damages.push(Damage::Container { id, what });
                    continue;
                }
            };
            let mounted = config.options.mounted_images.iter();
            let needed = mounted.chain([&config.image_id]);
            for image in needed.filter(|image| !image.is_empty()) {
                let id_of = Digest::from_sha256_hex(image);
                if !id_of.is_some_and(|id| store.has_record(&id)) {
                    let short: String = image.chars().take(12).collect();
                    let what = format!("its image {short} ({}) is not here", config.image_name);
                    let id = id.clone();
                    damages.push(Damage::Container { id, what });
                }
            }
        }
    }
}

/// Looks at each blob once; those that are damaged.
fn find_blobs(
    store: &Store,
    images: &[ImageRecord],
    quick: bool,
    damages: &mut Vec<Damage>,
) -> Result<BTreeMap<Digest, String>, Error> {
    let mut needed: BTreeMap<Digest, Needed<'_>> = BTreeMap::new();
    for image in images {
        let mut need = |digest: &Digest, size, document| {
            needed.entry(digest.clone()).or_insert_with(|| Needed {
                size,
                document,
                image,
            });
        };
        for digest in [&image.id, &image.manifest]
            .into_iter()
            .chain(&image.indexes)
        {
            need(digest, None, true);
        }
        for layer in &image.layers {
            need(&layer.digest, Some(layer.size), false);
        }
    }
    let mut bad = BTreeMap::new();
    for (digest, needed) in needed {
        let deep = needed.document || !quick;
        if let Some(what) = store.check_blob(&digest, needed.size, deep)? {
            bad.insert(digest.clone(), what.clone());
            damages.push(Damage::Blob {
                digest,
                what,
                image: shown(store, needed.image)?,
            });
        }
    }
    Ok(bad)
}

/// What to call an image: its first name, or its id.
pub(super) fn shown(store: &Store, image: &ImageRecord) -> Result<String, Error> {
    let name = store.names(&image.id)?.into_iter().next();
    Ok(name.unwrap_or_else(|| format!("image {}", image.id.short())))
}
