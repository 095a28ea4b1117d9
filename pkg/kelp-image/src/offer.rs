//! What a registry has under a name by now, with nothing of it brought here.

use crate::Error;
use crate::access::{Access, AccessOptions, runtime};
use crate::digest::Digest;
use crate::fetch::resolve;
use crate::platform::Platform;
use crate::pull::{Images, LocalImage, is_remote};
use crate::reference::Reference;

/// An image that a registry has and that is another one than that here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Its id: the digest of its config.
    pub id: Digest,
    /// The digest of its manifest.
    pub manifest: Digest,
}

/// Asks a registry, or its mirrors before it, what it has under a name for a platform; `None` if that is `local`.
///
/// Where digests tell that it is the same, no manifest is fetched: registries count those. One with other digests is
/// the same image still if its config is: an index that got an image for another platform, or layers that were
/// compressed anew.
pub fn offered(
    images: &dyn Images,
    reference: &Reference,
    local: &LocalImage,
    platform: &Platform,
    access: &AccessOptions,
) -> Result<Option<Offer>, Error> {
    let access = Access::new(access)?;
    let runtime = runtime()?;
    let endpoints = access.registries.endpoints(reference)?;
    let mut last = Error::Invalid(format!(
        "{reference}: registries.conf leaves no place to ask for it"
    ));
    for endpoint in &endpoints {
        let repository = access.repository(endpoint, reference.registry());
        let name = endpoint.reference.manifest_name();
        let asked = runtime.block_on(async {
            if let Some(digest) = repository.manifest_digest(&name).await?
                && images.is_current(local, &digest, platform)?
            {
                return Ok(None);
            }
            let resolved = resolve(&repository, &name, platform).await?;
            let id = resolved.config()?;
            let manifest = resolved.digest;
            Ok((id != local.id).then_some(Offer { id, manifest }))
        });
        match asked {
            Err(error) if is_remote(&error) => last = error,
            asked => return asked,
        }
    }
    Err(last)
}
