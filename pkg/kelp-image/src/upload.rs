//! One blob: from the store to a registry (OCI distribution specification, "Pushing blobs").
//!
//! ```text
//! HEAD blobs/D                 it is there: nothing to do
//! POST blobs/uploads/?mount=D  it is in another repository of the registry: nothing to send
//! PATCH, PUT ?digest=D         sent as a stream, and named
//! ```
//!
//! A stream that breaks goes on where the registry says that it has got to. A registry that takes no
//! large request, or a proxy before it, gets the blob in pieces, smaller and smaller ones.

use std::fs::File;
use std::io::Seek;
use std::os::unix::fs::FileExt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{Either, select};
use http_body::{Body, Frame, SizeHint};
use reqwest::header::{HeaderMap, LOCATION, RANGE};
use reqwest::{Method, Response, StatusCode, Url};

use crate::Error;
use crate::blob::is_rest;
use crate::blob_place::{BlobPlace, Mount};
use crate::digest::Digest;
use crate::http::{Content, Request, SILENCE_TIMEOUT};
use crate::registry::{digest_of, is_busy, retry_after};

/// How many bytes of a file are sent at a time.
const FRAME: u64 = 256 << 10;

/// The size of a piece for a registry that does not take a blob whole, unless it asks for larger ones.
const PIECE: u64 = 16 << 20;

/// The size of a piece that every registry takes, and proxies before them.
const PIECE_LEAST: u64 = 256 << 10;

/// The largest piece that a registry may ask for.
const PIECE_LIMIT: u64 = 1 << 30;

/// How long a registry may take to answer once it has everything: it may put a large blob together.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_mins(15);

/// How often it is looked at whether a registry takes what is sent.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A registry's way of asking for larger pieces.
const CHUNK_MIN_LENGTH: &str = "oci-chunk-min-length";

/// A part of a file as the body of a request. It can be sent again from its beginning.
#[derive(Clone, Debug)]
pub(crate) struct FileBody {
    file: Arc<File>,
    position: u64,
    end: u64,
    /// How far it has been sent, for whoever shows it.
    sent: Arc<AtomicU64>,
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let left = self.end - self.position;
        if left == 0 {
            return Poll::Ready(None);
        }
        // The file is in the page cache, or will be read ahead: to hand this to a thread costs more.
        let mut buffer = vec![0; left.min(FRAME) as usize];
        Poll::Ready(Some(match self.file.read_at(&mut buffer, self.position) {
            Ok(0) => Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                buffer.truncate(count);
                self.position += count as u64;
                self.sent.store(self.position, Ordering::Relaxed);
                Ok(Frame::data(buffer.into()))
            }
            Err(error) => Err(error),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.position == self.end
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end - self.position)
    }
}

/// A blob that is to be pushed.
pub(crate) struct Upload<'a> {
    pub(crate) place: BlobPlace<'a>,
    pub(crate) size: u64,
    /// Its content.
    pub(crate) file: Arc<File>,
    /// How far it has been sent.
    pub(crate) sent: Arc<AtomicU64>,
}

/// How a blob came to be in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The registry had it, in this repository or in another.
    Had,
    /// It was uploaded.
    Uploaded,
}

/// How an upload ended that did not bring the blob.
enum Setback {
    Final(Error),
    /// The registry has lost it, or got something else: it is begun again.
    Again(Error),
    /// The registry takes no request of this size.
    TooLarge(Error),
}

impl From<Error> for Setback {
    fn from(error: Error) -> Self {
        match error {
            Error::NotInRegistry(_) => Self::Again(error),
            other => Self::Final(other),
        }
    }
}

