//! Layers from archives: what a commit, an import or an older kind of archive brings.
//!
//! Such an archive is not compressed, or its compression does not matter to anybody. It is kept as
//! zstd: faster to write and to read than gzip, and smaller. What goes to a registry is compressed anew
//! where that registry's users may not know zstd (see [`crate::parcel`]).

use std::io::{self, Read, Write};

use crate::Error;
use crate::blob::{BlobStore, BlobWriter};
use crate::compress::{Encoder, Format};
use crate::decompress::Decompressor;
use crate::digest::{Algorithm, Digest, Hasher};

/// How much of an archive is read at a time.
const BUFFER: usize = 256 << 10;

/// A layer's blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerBlob {
    /// Of the blob.
    pub digest: Digest,
    /// Of the blob, in bytes.
    pub size: u64,
    /// Its media type.
    pub media_type: String,
    /// The digest of the archive, uncompressed.
    pub diff_id: Digest,
}

/// Stores an archive as the blob of a layer. Compressed ones are taken too.
///
/// With `expected`, an archive that has another digest leaves nothing, and is an error.
pub fn store_layer<R: Read>(
    blobs: &BlobStore,
    archive: R,
    expected: Option<&Digest>,
) -> Result<LayerBlob, Error> {
    store_layer_as(blobs, archive, expected, Format::Zstd)
}

/// The same in another compression: docker's format of images knows no zstd.
pub fn store_layer_as<R: Read>(
    blobs: &BlobStore,
    archive: R,
    expected: Option<&Digest>,
    format: Format,
) -> Result<LayerBlob, Error> {
    let mut archive = Decompressor::new(archive).map_err(Error::io("read a layer's archive"))?;
    let algorithm = expected.map_or(Algorithm::Sha256, Digest::algorithm);
    let mut hasher = Hasher::new(algorithm);
    let mut encoder =
        Encoder::new(blobs.writer()?, format, None).map_err(Error::io("compress a layer"))?;
    let mut buffer = vec![0; BUFFER];
    loop {
        match archive.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&buffer[..count]);
                encoder.write_all(&buffer[..count]).map_err(sink_error)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read a layer's archive")(error)),
        }
    }
    let writer: BlobWriter = encoder.finish().map_err(sink_error)?;
    let diff_id = hasher.finish();
    if let Some(expected) = expected {
        expected.is("a layer's archive", diff_id.clone())?;
    }
    let size = writer.len();
    let digest = writer.commit_any()?;
    Ok(LayerBlob {
        digest,
        size,
        media_type: format.media_type().to_owned(),
        diff_id,
    })
}

/// Whether a blob holds the archive that it is said to hold: what is extracted already says nothing of it.
pub(crate) fn check_pair(
    blobs: &BlobStore,
    digest: &Digest,
    diff_id: &Digest,
) -> Result<(), Error> {
    let failed = |error| Error::io(format!("read blob {digest}"))(error);
    let mut archive = Decompressor::new(blobs.reader(digest)?).map_err(failed)?;
    let mut hasher = Hasher::new(diff_id.algorithm());
    let mut buffer = vec![0; BUFFER];
    loop {
        match archive.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    diff_id.is(&format!("the content of layer {digest}"), hasher.finish())
}

/// The error of a [`BlobWriter`], which passes its own through as an `io::Error`.
pub(crate) fn sink_error(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::io("write a blob")(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::build::Archive;

    #[test]
    fn an_archive_becomes_a_blob_that_decompresses_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(directory.path()).unwrap();
        let archive = Archive::new().file("a", b"hello").end();
        let layer = store_layer(&blobs, &archive[..], None).unwrap();
        assert_eq!(layer.diff_id, Digest::of(&archive));
        assert_eq!(blobs.size(&layer.digest).unwrap(), Some(layer.size));
        let mut out = Vec::new();
        Decompressor::new(blobs.reader(&layer.digest).unwrap())
            .unwrap()
            .read_to_end(&mut out)
            .unwrap();
        assert_eq!(out, archive);
        // The same again, and compressed, is the same blob.
        let compressed = zstd::encode_all(&archive[..], 19).unwrap();
        assert_eq!(store_layer(&blobs, &compressed[..], None).unwrap(), layer);
        assert_eq!(blobs.list().unwrap().len(), 1);
    }

    #[test]
    fn an_archive_of_another_digest_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(directory.path()).unwrap();
        let expected = Digest::of(b"other");
        let error = store_layer(&blobs, &b"archive"[..], Some(&expected)).unwrap_err();
        assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
        assert_eq!(blobs.list().unwrap(), []);
        let left = std::fs::read_dir(directory.path().join("tmp")).unwrap();
        assert_eq!(left.count(), 0);
    }
}
