//! What a pull tells whoever waits for it, and how a terminal or a pipe shows it.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::digest::Digest;
use crate::reference::Reference;
use crate::space::amount;

/// A step of a pull.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A short name stands for another one, as a file says.
    Resolved {
        /// The short name.
        name: &'a str,
        /// The file with the alias.
        file: &'a Path,
    },
    /// A registry is asked for an image.
    Trying(&'a Reference),
    /// Something went wrong that does not end the pull.
    Warning(&'a str),
    /// The manifest is here and the layers are known.
    Found,
    /// A layer's download starts or goes on at `from`.
    BlobStarted {
        /// The blob.
        digest: &'a Digest,
        /// Its size in bytes.
        size: u64,
        /// How many bytes are here from an earlier attempt.
        from: u64,
    },
    /// Some of a layer is here already, in other layers.
    BlobShared {
        /// The blob.
        digest: &'a Digest,
        /// Its size in bytes.
        size: u64,
        /// How many of them need not be fetched.
        here: u64,
    },
    /// More of a layer is here.
    BlobAdvanced {
        /// The blob.
        digest: &'a Digest,
        /// How many bytes are here now.
        position: u64,
    },
    /// More of a layer has gone to where it is extracted.
    BlobFed {
        /// The blob.
        digest: &'a Digest,
        /// How many of its bytes.
        position: u64,
    },
    /// A layer's blob is verified and extracted.
    BlobDone {
        /// The blob.
        digest: &'a Digest,
    },
    /// A layer was here before.
    BlobSkipped {
        /// The blob.
        digest: &'a Digest,
    },
    /// The config is fetched.
    Config {
        /// The image's id.
        digest: &'a Digest,
    },
    /// The image is recorded.
    Writing,
}

/// Receives the steps; from several threads.
pub trait Progress: Sync {
    /// One step.
    fn event(&self, event: Event<'_>);
}

/// Shows nothing, for `--quiet`.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _event: Event<'_>) {}
}

/// podman's lines on standard error, with bars where that is a terminal.
pub struct Terminal {
    bars: Option<MultiProgress>,
    /// In the order in which they started.
    blobs: Mutex<Vec<(Digest, ProgressBar)>>,
}

impl Default for Terminal {
    fn default() -> Self {
        let bars = io::stderr()
            .is_terminal()
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)));
        Self {
            bars,
            blobs: Mutex::default(),
        }
    }
}

impl Terminal {
    fn line(&self, text: &str) {
        match &self.bars {
            // Above the bars, which are drawn again.
            Some(bars) => drop(bars.println(text)),
            None => drop(writeln!(io::stderr(), "{text}")),
        }
    }

    fn with_bar(&self, digest: &Digest, change: impl FnOnce(&ProgressBar)) {
        let blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bar)) = blobs.iter().find(|(other, _)| other == digest) {
            change(bar);
        }
    }

    fn start(&self, bars: &MultiProgress, digest: &Digest, size: u64, from: u64) {
        let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        // A second attempt goes on with the bar of the first.
        if let Some((_, bar)) = blobs.iter().find(|(other, _)| other == digest) {
            bar.set_position(from);
            return;
        }
        let bar = bars.add(ProgressBar::new(size));
        bar.set_style(style(
            "Copying blob {prefix} [{bar:38}] {bytes:>10} / {total_bytes:10} {bytes_per_sec}",
        ));
        bar.set_prefix(digest.short().to_owned());
        bar.set_position(from);
        bar.enable_steady_tick(Duration::from_millis(500));
        blobs.push((digest.clone(), bar));
    }

    /// Turns the bars into lines, so that what follows stands below them.
    fn settle(&self) {
        let Some(bars) = &self.bars else {
            return;
        };
        let finished =
            std::mem::take(&mut *self.blobs.lock().unwrap_or_else(PoisonError::into_inner));
        drop(bars.clear());
        for (digest, bar) in finished {
            bar.finish_and_clear();
            self.line(&format!("Copying blob {} done", digest.short()));
        }
    }

    fn finish(&self, digest: &Digest, how: &'static str) {
        self.with_bar(digest, |bar| {
            bar.set_style(style("Copying blob {prefix} {msg}"));
            bar.finish_with_message(how);
        });
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

impl Progress for Terminal {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Resolved { name, file } => {
                self.line(&format!(
                    "Resolved \"{name}\" as an alias ({})",
                    file.display()
                ));
            }
            Event::Trying(reference) => self.line(&format!("Trying to pull {reference}...")),
            Event::Warning(text) => self.line(&format!("Warning: {text}")),
            Event::Found => self.line("Getting image source signatures"),
            Event::BlobStarted { digest, size, from } => match &self.bars {
                Some(bars) => self.start(bars, digest, size, from),
                None => self.line(&format!("Copying blob {digest}")),
            },
            Event::BlobShared { digest, size, here } => self.line(&format!(
                "Copying blob {digest}: {} of {} are here, in other layers",
                amount(here),
                amount(size)
            )),
            Event::BlobAdvanced { digest, position } => {
                self.with_bar(digest, |bar| bar.set_position(position));
            }
            // The bar is the download's.
            Event::BlobFed { .. } => {}
            Event::BlobDone { digest } => self.finish(digest, "done"),
            Event::BlobSkipped { digest } => {
                self.line(&format!("Copying blob {digest} skipped: already exists"));
            }
            Event::Config { digest } => {
                self.settle();
                self.line(&format!("Copying config {digest}"));
            }
            Event::Writing => self.line("Writing manifest to image destination"),
        }
    }
}
