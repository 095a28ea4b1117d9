//! What refers to an image in its registry: signatures, attestations, lists of what it is made of.

use oci_spec::image::Descriptor;
use reqwest::StatusCode;

use crate::Error;
use crate::access::{Access, AccessOptions, runtime};
use crate::digest::Digest;
use crate::http::Request;
use crate::manifest::{Document, MANIFEST_LIMIT, OCI_INDEX};
use crate::reference::Reference;
use crate::registry::{Repository, read_document};
use crate::search::next_page;

/// The most pages that a list of referrers is read from.
const REFERRERS_PAGES: usize = 100;

/// The descriptors of all manifests that name an image as their subject: the one of the name's digest, or the
/// one that its registry has by the name.
pub fn referrers(image: &Reference, access: &AccessOptions) -> Result<Vec<Descriptor>, Error> {
    let access = Access::new(access)?;
    let image = image.clone().or_latest();
    // They are looked for where the image itself is, and not in its mirrors: a mirror may have the one
    // without the other.
    let endpoint = access.registries.own_endpoint(&image)?;
    let repository = access.repository(&endpoint, image.registry());
    runtime()?.block_on(async {
        let digest = match image.digest() {
            Some(digest) => digest.clone(),
            None => repository.find_digest(&endpoint.reference).await?,
        };
        repository.referrers(&digest).await
    })
}

impl Repository {
    async fn find_digest(&self, image: &Reference) -> Result<Digest, Error> {
        let name = image.manifest_name();
        if let Some(digest) = self.manifest_digest(&name).await? {
            return Ok(digest);
        }
        // It does not say it by itself.
        Ok(self.manifest(&name).await?.digest)
    }

    /// What refers to a manifest: signatures, attestations and the like, as the manifests of an index.
    ///
    /// A registry without the API for it has an index under a tag made of the digest (distribution
    /// specification, "Referrers tag schema"), or nothing.
    async fn referrers(&self, digest: &Digest) -> Result<Vec<Descriptor>, Error> {
        let what = format!("reading the referrers of {digest} in {}", self.name());
        let path = format!("{}/referrers/{digest}", self.path());
        let mut next = Some(self.url(&path, &what).await?);
        let mut found = Vec::new();
        for _ in 0..REFERRERS_PAGES {
            let Some(url) = next.take() else {
                break;
            };
            let request = Request {
                accept: OCI_INDEX,
                ..Request::get(url)
            };
            let known = |status: StatusCode| {
                status == StatusCode::OK
                    || (status.is_client_error()
                        && status != StatusCode::UNAUTHORIZED
                        && status != StatusCode::TOO_MANY_REQUESTS)
            };
            let response = self.call(request, &what, true, &known).await?;
            if response.status() != StatusCode::OK {
                return self.referrers_by_tag(digest).await;
            }
            next = next_page(response.headers(), response.url());
            let bytes = read_document(response, MANIFEST_LIMIT, &what).await?;
            found.extend(entries(&bytes, &what)?);
        }
        if next.is_some() {
            return Err(Error::Registry(format!(
                "{what}: there are more than {REFERRERS_PAGES} pages"
            )));
        }
        Ok(found)
    }

    async fn referrers_by_tag(&self, digest: &Digest) -> Result<Vec<Descriptor>, Error> {
        let tag = digest.to_string().replace(':', "-");
        match self.manifest(&tag).await {
            Ok(fetched) => entries(&fetched.bytes, &tag),
            Err(Error::NotInRegistry(_)) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// The manifests that an index of referrers names.
fn entries(bytes: &[u8], what: &str) -> Result<Vec<Descriptor>, Error> {
    match Document::parse(bytes, Some(OCI_INDEX))? {
        Document::Index(index) => Ok(index.manifests().clone()),
        Document::Manifest(_) => Err(Error::Invalid(format!("{what}: this is no index"))),
    }
}
