//! One layer: from the registry to the blob store and into the unpacker at the same time.
//!
//! ```text
//! socket ─► channel ─► writer thread: hash, append to blobs/partial
//!                            │ how far it is
//!                            ▼
//!                      feeder thread: splice the same file into the unpacker's pipe
//! ```
//!
//! Of a zstd:chunked blob, what other blobs have ([`crate::chunked`]) comes from them, in its turn.
//!
//! The unpacker reads the file behind the writer, out of the page cache: a slow extraction does not
//! hold up the download, a download that is resumed needs no other path, and no byte is copied on
//! its way to the pipe. The layer is published when the blob's digest and the diff id are right.
//!
//! A feeder whose unpacker has ended gets EPIPE; that needs SIGPIPE to be ignored, as Rust's
//! start-up code leaves it.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::thread::Scope;

use bytes::{Bytes, BytesMut};
use futures_util::future;
use tokio::sync::{mpsc, oneshot};

use crate::Error;
use crate::blob::BlobWriter;
use crate::chunked::{LEAST_STRETCH, Part, Plan, TablePosition};
use crate::digest::Digest;
use crate::feed::{Level, feed, pipe};
use crate::fetch::Here;
use crate::ingest::check_pair;
use crate::progress::{Event, Progress};
use crate::registry::{BlobStream, Repository};
use crate::space;
use crate::transport::files::Region;
use crate::unpacker::UnpackJob;

/// How many pieces of a download wait for the disk; a piece is at most some 400 KiB.
const CHANNEL_LENGTH: usize = 16;

/// How much of another blob is copied at a time, in bytes.
const COPY_BUFFER: usize = 256 << 10;

/// How many of the places that a manifest names for a layer are tried.
const URLS_LIMIT: usize = 8;

/// A layer of an image.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    /// Of the blob.
    pub(crate) digest: Digest,
    /// Of the blob, in bytes, as the manifest says.
    pub(crate) size: u64,
    /// Of the uncompressed archive; the blob's own where it is no layer.
    pub(crate) diff_id: Digest,
    /// Where it is if the registry does not have it: others' servers, which get no credentials.
    pub(crate) urls: Vec<String>,
    /// Where its table is, if it is zstd:chunked.
    pub(crate) table: Option<TablePosition>,
}

/// What all layers of a pull share.
#[derive(Clone, Copy)]
pub(crate) struct LayerPull<'scope, 'env> {
    pub(crate) scope: &'scope Scope<'scope, 'env>,
    pub(crate) repository: &'env Repository,
    pub(crate) here: &'env Here<'env>,
    pub(crate) progress: &'env dyn Progress,
}

/// What the writer thread is told.
enum Order {
    Append(Bytes),
    /// A part of another blob.
    Copy(Region),
    /// Everything has been sent: verify and publish.
    Commit,
}

/// How one attempt ended that did not bring the layer.
enum Setback {
    Final(Error),
    /// Something that was here was not what it should have been: what an earlier download had left, or
    /// what was copied from other blobs. It is removed now, or gone on with in the plain way where it
    /// only could not be read.
    StalePart,
}

impl<E: Into<Error>> From<E> for Setback {
    fn from(error: E) -> Self {
        Self::Final(error.into())
    }
}

