//! Images: references, registries, blobs, layers and their store.
