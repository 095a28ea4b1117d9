//! A repository in a registry: manifests and blobs over HTTP (OCI distribution specification).

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::sync::OnceCell;

use crate::Error;
use crate::digest::Digest;
use crate::http::{Content, Failure, Request, Transport, explain, same_server};
use crate::manifest::{ACCEPT, MANIFEST_LIMIT};
use crate::reference::{DOCKER_HUB, Reference};
use crate::refusal::refusal;
use crate::token::Authorizer;
use crate::upload::ANSWER_TIMEOUT;

/// Where the docker hub's API is.
const DOCKER_HUB_API: &str = "registry-1.docker.io";

/// The longest that a `Retry-After` is obeyed.
const RETRY_AFTER_LIMIT: Duration = Duration::from_mins(1);

/// How often a request is sent again because others have found a new token for it.
const REFUSAL_LIMIT: u32 = 8;

/// How often and how patiently a request is repeated.
#[derive(Debug, Clone, Copy)]
pub struct Retries {
    /// How many times after the first.
    pub limit: u32,
    /// The pause before the first repetition; each further one is twice as long.
    pub delay: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            limit: 3,
            delay: Duration::from_secs(1),
        }
    }
}

impl Retries {
    fn pause(self, attempt: u32) -> Duration {
        self.delay.saturating_mul(1 << attempt.min(5))
    }
}

/// One repository, by way of one endpoint.
pub(crate) struct Repository {
    transport: Arc<Transport>,
    reference: Reference,
    insecure: bool,
    retries: Retries,
    authorizer: Authorizer,
    base: OnceCell<Url>,
}

/// A document with its digest and the media type that came with it.
pub(crate) struct Fetched {
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: Digest,
    pub(crate) media_type: Option<String>,
}

/// A blob's answer, which may be less or more than was asked for.
pub(crate) struct BlobStream {
    response: Response,
    url: Url,
    /// The position of the first byte in the blob.
    pub(crate) start: u64,
}

impl Repository {
    pub(crate) fn new(
        transport: Arc<Transport>,
        reference: Reference,
        insecure: bool,
        retries: Retries,
        authorizer: Authorizer,
    ) -> Self {
        Self {
            transport,
            reference,
            insecure,
            retries,
            authorizer,
            base: OnceCell::new(),
        }
    }

    /// Registry and path, for messages.
    pub(crate) fn name(&self) -> String {
        self.reference.name()
    }

    /// Fetches a manifest by tag or digest. By digest, the content has been verified.
    pub(crate) async fn manifest(&self, name: &str) -> Result<Fetched, Error> {
        let path = format!("{}/manifests/{name}", self.reference.repository());
        let what = format!("reading manifest {name} in {}", self.reference.name());
        let request = Request {
            accept: ACCEPT,
            ..Request::get(self.url(&path, &what).await?)
        };
        let response = self.get(request, &what).await?;
        let media_type = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let bytes = read_document(response, MANIFEST_LIMIT, &what).await?;
        let expected: Option<Digest> = name.parse().ok();
        let digest = verify(&what, &bytes, expected.as_ref())?;
        Ok(Fetched {
            bytes,
            digest,
            media_type,
        })
    }

    /// Fetches a small blob whole, verified: a config.
    pub(crate) async fn document(&self, digest: &Digest, limit: usize) -> Result<Vec<u8>, Error> {
        let (request, what) = self.of_blob(digest).await?;
        let response = self.get(request, &what).await?;
        let bytes = read_document(response, limit, &what).await?;
        verify(&what, &bytes, Some(digest))?;
        Ok(bytes)
    }

    /// Starts to fetch a blob at a position, up to another one or its end. Its content has not been
    /// verified.
    pub(crate) async fn blob(
        &self,
        digest: &Digest,
        from: u64,
        until: Option<u64>,
    ) -> Result<BlobStream, Error> {
        let (request, what) = self.of_blob(digest).await?;
        let request = Request {
            from,
            until,
            ..request
        };
        let response = self.get(request, &what).await?;
        BlobStream::new(response, &what)
    }

    /// The same from a URL that a manifest gives for it. That is nobody who gets credentials, also where
    /// the host is the registry's own.
    pub(crate) async fn blob_elsewhere(
        &self,
        url: &str,
        from: u64,
        until: Option<u64>,
    ) -> Result<BlobStream, Error> {
        let what = format!("reading a layer of {}", self.reference.name());
        let url = Url::parse(url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or_else(|| Error::Invalid(format!("{what}: {url:?} is no place to get it from")))?;
        let host = crate::http::authority(&url);
        let request = Request {
            from,
            until,
            // It is verified by its digest.
            allow_downgrade: true,
            is_foreign: true,
            ..Request::get(url)
        };
        let (response, _) = self.transport.send(&request).await?;
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => BlobStream::new(response, &what),
            status => Err(Error::Registry(format!(
                "{what}: it is not the registry's to give, and {host} answered {status}"
            ))),
        }
    }