impl<'scope, 'env: 'scope> LayerPull<'scope, 'env> {
    /// Brings one layer here: its blob verified, and extracted.
    pub(crate) async fn bring(self, layer: &Layer) -> Result<(), Error> {
        let mut may_copy = true;
        loop {
            match self.attempt(layer, may_copy).await {
                Ok(()) => return Ok(()),
                Err(Setback::Final(error)) => return Err(error),
                // Not for ever, since an attempt that starts from nothing has no such part.
                Err(Setback::StalePart) => may_copy = false,
            }
        }
    }

    async fn attempt(self, layer: &Layer, may_copy: bool) -> Result<(), Setback> {
        let digest = &layer.digest;
        let extracted = match self.here.unpacker {
            Some(unpacker) => unpacker.has_layer(&layer.diff_id)?,
            // There is nothing to extract.
            None => true,
        };
        let writer = if self.here.blobs.contains(digest)? {
            None
        } else {
            // Waits here while another process downloads the same blob.
            let (blobs, wanted) = (self.here.blobs, digest.clone());
            self.in_thread(move || blobs.resume(&wanted)).await?
        };
        let Some(mut writer) = writer else {
            self.progress.event(Event::BlobSkipped { digest });
            if self.here.blobs.size(digest)? != Some(layer.size) {
                return Err(Setback::Final(Error::Invalid(format!(
                    "blob {digest} does not have the {} bytes that the manifest says",
                    layer.size
                ))));
            }
            if extracted {
                self.check_pair(layer).await?;
            } else {
                self.unpack_present(layer).await?;
            }
            return Ok(());
        };
        if writer.len() > layer.size {
            writer.restart()?;
        }
        let from = writer.len();
        self.progress.event(Event::BlobStarted {
            digest,
            size: layer.size,
            from,
        });
        let plan = if may_copy {
            self.plan(layer, from).await?
        } else {
            None
        };
        let level = Arc::new(Level::new(from));
        let file = writer.reader()?;
        let unpack = async {
            if extracted {
                return Ok(None);
            }
            let job = self.unpack(layer, file, Arc::clone(&level)).await?;
            Ok(Some(job))
        };
        let is_copied = plan.is_some();
        let download = self.download(layer, writer, plan, &level);
        let job = if from > 0 || is_copied {
            // The unpacker may stumble first; the digest tells.
            match future::join(download, unpack).await {
                (Err(error), _) if is_stale(&error, is_copied) => return Err(Setback::StalePart),
                (Err(error), _) | (_, Err(error)) => return Err(error.into()),
                (Ok(()), Ok(job)) => job,
            }
        } else {
            future::try_join(download, unpack).await?.1
        };
        match job {
            Some(job) => self.in_thread(move || job.publish()).await?,
            None => self.check_pair(layer).await?,
        }
        self.progress.event(Event::BlobDone { digest });
        Ok(())
    }

    /// Whether the blob holds the layer that is extracted already, unless an image here says so.
    async fn check_pair(self, layer: &Layer) -> Result<(), Error> {
        if self.here.unpacker.is_none() || self.here.knows_layer(&layer.digest, &layer.diff_id)? {
            return Ok(());
        }
        let (blobs, layer) = (self.here.blobs, layer.clone());
        self.in_thread(move || check_pair(blobs, &layer.digest, &layer.diff_id))
            .await
    }

    /// Finds out what of a zstd:chunked blob is here in others. The registry is asked for the blob's end
    /// if there are such; one that does not know ranges, or fails, leaves it at the whole.
    async fn plan(self, layer: &Layer, from: u64) -> Result<Option<Plan>, Error> {
        let here = self.here;
        let least = from.saturating_add(LEAST_STRETCH);
        let Some(table) = layer.table.filter(|table| table.tail() >= least) else {
            return Ok(None);
        };
        if self
            .in_thread(move || Ok(here.sources().is_empty()))
            .await?
        {
            return Ok(None);
        }
        let Some(tail) = self.tail(layer, table.tail()).await else {
            return Ok(None);
        };
        let plan = self
            .in_thread(move || Ok(Plan::new(table, tail, here.sources(), from)))
            .await?;
        if let Some(plan) = &plan {
            self.progress.event(Event::BlobShared {
                digest: &layer.digest,
                size: layer.size,
                here: plan.copied(),
            });
        }
        Ok(plan)
    }

    /// A blob from a position to its end, unverified.
    async fn tail(self, layer: &Layer, start: u64) -> Option<Bytes> {
        let mut stream = self.open(layer, start, None).await.ok()?;
        let length = (layer.size - start) as usize;
        let mut tail = BytesMut::new();
        while stream.start == start && tail.len() < length {
            tail.extend_from_slice(&stream.chunk().await.ok()??);
        }
        (tail.len() == length).then(|| tail.freeze())
    }

    /// Downloads what is missing, and commits the blob.
    async fn download(
        self,
        layer: &Layer,
        writer: BlobWriter,
        plan: Option<Plan>,
        level: &Arc<Level>,
    ) -> Result<(), Error> {
        // Whatever ends this future early ends the feeder too.
        let _abort = AbortOnDrop(level);
        let from = writer.len();
        let (orders, receiver) = mpsc::channel(CHANNEL_LENGTH);
        let (expected, written) = (layer.digest.clone(), Arc::clone(level));
        let committed = self.start_thread(move || write(writer, receiver, &expected, &written));
        let streamed = self.stream(layer, from, plan, &orders).await;
        drop(orders);
        match streamed {
            // The writer's own error says why it stopped taking orders.
            Ok(()) | Err(None) => committed.await.unwrap_or_else(|_| Err(thread_ended())),
            Err(Some(error)) => Err(error),
        }
    }

    /// Sends the blob's bytes from `from` on to the writer, and goes on where the connection breaks.
    /// `Err(None)` means that the writer has stopped.
    async fn stream(
        self,
        layer: &Layer,
        from: u64,
        mut plan: Option<Plan>,
        orders: &mpsc::Sender<Order>,
    ) -> Result<(), Option<Error>> {
        let digest = &layer.digest;
        let mut position = from;
        let mut attempt = 0;
        while position < layer.size {
            if let Some(part) = plan.as_ref().and_then(|plan| plan.here(position)) {
                position += self.pass_on(part, orders).await?;
                self.progress
                    .event(Event::BlobAdvanced { digest, position });
                continue;
            }
            let until = plan.as_ref().map(|plan| plan.missing_until(position));
            let mut stream = match self.open(layer, position, until).await {
                // One that refuses a part may give the rest.
                Err(_) if until.is_some() => {
                    plan = None;
                    continue;
                }
                opened => opened.map_err(Some)?,
            };
            // One that sends everything is read to the end.
            let until = until.filter(|_| stream.start == position);
            let end = until.unwrap_or(layer.size);
            // A server without ranges sends everything again; what is here is skipped, and the
            // digest tells in the end whether it was the same.
            let mut skip = position.checked_sub(stream.start).ok_or_else(|| {
                Error::Registry(format!(
                    "blob {digest}: the registry sends from byte {} instead of {position}",
                    stream.start
                ))
            })?;
            let broken = loop {
                let mut chunk = match stream.chunk().await {
                    Ok(Some(chunk)) => chunk,
                    Ok(None) => break "the registry ended it early".to_owned(),
                    Err(failure) => break failure.message,
                };
                let skipped = skip.min(chunk.len() as u64);
                skip -= skipped;
                let _ = chunk.split_to(skipped as usize);
                if until.is_some() {
                    chunk.truncate((end - position) as usize);
                }
                if chunk.is_empty() {
                    continue;
                }
                position += chunk.len() as u64;
                if position > layer.size {
                    return Err(Some(Error::Invalid(format!(
                        "blob {digest} is larger than the {} bytes of the manifest",
                        layer.size
                    ))));
                }
                attempt = 0;
                let sent = orders.send(Order::Append(chunk)).await;
                sent.map_err(|_| None)?;
                self.progress
                    .event(Event::BlobAdvanced { digest, position });
                if position == end {
                    break String::new();
                }
            };
            if position < end {
                let pause = self.repository.retry_pause(attempt).ok_or_else(|| {
                    Error::Registry(format!(
                        "blob {digest}: {broken} (at byte {position} of {}; another pull goes on \
                         from there)",
                        layer.size
                    ))
                })?;
                attempt += 1;
                tokio::time::sleep(pause).await;
            }
        }
        orders.send(Order::Commit).await.map_err(|_| None)
    }

    /// Sends on what is here; how much that is.
    async fn pass_on(self, part: Part, orders: &mpsc::Sender<Order>) -> Result<u64, Option<Error>> {
        let (length, order) = match part {
            Part::Region(region) => (region.length, Order::Copy(region)),
            Part::Bytes(bytes) => (bytes.len() as u64, Order::Append(bytes)),
        };
        orders.send(order).await.map_err(|_| None)?;
        Ok(length)
    }

    /// Asks the registry for a blob, and then those whom the manifest names for what it does not have.
    async fn open(
        self,
        layer: &Layer,
        position: u64,
        until: Option<u64>,
    ) -> Result<BlobStream, Error> {
        let missing = match self.repository.blob(&layer.digest, position, until).await {
            Err(error @ (Error::NotInRegistry(_) | Error::Denied(_))) => error,
            other => return other,
        };
        let mut last = missing;
        for url in layer.urls.iter().take(URLS_LIMIT) {
            match self.repository.blob_elsewhere(url, position, until).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Extracts while the file grows; the job that is returned is ready to be published.
    async fn unpack(
        self,
        layer: &Layer,
        file: File,
        level: Arc<Level>,
    ) -> Result<Box<dyn UnpackJob>, Error> {
        let unpacker = self.here.unpacker.ok_or_else(thread_ended)?;
        let (progress, layer) = (self.progress, layer.clone());
        self.in_thread(move || {
            let (reader, writer) = pipe()?;
            let job = unpacker.start(&layer.diff_id, reader)?;
            let digest = &layer.digest;
            let fed = feed(&file, &level, &writer, &mut |position| {
                progress.event(Event::BlobFed { digest, position });
            });
            // The unpacker sees the end before its job goes, which waits for it.
            drop(writer);
            if !fed? {
                return Err(thread_ended());
            }
            finish(job, &layer)
        })
        .await
    }

    /// Extracts a blob that is here already.
    async fn unpack_present(self, layer: &Layer) -> Result<(), Error> {
        let level = Level::new(layer.size);
        level.complete();
        let file = self.here.blobs.reader(&layer.digest)?;
        let job = self.unpack(layer, file, Arc::new(level)).await?;
        self.in_thread(move || job.publish()).await
    }

    async fn in_thread<T: Send + 'scope>(
        self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'scope,
    ) -> Result<T, Error> {
        let result = self.start_thread(work).await;
        result.unwrap_or_else(|_| Err(thread_ended()))
    }

    fn start_thread<T: Send + 'scope>(
        self,
        work: impl FnOnce() -> T + Send + 'scope,
    ) -> oneshot::Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        self.scope.spawn(move || {
            // Nobody waits any more once the pull has failed elsewhere.
            let _ = sender.send(work());
        });
        receiver
    }
}

