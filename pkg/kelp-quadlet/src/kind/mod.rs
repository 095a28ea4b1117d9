//! The kinds of units: for each its table of keys, and how they become a service.

pub(crate) mod artifact;
pub(crate) mod build;
pub(crate) mod container;
pub(crate) mod health;
pub(crate) mod image;
pub(crate) mod kube;
pub(crate) mod mount;
pub(crate) mod network;
pub(crate) mod pod;
pub(crate) mod socket;
pub(crate) mod user_map;
pub(crate) mod volume;

use crate::draft::Draft;
use crate::set::Kind;

/// Makes the service of a unit of this kind.
pub(crate) fn convert(draft: &mut Draft<'_>, members: &[String]) {
    match draft.source.kind {
        Kind::Image => image::convert(draft),
        Kind::Artifact => artifact::convert(draft),
        Kind::Volume => volume::convert(draft),
        Kind::Network => network::convert(draft),
        Kind::Build => build::convert(draft),
        Kind::Container => container::convert(draft),
        Kind::Kube => kube::convert(draft),
        Kind::Pod => pod::convert(draft, members),
    }
}