    /// How long to wait before a download that broke off is continued, or `None` to give up.
    pub(crate) fn retry_pause(&self, attempt: u32) -> Option<Duration> {
        (attempt < self.retries.limit).then(|| self.retries.pause(attempt))
    }

    /// A request for a blob, which is verified by its digest; and what that is, for errors.
    async fn of_blob(&self, digest: &Digest) -> Result<(Request, String), Error> {
        let path = format!("{}/blobs/{digest}", self.reference.repository());
        let what = format!("reading blob {digest} in {}", self.reference.name());
        let request = Request {
            allow_downgrade: true,
            ..Request::get(self.url(&path, &what).await?)
        };
        Ok((request, what))
    }

    async fn get(&self, request: Request, what: &str) -> Result<Response, Error> {
        let in_part = request.range().is_some();
        let is_wanted =
            |status| status == StatusCode::OK || (status == StatusCode::PARTIAL_CONTENT && in_part);
        self.call(request, what, true, &is_wanted).await
    }

    /// Sends a request until it is answered with a status that is wanted: anew with a token where one
    /// is asked for, and where `repeatable` anew as well after what may pass.
    pub(crate) async fn call(
        &self,
        mut request: Request,
        what: &str,
        repeatable: bool,
        is_wanted: &(dyn Fn(StatusCode) -> bool + Sync),
    ) -> Result<Response, Error> {
        request.insecure = self.insecure;
        // A registry may name another host to send something to, which gets no credentials.
        let trusted = same_server(self.base().await?, &request.url);
        let limit = if repeatable { self.retries.limit } else { 0 };
        let (mut found_one, mut refusals) = (false, 0);
        let mut attempt = 0;
        loop {
            let authorization = self.authorizer.current();
            request.authorization = authorization.header().filter(|_| trusted);
            let (response, own) = match self.transport.send(&request).await {
                Ok((response, own)) => (response, own && trusted),
                Err(failure) if failure.transient && attempt < limit => {
                    tokio::time::sleep(self.retries.pause(attempt)).await;
                    attempt += 1;
                    continue;
                }
                Err(failure) => return Err(failure.into()),
            };
            let status = response.status();
            if is_wanted(status) {
                return Ok(response);
            }
            // Another host's challenge is not obeyed: it would get this one's credentials.
            if status == StatusCode::UNAUTHORIZED && own && !found_one && refusals < REFUSAL_LIMIT {
                // One that others have found may be old again by now.
                refusals += 1;
                found_one = self
                    .authorizer
                    .authorize(
                        &self.transport,
                        &request,
                        response.headers(),
                        &authorization,
                    )
                    .await?;
                continue;
            }
            if is_busy(status) && attempt < limit {
                let pause =
                    retry_after(response.headers()).unwrap_or_else(|| self.retries.pause(attempt));
                tokio::time::sleep(pause).await;
                attempt += 1;
                continue;
            }
            return Err(self.refusal(what, response, own).await);
        }
    }

    /// The same once all is sent: a registry may take long to put it together.
    pub(crate) async fn call_last(
        &self,
        request: Request,
        what: &str,
        is_wanted: &(dyn Fn(StatusCode) -> bool + Sync),
    ) -> Result<Response, Error> {
        tokio::time::timeout(ANSWER_TIMEOUT, self.call(request, what, true, is_wanted))
            .await
            .map_err(|_| Error::Registry(format!("{what}: no answer for 15 minutes")))?
    }

    /// The path of the repository within the registry.
    pub(crate) fn path(&self) -> &str {
        self.reference.repository()
    }

    /// Where the registry says that something goes on: at its own server as securely as the rest.
    pub(crate) async fn place(&self, mut url: Url, what: &str) -> Result<Url, Error> {
        let base = self.base().await?;
        if base.scheme() == "https" && url.scheme() == "http" && !self.insecure {
            // Behind a proxy that speaks TLS for it, a registry may not know better.
            let own = base.host_str() == url.host_str();
            if !own || url.set_scheme("https").is_err() {
                return Err(Error::Registry(format!(
                    "{what}: the registry wants it sent in the clear to {}",
                    crate::http::authority(&url)
                )));
            }
        }
        Ok(url)
    }

