//! Writing to the disk while files are still being made.
//!
//! A layer is synced before it is published. The kernel would let its pages wait for seconds, and the
//! sync would then find all of them: disk and processors would work one after another. So whenever
//! enough has been written, a thread that does nothing else syncs what there is.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{SyncSender, sync_channel};

/// After how many bytes a sync pays: half a second of a slow disk.
const STEP: u64 = 48 << 20;

/// Starts syncs of a file system.
#[derive(Debug)]
pub(super) struct Flusher {
    wake: SyncSender<()>,
    next: u64,
}

impl Flusher {
    /// For the file system of `directory`; `None` if there can be no thread.
    pub(super) fn start(directory: OwnedFd) -> Option<Self> {
        let (wake, woken) = sync_channel(1);
        std::thread::Builder::new()
            .name("flush".to_owned())
            .spawn(move || {
                while let Ok(()) = woken.recv() {
                    // The sync that counts is the one before publication, and reports errors.
                    let _ = rustix::fs::syncfs(&directory);
                }
            })
            .ok()?;
        Some(Self { wake, next: STEP })
    }

    /// Tells how many bytes have been written so far.
    pub(super) fn written(&mut self, bytes: u64) {
        if bytes >= self.next {
            self.next = bytes + STEP;
            // A sync that is under way takes these bytes along, or the next one does.
            let _ = self.wake.try_send(());
        }
    }
}
