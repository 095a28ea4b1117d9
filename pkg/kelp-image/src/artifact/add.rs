//! `kelp artifact add`: files of the user's as an artifact.
//!
//! A file becomes a blob in the moment in which it is read, and its digest is that of what was read. The manifest is
//! written as podman writes it, so that the same files make the same layers there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::content_type::{SNIFFED, content_type};
use super::file::check_given_name;
use super::{CREATED, TITLE};
use crate::Error;
use crate::blob::BlobStore;
use crate::digest::Digest;
use crate::manifest::OCI_MANIFEST;
use crate::reference::Reference;
use crate::store::{ArtifactRecord, Store, Taking, check_taking};

/// How much of a file is read at a time.
const BUFFER: usize = 1 << 20;

/// What an addition may be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArtifactAddition {
    /// The type of the artifact.
    pub artifact_type: Option<String>,
    /// The media type of each file, instead of what its content looks like.
    pub file_type: Option<String>,
    /// Annotations of each file, and of a new artifact.
    pub annotations: BTreeMap<String, String>,
    /// Whether the files come to those of the artifact that has the name.
    pub append: bool,
    /// Whether the artifact that has the name is replaced.
    pub replace: bool,
}

/// A manifest in the order of fields that others write.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewManifest<'a> {
    schema_version: u32,
    media_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'a str>,
    config: NewConfig,
    layers: Vec<NewLayer>,
    annotations: BTreeMap<String, String>,
}

/// The config of an artifact that has none (OCI image specification, manifest.md, "Guidance for an Empty
/// Descriptor").
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewConfig {
    media_type: &'static str,
    digest: Digest,
    size: u64,
    data: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewLayer {
    media_type: String,
    digest: Digest,
    size: u64,
    annotations: BTreeMap<String, String>,
}

/// Makes an artifact of files; the digest of its manifest, and what is to be deleted of the one before it.
/// `blobs` keep what they make until they are dropped; `created` is the time (RFC 3339).
pub fn add(
    store: &Store,
    blobs: &BlobStore,
    name: &Reference,
    files: &[PathBuf],
    options: &ArtifactAddition,
    created: &str,
) -> Result<(Digest, Vec<PathBuf>), Error> {
    let full = name.clone().or_latest();
    if full.digest().is_some() {
        return Err(Error::Invalid(format!(
            "{full}: what is made here has no digest yet: give it a name without one"
        )));
    }
    // What it was is read before anybody replaces it.
    let lock = store.lock()?;
    let before = store.artifact_named(&full)?;
    let taking = match &before {
        Some(before) if options.append => Taking::This(&before.manifest),
        None if options.append => {
            return Err(Error::Invalid(format!("{full}: artifact does not exist")));
        }
        _ if options.replace => Taking::Any,
        _ => Taking::None,
    };
    let manifest = before.as_ref().map(|record| &record.manifest);
    check_taking(&full.to_string(), manifest, taking)?;
    let appended_to = before.as_ref().filter(|_| options.append);
    let older = appended_to.map(|record| read(store, blobs, record));
    let older = older.transpose()?;
    drop(lock);
    let titles = titles(older.as_ref(), files, options)?;
    let mut layers = Vec::with_capacity(files.len());
    for (path, title) in files.iter().zip(titles) {
        layers.push(layer(blobs, path, title, options)?);
    }
    let manifest = match older {
        Some(older) => appended(older, &layers)?,
        None => made(blobs, layers, options, created)?,
    };
    let digest = blobs.put(&manifest, None)?;
    let trash = store.add_artifact(&digest, &full, taking)?;
    Ok((digest, trash))
}

/// The manifest that others are added to; what it names is kept from now on, and it itself is to go.
fn read(store: &Store, blobs: &BlobStore, record: &ArtifactRecord) -> Result<Value, Error> {
    for digest in &record.blobs {
        // Looking for it has the lease keep it.
        blobs.contains(digest)?;
    }
    store.artifact_json(&record.manifest)
}

/// What each file is called, which nothing else in the artifact is.
fn titles(
    older: Option<&Value>,
    files: &[PathBuf],
    options: &ArtifactAddition,
) -> Result<Vec<String>, Error> {
    let layers = older.and_then(|older| older["layers"].as_array());
    let title = |layer: &Value| layer["annotations"][TITLE].as_str().map(str::to_owned);
    let mut known: BTreeSet<String> = layers.into_iter().flatten().filter_map(title).collect();
    let mut titles = Vec::with_capacity(files.len());
    for path in files {
        let given = options.annotations.get(TITLE);
        let title = match given {
            Some(title) => {
                check_given_name(title)?;
                title.clone()
            }
            None => name_of(path)?,
        };
        if !known.insert(title.clone()) {
            return Err(Error::Invalid(match given {
                Some(_) => {
                    format!("{title}: several files of an artifact can't have the same {TITLE}")
                }
                None => format!("{title}: file already exists in artifact"),
            }));
        }
        titles.push(title);
    }
    Ok(titles)
}

fn name_of(path: &Path) -> Result<String, Error> {
    let name = path.file_name().and_then(|name| name.to_str());
    // What could not be extracted by it is none.
    let name = name.filter(|name| check_given_name(name).is_ok());
    name.map(str::to_owned).ok_or_else(|| {
        Error::Invalid(format!(
            "{} has no name that can be a title: give one with --annotation {TITLE}=NAME",
            path.display()
        ))
    })
}

/// Keeps a file as a blob.
fn layer(
    blobs: &BlobStore,
    path: &Path,
    title: String,
    options: &ArtifactAddition,
) -> Result<NewLayer, Error> {
    let failed = |error| Error::io(format!("read {}", path.display()))(error);
    let mut file =
        File::open(path).map_err(|error| Error::io(format!("open {}", path.display()))(error))?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(Error::Invalid(format!(
            "{} is a directory, and an artifact has files alone",
            path.display()
        )));
    }
    let mut beginning = Vec::with_capacity(SNIFFED);
    (&mut file)
        .take(SNIFFED as u64)
        .read_to_end(&mut beginning)
        .map_err(failed)?;
    let media_type = match &options.file_type {
        Some(given) => given.clone(),
        None => content_type(&beginning).to_owned(),
    };
    let mut writer = blobs.writer()?;
    writer.write(&beginning)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => writer.write(&buffer[..count])?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    let size = writer.len();
    let mut annotations = options.annotations.clone();
    annotations.insert(TITLE.to_owned(), title);
    Ok(NewLayer {
        media_type,
        digest: writer.commit_any()?,
        size,
        annotations,
    })
}