    /// Puts a manifest under a tag or its digest, unless the registry has it there.
    pub(crate) async fn put_manifest(
        &self,
        name: &str,
        media_type: &str,
        bytes: &[u8],
        digest: &Digest,
    ) -> Result<(), Error> {
        let what = format!("pushing manifest {name} to {}", self.name());
        // What it has is not sent again; one that does not say what it has gets it.
        if let Ok(Some(there)) = self.manifest_digest(name).await
            && there == *digest
        {
            return Ok(());
        }
        let path = format!("{}/manifests/{name}", self.path());
        let content = Content::Document(media_type.to_owned(), bytes.to_vec().into());
        let request = Request {
            method: Method::PUT,
            content,
            ..Request::get(self.url(&path, &what).await?)
        };
        let done = |status: StatusCode| status.is_success();
        let answered = |status| {
            done(status)
                || matches!(
                    status,
                    StatusCode::BAD_REQUEST | StatusCode::UNSUPPORTED_MEDIA_TYPE
                )
        };
        let response = self.call_last(request, &what, &answered).await?;
        if !done(response.status()) {
            // The other form may be what it knows.
            let error = self.refusal(&what, response, true).await;
            return Err(Error::Registry(format!(
                "{error}; a registry that does not know {media_type} may take another form: \
                 --format v2s2 or oci"
            )));
        }
        match digest_of(&response) {
            Some(stored) => digest.is(&what, stored),
            None => Ok(()),
        }
    }

    /// The digest of a manifest, if the registry tells it without sending the manifest.
    pub(crate) async fn manifest_digest(&self, name: &str) -> Result<Option<Digest>, Error> {
        let what = format!("reading manifest {name} in {}", self.name());
        let path = format!("{}/manifests/{name}", self.path());
        let request = Request {
            method: Method::HEAD,
            accept: ACCEPT,
            ..Request::get(self.url(&path, &what).await?)
        };
        // What may pass is waited for; any other answer leads to the manifest itself, which then says why.
        let passing = |status| status == StatusCode::UNAUTHORIZED || is_busy(status);
        let response = self
            .call(request, &what, true, &|status| !passing(status))
            .await?;
        Ok(digest_of(&response).filter(|_| response.status() == StatusCode::OK))
    }

    /// The URL of something in the registry: `path` is what follows `/v2/`.
    pub(crate) async fn url(&self, path: &str, what: &str) -> Result<Url, Error> {
        // The path is made of a checked reference and a checked digest or tag.
        self.base()
            .await?
            .join(path)
            .map_err(|error| Error::Invalid(format!("{what}: {error}")))
    }

    /// The API's root. An insecure registry is asked by HTTPS first, then by plain HTTP.
    async fn base(&self) -> Result<&Url, Error> {
        self.base
            .get_or_try_init(|| {
                find_base(&self.transport, self.reference.registry(), self.insecure)
            })
            .await
    }

    pub(crate) async fn refusal(&self, what: &str, response: Response, own: bool) -> Error {
        let status = response.status();
        let body = read_limited(response, 64 << 10).await.unwrap_or_default();
        refusal(self.reference.registry(), what, status, &body, own)
    }
}

impl BlobStream {
    fn new(response: Response, what: &str) -> Result<Self, Error> {
        let start = if response.status() == StatusCode::PARTIAL_CONTENT {
            range_start(response.headers()).ok_or_else(|| {
                Error::Registry(format!("{what}: the answer does not say its range"))
            })?
        } else {
            0
        };
        Ok(Self {
            url: response.url().clone(),
            response,
            start,
        })
    }

    /// The next piece, or `None` at the end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<bytes::Bytes>, Failure> {
        let chunk = self.response.chunk().await;
        chunk.map_err(|error| {
            let failure = explain(&error, &self.url);
            // Whatever cuts a body off may not cut the next one.
            Failure {
                transient: true,
                ..failure
            }
        })
    }
}