struct AbortOnDrop<'a>(&'a Level);

impl Drop for AbortOnDrop<'_> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The writer thread. Without an order to commit, the partial file stays for the next pull.
fn write(
    mut writer: BlobWriter,
    mut orders: mpsc::Receiver<Order>,
    expected: &Digest,
    level: &Level,
) -> Result<(), Error> {
    while let Some(order) = orders.blocking_recv() {
        match order {
            Order::Append(bytes) => {
                writer.write(&bytes)?;
                level.raise(writer.len());
            }
            Order::Copy(region) => copy(&mut writer, &region, level)?,
            Order::Commit => {
                // The unpacker need not wait for the disk.
                level.complete();
                return writer.commit(expected);
            }
        }
    }
    Err(thread_ended())
}

/// Adds what another blob has in a place.
fn copy(writer: &mut BlobWriter, region: &Region, level: &Level) -> Result<(), Error> {
    let mut reader = region.reader();
    let mut buffer = vec![0; COPY_BUFFER];
    loop {
        let count = reader
            .read(&mut buffer)
            .map_err(Error::io("read another blob"))?;
        if count == 0 {
            return Ok(());
        }
        writer.write(&buffer[..count])?;
        level.raise(writer.len());
    }
}

/// Whether a download has failed by what was here: by its content, or because another blob can't be read.
fn is_stale(error: &Error, is_copied: bool) -> bool {
    match error {
        Error::DigestMismatch { .. } => true,
        Error::Io { .. } => is_copied && !space::is_full(error),
        _ => false,
    }
}

/// Waits for an extraction and checks what came out.
fn finish(mut job: Box<dyn UnpackJob>, layer: &Layer) -> Result<Box<dyn UnpackJob>, Error> {
    let summary = job.finish()?;
    let what = format!("the content of layer {}", layer.digest);
    layer.diff_id.is(&what, summary.diff_id)?;
    Ok(job)
}

/// Never shown: the error that made the other side give up comes first.
fn thread_ended() -> Error {
    Error::Registry("the pull was given up".to_owned())
}