impl Upload<'_> {
    /// Makes sure that the registry has the blob. `sources` are repositories of the same registry that
    /// may have it.
    pub(crate) async fn run(&self, sources: &[String]) -> Result<Sent, Error> {
        if self.place.exists().await? {
            return Ok(Sent::Had);
        }
        let mut begun = match self.place.mount(sources).await? {
            Mount::Done => return Ok(Sent::Had),
            Mount::Begun(response) => Some(*response),
            Mount::Refused => None,
        };
        let mut attempt = 0;
        let mut piece = None;
        loop {
            let response = match begun.take() {
                Some(response) => response,
                None => self.place.begin(None).await?,
            };
            let error = match self.send(&response, piece).await {
                Ok(()) => return Ok(Sent::Uploaded),
                Err(Setback::Final(error)) => return Err(error),
                Err(Setback::TooLarge(error)) => {
                    let headers = response.headers();
                    let mut sizes = std::iter::successors(smaller(piece, headers), |size| {
                        smaller(Some(*size), headers)
                    });
                    piece = Some(sizes.find(|size| *size < self.size).ok_or(error)?);
                    self.place.cancel(&response).await;
                    continue;
                }
                Err(Setback::Again(error)) => error,
            };
            let pause = self.place.repository.retry_pause(attempt).ok_or(error)?;
            attempt += 1;
            tokio::time::sleep(pause).await;
            // It may be there although the answer was lost.
            if self.place.exists().await? {
                return Ok(Sent::Uploaded);
            }
        }
    }

    /// Sends the blob to an upload, whole or in pieces of a size, and names it.
    async fn send(&self, begun: &Response, piece: Option<u64>) -> Result<(), Setback> {
        let mut place = self.place.location(begun).await?;
        let mut position = 0;
        let mut attempt = 0;
        while position < self.size {
            let end = position
                .saturating_add(piece.unwrap_or(u64::MAX))
                .min(self.size);
            match self.patch(&place, position, end).await {
                Ok(response) => {
                    place = self.place.location(&response).await?;
                    position = end;
                    attempt = 0;
                }
                Err(Setback::Final(broken @ Error::Registry(_))) => {
                    let pause = self.place.repository.retry_pause(attempt).ok_or(broken)?;
                    attempt += 1;
                    tokio::time::sleep(pause).await;
                    let before = position;
                    let told = self.progress(&place).await;
                    (place, position) = told.map_err(Setback::Again)?;
                    if position > before {
                        attempt = 0;
                    }
                }
                Err(setback) => return Err(setback),
            }
        }
        self.finish(place).await
    }

    async fn patch(&self, place: &Url, from: u64, end: u64) -> Result<Response, Setback> {
        let body = FileBody {
            file: Arc::clone(&self.file),
            position: from,
            end,
            sent: Arc::clone(&self.sent),
        };
        let is_part = from > 0 || end < self.size;
        let request = Request {
            method: Method::PATCH,
            content: Content::File(body),
            content_range: is_part.then(|| (from, end - 1)),
            ..Request::get(place.clone())
        };
        let answered = |status: StatusCode| {
            status == StatusCode::PAYLOAD_TOO_LARGE || is_busy(status) || status.is_success()
        };
        let what = self.place.what();
        let sent = self.place.repository.call(request, &what, false, &answered);
        let response = match select(pin!(sent), pin!(self.stalled(end))).await {
            Either::Left((Ok(response), _)) => response,
            Either::Left((Err(_), _)) if self.file_length()? != self.size => {
                return Err(rotten(self.place.digest).into());
            }
            Either::Left((Err(error), _)) => return Err(error.into()),
            Either::Right((reason, _)) => {
                return Err(Error::Registry(format!("{what}: {reason}")).into());
            }
        };
        let status = response.status();
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            return Err(Setback::TooLarge(Error::Registry(format!(
                "{what}: the registry, or a proxy before it, takes no request of {} bytes: its limit has \
                 to be raised there",
                end - from
            ))));
        }
        if is_busy(status) {
            // How much of it was taken has to be asked, so it is not repeated blindly.
            if let Some(pause) = retry_after(response.headers()) {
                tokio::time::sleep(pause).await;
            }
            let busy = format!("{what}: the registry answered {status}");
            return Err(Error::Registry(busy).into());
        }
        Ok(response)
    }

    /// How far an upload has got that broke off, and where it goes on.
    async fn progress(&self, place: &Url) -> Result<(Url, u64), Error> {
        let what = self.place.what();
        let request = Request::get(place.clone());
        let known = |status: StatusCode| status.is_success();
        let response = self
            .place
            .repository
            .call(request, &what, true, &known)
            .await?;
        let place = if response.headers().contains_key(LOCATION) {
            self.place.location(&response).await?
        } else {
            place.clone()
        };
        let position = received(response.headers()).filter(|position| *position <= self.size);
        let position = position.ok_or_else(|| {
            Error::Registry(format!(
                "{what}: the registry does not say how far it has got"
            ))
        })?;
        Ok((place, position))
    }

    async fn finish(&self, mut place: Url) -> Result<(), Setback> {
        place
            .query_pairs_mut()
            .append_pair("digest", &self.place.digest.to_string());
        let request = Request {
            method: Method::PUT,
            ..Request::get(place)
        };
        let answered = |status| {
            matches!(
                status,
                StatusCode::CREATED | StatusCode::NO_CONTENT | StatusCode::BAD_REQUEST
            )
        };
        let what = self.place.what();
        let sent = self.place.repository.call_last(request, &what, &answered);
        let response = sent.await?;
        if response.status() == StatusCode::BAD_REQUEST {
            // It has got something else: from here, or on the way.
            if !self.is_whole()? {
                return Err(rotten(self.place.digest).into());
            }
            return Err(Setback::Again(
                self.place.repository.refusal(&what, response, true).await,
            ));
        }
        if let Some(stored) = digest_of(&response)
            // A registry may tell it by another algorithm.
            && stored.algorithm() == self.place.digest.algorithm()
        {
            self.place.digest.is(&what, stored)?;
        }
        Ok(())
    }

    /// Ends when a registry has taken nothing for too long; says so.
    async fn stalled(&self, end: u64) -> &'static str {
        let (mut last, mut since) = (0, Instant::now());
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let sent = self.sent.load(Ordering::Relaxed);
            if sent != last {
                (last, since) = (sent, Instant::now());
            } else if sent < end && since.elapsed() > SILENCE_TIMEOUT {
                return "the registry has taken nothing for 60 seconds";
            } else if since.elapsed() > ANSWER_TIMEOUT {
                return "no answer for 15 minutes";
            }
        }
    }

    fn file_length(&self) -> Result<u64, Error> {
        let metadata = self.file.metadata();
        let metadata =
            metadata.map_err(Error::io(format!("look at blob {}", self.place.digest)))?;
        Ok(metadata.len())
    }

    /// Whether the blob is still what its digest says.
    fn is_whole(&self) -> Result<bool, Error> {
        let mut file = &*self.file;
        file.rewind()
            .and_then(|()| is_rest(&mut file, self.place.digest))
            .map_err(Error::io(format!("read blob {}", self.place.digest)))
    }
}