/// Finds the API's root URL of a registry, `host[:port]`.
pub(crate) async fn find_base(
    transport: &Transport,
    registry: &str,
    insecure: bool,
) -> Result<Url, Error> {
    let host = match registry {
        DOCKER_HUB => DOCKER_HUB_API,
        other => other,
    };
    let root = |scheme: &str| {
        Url::parse(&format!("{scheme}://{host}/v2/"))
            .map_err(|error| Error::Invalid(format!("registry {registry}: {error}")))
    };
    let https = root("https")?;
    if !insecure {
        return Ok(https);
    }
    let request = Request {
        insecure,
        ..Request::get(https.clone())
    };
    match transport.send(&request).await {
        Ok(_) => Ok(https),
        Err(failure) if failure.unreachable => {
            let http = root("http")?;
            let request = Request {
                insecure,
                ..Request::get(http.clone())
            };
            let (response, _) = transport.send(&request).await?;
            // Many TLS servers answer plain HTTP with this status; the failure that HTTPS met is
            // then the one to show.
            if response.status() == StatusCode::BAD_REQUEST {
                return Err(failure.into());
            }
            Ok(http)
        }
        Err(failure) => Err(failure.into()),
    }
}

pub(crate) async fn read_document(
    response: Response,
    limit: usize,
    what: &str,
) -> Result<Vec<u8>, Error> {
    let url = response.url().clone();
    match read_limited(response, limit).await {
        Ok(bytes) if bytes.len() > limit => Err(Error::Invalid(format!(
            "{what}: it is larger than {} MiB",
            limit >> 20
        ))),
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(Error::Registry(format!(
            "{what}: {}",
            explain(&error, &url).message
        ))),
    }
}

/// Reads at most one chunk more than `limit` bytes.
pub(crate) async fn read_limited(
    mut response: Response,
    limit: usize,
) -> Result<Vec<u8>, reqwest::Error> {
    let mut bytes = Vec::new();
    while bytes.len() <= limit {
        match response.chunk().await? {
            Some(chunk) => bytes.extend_from_slice(&chunk),
            None => break,
        }
    }
    Ok(bytes)
}

fn verify(what: &str, bytes: &[u8], expected: Option<&Digest>) -> Result<Digest, Error> {
    let Some(expected) = expected else {
        return Ok(Digest::of(bytes));
    };
    expected.check(what, bytes)?;
    Ok(expected.clone())
}

/// Whether a registry may answer otherwise a moment later.
pub(crate) fn is_busy(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS
        || (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED)
}

/// The digest that a registry says what it has under a name.
pub(crate) fn digest_of(response: &Response) -> Option<Digest> {
    let value = response.headers().get("docker-content-digest")?;
    value.to_str().ok()?.parse().ok()
}

/// `Content-Range: bytes 10-99/100` begins at 10.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (start, _) = value.trim().strip_prefix("bytes ")?.split_once('-')?;
    start.trim().parse().ok()
}

/// `Retry-After` in seconds; a date is treated as none, for it depends on two clocks.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_LIMIT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::runtime;
    use crate::auth::AuthFiles;
    use crate::certs::CertDirectories;
    use crate::config_paths::ConfigPaths;

    #[test]
    fn cve_2020_15157_an_upload_is_never_sent_on_in_the_clear() {
        let paths = ConfigPaths::default();
        let files = AuthFiles::find(&paths, None);
        let authorizer = Authorizer::new(files, "r.example/a".to_owned(), Vec::new());
        let transport = Transport::new(CertDirectories::find(&paths, None));
        let mut repository = Repository::new(
            Arc::new(transport),
            Reference::parse("r.example/a:1").unwrap(),
            false,
            Retries::default(),
            authorizer,
        );
        let base = Url::parse("https://r.example/v2/").unwrap();
        repository.base = OnceCell::new_with(Some(base));
        let runtime = runtime().unwrap();
        for (place, expected) in [
            ("https://other.example/x", Some("https://other.example/x")),
            ("http://r.example/x", Some("https://r.example/x")),
            ("http://other.example/x", None),
        ] {
            let url = Url::parse(place).unwrap();
            let found = runtime.block_on(repository.place(url, "pushing")).ok();
            assert_eq!(found.as_ref().map(Url::as_str), expected);
        }
    }

    #[test]
    fn headers_are_read_strictly() {
        for (value, expected) in [
            ("bytes 10-99/100", Some(10)),
            ("bytes 10-99/*", Some(10)),
            ("10-99/100", None),
            ("bytes */100", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, value.parse().unwrap());
            assert_eq!(range_start(&headers), expected, "{value}");
        }
        for (value, expected) in [("3", Some(3)), ("9999", Some(60)), ("Wed, 21 Oct", None)] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            let seconds = retry_after(&headers).map(|pause| pause.as_secs());
            assert_eq!(seconds, expected, "{value}");
        }
    }

    #[test]
    fn pauses_grow() {
        let retries = Retries::default();
        let seconds: Vec<u64> = (0..3).map(|n| retries.pause(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4]);
    }
}
