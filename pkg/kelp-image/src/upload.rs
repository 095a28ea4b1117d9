//! One blob: from the store to a registry (OCI distribution specification, "Pushing blobs").
//!
//! ```text
//! HEAD blobs/D                 it is there: nothing to do
//! POST blobs/uploads/?mount=D  it is in another repository of the registry: nothing to send
//! PATCH, PUT ?digest=D         sent as a stream, and named
//! ```
//!
//! A stream that breaks goes on where the registry says that it has got to. A registry that takes no
//! large request, or a proxy before it, gets the blob in pieces.

use std::fs::File;
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
use crate::digest::Digest;
use crate::http::{Content, Request, SILENCE_TIMEOUT};
use crate::registry::Repository;

/// How many bytes of a file are sent at a time.
const FRAME: u64 = 256 << 10;

/// The size of a piece for a registry that does not take a blob whole, unless it asks for larger ones.
const PIECE: u64 = 16 << 20;

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
    pub(crate) repository: &'a Repository,
    pub(crate) digest: &'a Digest,
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

impl Upload<'_> {
    /// Makes sure that the registry has the blob. `sources` are repositories of the same registry that
    /// may have it.
    pub(crate) async fn run(&self, sources: &[String]) -> Result<Sent, Error> {
        if self.exists().await? {
            return Ok(Sent::Had);
        }
        let mut begun = None;
        for source in sources {
            // A source that is refused is as good as none.
            match self.begin(Some(source)).await {
                Ok(response) if response.status() == StatusCode::CREATED => return Ok(Sent::Had),
                // An upload has begun instead.
                Ok(response) => begun = Some(response),
                Err(_) => {}
            }
        }
        let mut attempt = 0;
        let mut whole = true;
        loop {
            let error = match self.send(whole, begun.take()).await {
                Ok(()) => return Ok(Sent::Uploaded),
                Err(error) => error,
            };
            // The answer may have been lost, and not the blob.
            if matches!(error, Error::Registry(_) | Error::NotInRegistry(_))
                && self.exists().await.unwrap_or(false)
            {
                return Ok(Sent::Uploaded);
            }
            if matches!(error, Error::TooLarge(_)) && whole {
                whole = false;
                continue;
            }
            let Some(pause) = self
                .repository
                .retry_pause(attempt)
                .filter(|_| matches!(error, Error::Registry(_)))
            else {
                return Err(error);
            };
            attempt += 1;
            tokio::time::sleep(pause).await;
        }
    }

    async fn exists(&self) -> Result<bool, Error> {
        let path = format!("{}/blobs/{}", self.repository.path(), self.digest);
        let what = self.what();
        let request = Request {
            method: Method::HEAD,
            ..Request::get(self.repository.url(&path, &what).await?)
        };
        let known = |status| status == StatusCode::OK || status == StatusCode::NOT_FOUND;
        let response = self.repository.call(request, &what, true, &known).await?;
        Ok(response.status() == StatusCode::OK)
    }

    /// Begins an upload, or has the blob mounted from another repository.
    async fn begin(&self, source: Option<&str>) -> Result<Response, Error> {
        let what = self.what();
        let path = format!("{}/blobs/uploads/", self.repository.path());
        let mut url = self.repository.url(&path, &what).await?;
        if let Some(source) = source {
            url.query_pairs_mut()
                .append_pair("mount", &self.digest.to_string())
                .append_pair("from", source);
        }
        let request = Request {
            method: Method::POST,
            ..Request::get(url)
        };
        let begun = |status| status == StatusCode::ACCEPTED || status == StatusCode::CREATED;
        self.repository.call(request, &what, true, &begun).await
    }

    /// Sends the blob, whole or in pieces, and names it.
    async fn send(&self, whole: bool, begun: Option<Response>) -> Result<(), Error> {
        let response = match begun {
            Some(begun) => begun,
            None => self.begin(None).await?,
        };
        let piece = if whole {
            u64::MAX
        } else {
            piece(response.headers())
        };
        let mut place = self.location(&response).await?;
        let mut position = 0;
        let mut attempt = 0;
        while position < self.size {
            let end = position.saturating_add(piece).min(self.size);
            match self.patch(&place, position, end).await {
                Ok(response) => {
                    place = self.location(&response).await?;
                    position = end;
                    attempt = 0;
                }
                Err(Error::Registry(broken)) => {
                    let pause = self.repository.retry_pause(attempt);
                    let pause = pause.ok_or(Error::Registry(broken))?;
                    attempt += 1;
                    tokio::time::sleep(pause).await;
                    let before = position;
                    (place, position) = self.progress(&place).await?;
                    if position > before {
                        attempt = 0;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        self.finish(place).await
    }

    async fn patch(&self, place: &Url, from: u64, end: u64) -> Result<Response, Error> {
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
        let taken =
            |status: StatusCode| status == StatusCode::PAYLOAD_TOO_LARGE || status.is_success();
        let what = self.what();
        let call = self.repository.call(request, &what, false, &taken);
        let response = match select(pin!(call), pin!(self.stalled(end))).await {
            Either::Left((response, _)) => response?,
            Either::Right((reason, _)) => return Err(Error::Registry(format!("{what}: {reason}"))),
        };
        if response.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return Err(Error::TooLarge(format!(
                "{what}: the registry, or a proxy before it, takes no request of {} bytes: its limit has \
                 to be raised there",
                end - from
            )));
        }
        Ok(response)
    }

    /// How far an upload has got that broke off, and where it goes on.
    async fn progress(&self, place: &Url) -> Result<(Url, u64), Error> {
        let what = self.what();
        let request = Request::get(place.clone());
        let known = |status: StatusCode| status.is_success();
        let response = self.repository.call(request, &what, true, &known).await?;
        let place = if response.headers().contains_key(LOCATION) {
            self.location(&response).await?
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

    async fn finish(&self, mut place: Url) -> Result<(), Error> {
        place
            .query_pairs_mut()
            .append_pair("digest", &self.digest.to_string());
        let request = Request {
            method: Method::PUT,
            ..Request::get(place)
        };
        let done = |status| status == StatusCode::CREATED || status == StatusCode::NO_CONTENT;
        let what = self.what();
        let call = self.repository.call(request, &what, true, &done);
        match tokio::time::timeout(ANSWER_TIMEOUT, call).await {
            Ok(answer) => answer.map(drop),
            Err(_) => Err(Error::Registry(format!("{what}: no answer for 15 minutes"))),
        }
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

    /// Where an upload goes on.
    async fn location(&self, response: &Response) -> Result<Url, Error> {
        let location = response.headers().get(LOCATION);
        let url = location
            .and_then(|location| location.to_str().ok())
            .and_then(|location| response.url().join(location).ok())
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or_else(|| {
                Error::Registry(format!(
                    "{}: the registry does not say where to send it",
                    self.what()
                ))
            })?;
        self.repository.place(url, &self.what()).await
    }

    fn what(&self) -> String {
        format!("pushing blob {} to {}", self.digest, self.repository.name())
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

fn piece(headers: &HeaderMap) -> u64 {
    headers
        .get(CHUNK_MIN_LENGTH)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map_or(PIECE, |least: u64| least.clamp(PIECE, PIECE_LIMIT))
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
    fn a_registry_may_ask_for_larger_pieces() {
        let mut headers = HeaderMap::new();
        assert_eq!(piece(&headers), PIECE);
        for (value, expected) in [("33554432", 32 << 20), ("5", PIECE), ("x", PIECE)] {
            headers.insert(CHUNK_MIN_LENGTH, value.parse().unwrap());
            assert_eq!(piece(&headers), expected);
        }
    }
}