fn made(
    blobs: &BlobStore,
    layers: Vec<NewLayer>,
    options: &ArtifactAddition,
    created: &str,
) -> Result<Vec<u8>, Error> {
    let mut annotations = options.annotations.clone();
    annotations.insert(CREATED.to_owned(), created.to_owned());
    let manifest = NewManifest {
        schema_version: 2,
        media_type: OCI_MANIFEST,
        artifact_type: options.artifact_type.as_deref(),
        config: NewConfig {
            media_type: "application/vnd.oci.empty.v1+json",
            digest: blobs.put(b"{}", None)?,
            size: 2,
            data: "e30=",
        },
        layers,
        annotations,
    };
    serde_json::to_vec(&manifest).map_err(Error::json("write a manifest"))
}

/// The same manifest with more files; all else in it stays.
fn appended(mut manifest: Value, layers: &[NewLayer]) -> Result<Vec<u8>, Error> {
    let failed = || Error::json("write a manifest");
    let Some(known) = manifest["layers"].as_array_mut() else {
        return Err(Error::Invalid(
            "the artifact's manifest has no layers".to_owned(),
        ));
    };
    for layer in layers {
        known.push(serde_json::to_value(layer).map_err(failed())?);
    }
    serde_json::to_vec(&manifest).map_err(failed())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::blob::DOCUMENT_LIMIT;

    struct Fixture {
        directory: tempfile::TempDir,
        store: Store,
    }

    impl Fixture {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let store = Store::open(&directory.path().join("data")).unwrap();
            Self { directory, store }
        }

        fn add(
            &self,
            name: &str,
            files: &[(&str, &str)],
            change: impl FnOnce(&mut ArtifactAddition),
        ) -> Result<Digest, String> {
            let mut paths = Vec::new();
            for (name, content) in files {
                let path = self.directory.path().join(name);
                fs::write(&path, content).unwrap();
                paths.push(path);
            }
            let mut options = ArtifactAddition::default();
            change(&mut options);
            let (_lease, blobs) = self.store.lease().unwrap();
            let name = Reference::parse(name).unwrap();
            let created = "2026-01-02T03:04:05.6Z";
            let added = add(&self.store, &blobs, &name, &paths, &options, created);
            added
                .map(|(digest, _)| digest)
                .map_err(|error| error.to_string())
        }

        fn text(&self, digest: &Digest) -> String {
            let bytes = self.store.blobs().read(digest, DOCUMENT_LIMIT).unwrap();
            String::from_utf8(bytes).unwrap()
        }
    }

    #[test]
    fn a_manifest_is_what_podman_writes() {
        let fixture = Fixture::new();
        let digest = fixture.add("localhost/a", &[("a.txt", "hello\n")], |options| {
            options.artifact_type = Some("application/x".to_owned());
            options
                .annotations
                .insert("color".to_owned(), "blue".to_owned());
        });
        let text = fixture.text(&digest.unwrap());
        let expected = concat!(
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","#,
            r#""artifactType":"application/x","config":{"mediaType":"application/vnd.oci.empty.v1+json","#,
            r#""digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2,"#,
            r#""data":"e30="},"layers":[{"mediaType":"text/plain; charset=utf-8","#,
            r#""digest":"sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03","size":6,"#,
            r#""annotations":{"color":"blue","org.opencontainers.image.title":"a.txt"}}],"#,
            r#""annotations":{"color":"blue","org.opencontainers.image.created":"2026-01-02T03:04:05.6Z"}}"#
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn files_are_added_and_an_artifact_replaced_as_it_is_said() {
        let fixture = Fixture::new();
        let first = fixture.add("localhost/a", &[("a", "1")], |_| {}).unwrap();
        let error = fixture
            .add("localhost/a", &[("b", "2")], |_| {})
            .unwrap_err();
        assert!(
            error.starts_with("localhost/a:latest: artifact already exists"),
            "{error}"
        );
        let more = fixture.add("localhost/a", &[("b", "2")], |options| {
            options.append = true;
        });
        let manifest: Value = serde_json::from_str(&fixture.text(&more.unwrap())).unwrap();
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 2);
        assert_eq!(manifest["annotations"][CREATED], "2026-01-02T03:04:05.6Z");
        assert_eq!(fixture.store.artifact(&first).unwrap(), None);
        // A manifest, an empty config and two files: the first manifest is not left behind.
        assert_eq!(fixture.store.blobs().list().unwrap().len(), 4);
        let again = fixture.add("localhost/a", &[("b", "3")], |options| {
            options.append = true;
        });
        assert_eq!(again.unwrap_err(), "b: file already exists in artifact");
        let other = fixture.add("localhost/a", &[("c", "4")], |options| {
            options.replace = true;
        });
        assert_eq!(
            fixture.store.artifacts().unwrap()[0].record.manifest,
            other.unwrap()
        );
        let none = fixture.add("localhost/b", &[("c", "4")], |options| {
            options.append = true;
        });
        assert_eq!(
            none.unwrap_err(),
            "localhost/b:latest: artifact does not exist"
        );
        fixture
            .add("localhost/b", &[("c", "4")], |options| {
                options.replace = true;
            })
            .unwrap();
    }

    #[test]
    fn what_has_the_same_name_is_refused_and_leaves_no_artifact() {
        let fixture = Fixture::new();
        let twice = fixture.add("localhost/a", &[("a", "1"), ("a", "1")], |_| {});
        assert_eq!(twice.unwrap_err(), "a: file already exists in artifact");
        let titled = fixture.add("localhost/a", &[("a", "1"), ("b", "2")], |options| {
            options.annotations.insert(TITLE.to_owned(), "t".to_owned());
        });
        assert!(titled.unwrap_err().contains("can't have the same"));
        for odd in ["../a", "a/b", "..", "a\u{202e}b", "a\nb"] {
            let titled = fixture.add("localhost/a", &[("a", "1")], |options| {
                options.annotations.insert(TITLE.to_owned(), odd.to_owned());
            });
            let error = titled.unwrap_err();
            assert!(
                error.contains("give the name of a file"),
                "{odd:?}: {error}"
            );
        }
        let error = fixture.add("localhost/a", &[("a\u{200b}", "1")], |_| {});
        assert!(
            error
                .unwrap_err()
                .contains("has no name that can be a title")
        );
        let directory = fixture.add("localhost/a", &[], |_| {}).unwrap();
        assert_eq!(
            fixture.store.artifacts().unwrap()[0].record.manifest,
            directory
        );
    }
}