/// What to do about a blob that is not what its digest says.
pub(crate) fn rotten(digest: &Digest) -> Error {
    Error::Invalid(format!(
        "blob {digest} is damaged or missing on this machine: kelp system check says \
         what can be repaired"
    ))
}

/// The size of pieces after one that was too large, or the whole blob; `None` if it can't be less.
fn smaller(piece: Option<u64>, begun: &HeaderMap) -> Option<u64> {
    let least = least(begun);
    match piece {
        None => Some(least.unwrap_or(PIECE).max(PIECE)),
        Some(piece) => {
            let next = (piece / 4).max(least.unwrap_or(0)).max(PIECE_LEAST);
            (next < piece).then_some(next)
        }
    }
}

/// `Range: 0-99` is 100 bytes; `0-0` is none, as registries that count from nothing have it.
fn received(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(RANGE)?.to_str().ok()?;
    let value = value.trim().strip_prefix("bytes=").unwrap_or(value.trim());
    let (_, last) = value.split_once('-')?;
    match last.trim().parse().ok()? {
        0 => Some(0),
        last => Some(last + 1),
    }
}

/// The smallest piece that a registry takes, the last one aside.
fn least(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(CHUNK_MIN_LENGTH)?.to_str().ok()?;
    let least: u64 = value.trim().parse().ok()?;
    Some(least.min(PIECE_LIMIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_has_got_is_counted_in_bytes() {
        let headers = |value: &str| HeaderMap::from_iter([(RANGE, value.parse().unwrap())]);
        for (value, expected) in [
            ("0-99", Some(100)),
            ("bytes=0-99", Some(100)),
            ("0-0", Some(0)),
            ("x", None),
            ("0-", None),
        ] {
            assert_eq!(received(&headers(value)), expected, "{value}");
        }
    }

    #[test]
    fn pieces_get_smaller_and_not_smaller_than_a_registry_takes() {
        let mut headers = HeaderMap::new();
        let sizes = |headers: &HeaderMap| {
            let sizes = std::iter::successors(smaller(None, headers), |piece| {
                smaller(Some(*piece), headers)
            });
            sizes.collect::<Vec<u64>>()
        };
        assert_eq!(sizes(&headers), [16 << 20, 4 << 20, 1 << 20, 256 << 10]);
        for (value, expected) in [
            ("33554432", vec![32 << 20]),
            ("5242880", vec![16 << 20, 5 << 20]),
            ("x", vec![16 << 20, 4 << 20, 1 << 20, 256 << 10]),
        ] {
            headers.insert(CHUNK_MIN_LENGTH, value.parse().unwrap());
            assert_eq!(sizes(&headers), expected, "{value}");
        }
    }
}
