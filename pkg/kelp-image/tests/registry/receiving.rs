//! A registry in memory that takes uploads as the distribution specification has it, and an image that
//! can be pushed to it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use kelp_image::parcel::Parcel;
use kelp_image::progress::Silent;
use kelp_image::push::push;
use kelp_image::reference::Reference;
use kelp_image::store::Store;
use kelp_image::{Digest, Error};

use crate::fixture::Fixture;
use crate::http::Message;
use crate::image::{OCI_MANIFEST, TestImage};
use crate::scripted::Answer;

/// An image that is here.
pub(crate) struct Here {
    pub(crate) fixture: Fixture,
    pub(crate) store: Store,
    pub(crate) parcel: Parcel,
}

impl Here {
    pub(crate) fn new(image: &TestImage) -> Self {
        let fixture = Fixture::new();
        let store = Store::open(&fixture.root.path().join("data")).unwrap();
        for bytes in image.layers.iter().chain([&image.config, &image.manifest]) {
            fixture.blobs.put(bytes, None).unwrap();
        }
        let parcel = Parcel::of_manifest(&fixture.blobs, &image.digest()).unwrap();
        Self {
            fixture,
            store,
            parcel,
        }
    }

    pub(crate) fn push(&self, name: &str) -> Result<Digest, Error> {
        let name = Reference::parse(name).unwrap();
        let access = &self.fixture.options.access;
        let blobs = &self.fixture.blobs;
        push(&self.store, blobs, &self.parcel, &name, access, &Silent)
    }
}

/// What a registry has.
#[derive(Default)]
struct State {
    blobs: HashMap<String, Vec<u8>>,
    uploads: Vec<Vec<u8>>,
    manifests: HashMap<String, Vec<u8>>,
}

/// A registry that takes uploads.
#[derive(Clone, Default)]
pub(crate) struct Receiving {
    state: Arc<Mutex<State>>,
}

impl Receiving {
    /// Whether it has all of an image, under the tag `1`.
    pub(crate) fn has(&self, image: &TestImage) -> bool {
        let state = self.state.lock().unwrap();
        let mut wanted = image.layers.iter().chain([&image.config]);
        wanted.all(|blob| state.blobs.get(&Digest::of(blob).to_string()) == Some(blob))
            && state.manifests.get("1") == Some(&image.manifest)
    }

    /// Answers as a registry should.
    pub(crate) fn answer(&self, request: &Message) -> Answer {
        let mut state = self.state.lock().unwrap();
        let (method, target) = (request.first.split(' ').next().unwrap(), request.target());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let last = path.rsplit('/').next().unwrap().to_owned();
        if path.contains("/manifests/") {
            return state.manifest(method, last, &request.body);
        }
        if !path.contains("/blobs/uploads/") {
            return match state.blobs.get(&last) {
                Some(blob) => Answer::new(200, blob),
                None if path == "/v2/" => Answer::new(200, b"{}"),
                None => Answer::new(404, b"{}"),
            };
        }
        if method == "POST" {
            state.uploads.push(Vec::new());
            let number = state.uploads.len() - 1;
            return Answer::new(202, b"").header("Location", &format!("{path}{number}"));
        }
        let upload = &mut state.uploads[last.parse::<usize>().unwrap()];
        if let Some((from, _)) = request
            .header("content-range")
            .and_then(|range| range.split_once('-'))
            && from != upload.len().to_string()
        {
            return Answer::new(416, b"{}");
        }
        upload.extend_from_slice(&request.body);
        if method == "PUT" {
            let digest = query.trim_start_matches("digest=").replace("%3A", ":");
            let content = upload.clone();
            if Digest::of(&content).to_string() != digest {
                return Answer::new(400, br#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
            }
            state.blobs.insert(digest, content);
            return Answer::new(201, b"");
        }
        let range = format!("0-{}", upload.len().saturating_sub(1));
        let status = if method == "GET" { 204 } else { 202 };
        Answer::new(status, b"")
            .header("Location", path)
            .header("Range", &range)
    }
}

impl State {
    fn manifest(&mut self, method: &str, tag: String, body: &[u8]) -> Answer {
        if method == "PUT" {
            let digest = Digest::of(body).to_string();
            self.manifests.insert(tag, body.to_vec());
            return Answer::new(201, b"").header("Docker-Content-Digest", &digest);
        }
        match self.manifests.get(&tag) {
            None => Answer::new(404, b"{}"),
            Some(manifest) => Answer::new(200, manifest)
                .header("Content-Type", OCI_MANIFEST)
                .header("Docker-Content-Digest", &Digest::of(manifest).to_string()),
        }
    }
}
