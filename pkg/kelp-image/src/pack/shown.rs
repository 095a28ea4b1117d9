//! What layers show together, as an archive: an export, or an image of one layer.

use std::io::{self, Write};

use kelp_copy::is_directory;
use rustix::fs::fstat;

use super::changes::check_name;
use super::entries::{Entries, Style};
use super::{below, check_depth, gone_is_nothing};
use crate::merged::Merged;
use crate::tar::write::TarWriter;

/// Writes a tree, the root's own entry as well where the archive is to be a layer; in a layer no name may
/// be that of a whiteout.
pub fn pack_shown<W: Write>(
    tree: &Merged,
    is_layer: bool,
    writer: &mut TarWriter<W>,
    style: Style,
) -> io::Result<()> {
    let mut keep = |_: &mut _| {};
    let mut shown = Shown {
        entries: Entries::new(writer, style, &mut keep),
        is_layer,
        devices: tree.devices()?,
    };
    if is_layer {
        let root = tree.top();
        shown.entries.directory(root, &fstat(root)?, b".")?;
    }
    shown.content(tree, b"", 0)
}

struct Shown<'a, W> {
    entries: Entries<'a, W>,
    is_layer: bool,
    /// The file systems of the tree: what is mounted in it is no part of it.
    devices: Vec<u64>,
}

impl<W: Write> Shown<'_, W> {
    fn content(&mut self, directory: &Merged, path: &[u8], depth: usize) -> io::Result<()> {
        check_depth(depth)?;
        for (name, shown) in directory.entries()? {
            let path = below(path, name.to_bytes());
            if self.is_layer {
                check_name(name.to_bytes(), &path)?;
            }
            let packed = if is_directory(&shown.stat) {
                directory.directory(&name, &shown).and_then(|inner| {
                    let stat = fstat(inner.top())?;
                    self.entries.directory(inner.top(), &stat, &path)?;
                    if !self.devices.contains(&stat.st_dev) {
                        return Ok(());
                    }
                    self.content(&inner, &path, depth + 1)
                })
            } else {
                self.entries
                    .item(directory.of(&shown), &name, &shown.stat, &path)
            };
            gone_is_nothing(packed)?;
        }
        Ok(())
    }
}
