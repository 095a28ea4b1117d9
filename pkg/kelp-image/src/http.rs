//! HTTP requests to registries: clients by host, redirects, and failures put into words.
//!
//! Redirects are followed here and not by reqwest, because two rules hang on them: the
//! `Authorization` of one host is never sent to another (CVE-2020-15157), and neither is a client
//! certificate, so each host has a client of its own.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::io;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, LOCATION,
    RANGE,
};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, StatusCode, Url};
use rustls::{AlertDescription, CertificateError};

use crate::Error;
use crate::certs::CertDirectories;
use crate::dns::{LookupError, Resolver};
use crate::upload::FileBody;

const USER_AGENT: &str = concat!("kelp/", env!("CARGO_PKG_VERSION"));

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a server may stay silent, before its answer and within it.
pub(crate) const SILENCE_TIMEOUT: Duration = Duration::from_mins(1);

const REDIRECT_LIMIT: usize = 10;

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) accept: &'static str,
    /// Sent to the URL's own host only.
    pub(crate) authorization: Option<HeaderValue>,
    /// The first byte that is wanted.
    pub(crate) from: u64,
    /// The byte before which it is enough.
    pub(crate) until: Option<u64>,
    /// What is sent with it.
    pub(crate) content: Content,
    /// Where the content begins in a larger whole, and its last byte.
    pub(crate) content_range: Option<(u64, u64)>,
    /// Whether the answer may come over plain HTTP although HTTPS was asked: only where its content
    /// is checked against a digest.
    pub(crate) allow_downgrade: bool,
    /// Whether certificates are left unchecked.
    pub(crate) insecure: bool,
    /// Whether the host is one that credentials are not for.
    pub(crate) is_foreign: bool,
}

impl Request {
    pub(crate) fn get(url: Url) -> Self {
        Self {
            method: Method::GET,
            url,
            accept: "*/*",
            authorization: None,
            from: 0,
            until: None,
            content: Content::None,
            content_range: None,
            allow_downgrade: false,
            insecure: false,
            is_foreign: false,
        }
    }

    /// The range that is asked for, if not everything is.
    pub(crate) fn range(&self) -> Option<String> {
        match self.until {
            // The last byte is named, not the one after it.
            Some(until) => Some(format!("bytes={}-{}", self.from, until.saturating_sub(1))),
            None => (self.from > 0).then(|| format!("bytes={}-", self.from)),
        }
    }
}

/// What goes with a request.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// Nothing.
    None,
    /// A form. It carries secrets, and goes to the host that was asked, or nowhere.
    Form(String),
    /// A document of a media type.
    Document(String, Bytes),
    /// A part of a file.
    File(FileBody),
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct Failure {
    /// One line with the way out.
    pub(crate) message: String,
    /// Whether the same request may succeed a moment later.
    pub(crate) transient: bool,
    /// Whether the server was not there or spoke another protocol, so that another scheme may do.
    pub(crate) unreachable: bool,
}

impl Failure {
    fn lasting(message: String) -> Self {
        Self {
            message,
            transient: false,
            unreachable: false,
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Registry(failure.message)
    }
}

/// The clients.
pub(crate) struct Transport {
    certs: CertDirectories,
    resolver: Resolver,
    clients: Mutex<HashMap<Kind, Client>>,
}

/// What one client is for.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Kind {
    authority: String,
    /// Whether its certificate is checked.
    verify: bool,
    /// Whether one is shown to it.
    shows: bool,
    /// Whether it is sent something.
    sends: bool,
}

impl Transport {
    pub(crate) fn new(certs: CertDirectories) -> Self {
        Self {
            certs,
            resolver: Resolver::default(),
            clients: Mutex::default(),
        }
    }

    /// Sends a request and follows redirects. Every status that is no redirect is an answer; the
    /// second value says whether it is the asked host's own.
    pub(crate) async fn send(&self, request: &Request) -> Result<(Response, bool), Failure> {
        let mut url = request.url.clone();
        let mut own = true;
        for _ in 0..REDIRECT_LIMIT {
            let response = self.send_once(request, &url, own).await?;
            let status = response.status();
            // Only these two say that the same is to be sent again (RFC 9110, 15.4).
            let same = matches!(status.as_u16(), 307 | 308);
            let harmless = matches!(request.method, Method::GET | Method::HEAD);
            if !is_redirect(status) || !(harmless || same) {
                return Ok((response, own));
            }
            let next = response
                .headers()
                .get(LOCATION)
                .and_then(|location| location.to_str().ok())
                .and_then(|location| url.join(location).ok())
                .filter(|next| matches!(next.scheme(), "http" | "https"))
                .ok_or_else(|| {
                    Failure::lasting(format!("{}: a redirect leads nowhere", authority(&url)))
                })?;
            if url.scheme() == "https"
                && next.scheme() == "http"
                && !(request.allow_downgrade || request.insecure)
            {
                return Err(Failure::lasting(format!(
                    "{} redirects from HTTPS to plain HTTP at {}, which is allowed only for \
                     registries that are insecure in registries.conf or with --tls-verify=false",
                    authority(&url),
                    authority(&next)
                )));
            }
            own &= same_server(&url, &next);
            url = next;
        }
        Err(Failure::lasting(format!(
            "{}: more than {REDIRECT_LIMIT} redirects",
            authority(&request.url)
        )))
    }

    async fn send_once(
        &self,
        request: &Request,
        url: &Url,
        own: bool,
    ) -> Result<Response, Failure> {
        // The client's clock runs while a body is sent, however fast: who sends one has a clock of its own.
        let sends = matches!(request.method, Method::PATCH | Method::PUT);
        let kind = Kind {
            authority: authority(url),
            verify: !request.insecure,
            shows: !self.certs.is_for_all() || own && !request.is_foreign,
            sends,
        };
        let client = self
            .client(url, kind)
            .map_err(|error| Failure::lasting(error.to_string()))?;
        let mut builder = client
            .request(request.method.clone(), url.clone())
            .header(ACCEPT, request.accept);
        if let Some(authorization) = request.authorization.as_ref().filter(|_| own) {
            builder = builder.header(AUTHORIZATION, authorization.clone());
        }
        if let Some(range) = request.range() {
            builder = builder.header(RANGE, range);
        }
        if let Some((first, last)) = request.content_range {
            builder = builder.header(CONTENT_RANGE, format!("{first}-{last}"));
        }
        builder = match &request.content {
            // A request that changes something says how long its content is.
            Content::None if !matches!(request.method, Method::GET | Method::HEAD) => {
                builder.header(CONTENT_LENGTH, "0")
            }
            Content::None => builder,
            Content::Form(_) if !own => {
                return Err(Failure::lasting(format!(
                    "{} redirects a request for a token to another host",
                    authority(&request.url)
                )));
            }
            Content::Form(form) => builder
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.clone()),
            Content::Document(media_type, bytes) => {
                builder.header(CONTENT_TYPE, media_type).body(bytes.clone())
            }
            Content::File(body) => builder
                .header(CONTENT_TYPE, "application/octet-stream")
                .body(reqwest::Body::wrap(body.clone())),
        };
        builder.send().await.map_err(|error| explain(&error, url))
    }

    fn client(&self, url: &Url, kind: Kind) -> Result<Client, Error> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&kind) {
            return Ok(client.clone());
        }
        let tls = self
            .certs
            .client_config(&kind.authority, kind.verify, kind.shows)?;
        let mut builder = Client::builder()
            .user_agent(USER_AGENT)
            .referer(false)
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .tls_backend_preconfigured(tls)
            .dns_resolver(self.resolver.clone());
        if !kind.sends {
            builder = builder.read_timeout(SILENCE_TIMEOUT);
        }
        // A proxy can't reach this machine's loopback; podman and docker go there directly too.
        if is_loopback(url) {
            builder = builder.no_proxy();
        }
        let client = builder
            .build()
            .map_err(|error| Error::Registry(format!("HTTP client: {}", innermost(&error))))?;
        clients.insert(kind, client.clone());
        Ok(client)
    }
}

/// `host[:port]` as certs.d and messages have it.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Whether credentials for one URL may go to the other: the same scheme, host and port, or the
/// same host by HTTPS instead of HTTP at their usual ports.
pub(crate) fn same_server(from: &Url, to: &Url) -> bool {
    let upgraded = from.scheme() == "http"
        && to.scheme() == "https"
        && from.port().is_none()
        && to.port().is_none();
    from.host_str() == to.host_str()
        && ((from.scheme() == to.scheme()
            && from.port_or_known_default() == to.port_or_known_default())
            || upgraded)
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Puts reqwest's error into one line with the way out.
pub(crate) fn explain(error: &reqwest::Error, url: &Url) -> Failure {
    let host = authority(url);
    let failure = |reason: &str, transient: bool, unreachable: bool| Failure {
        message: format!("{host}: {reason}"),
        transient,
        unreachable,
    };
    for cause in causes(error) {
        if let Some(lookup) = cause.downcast_ref::<LookupError>() {
            let reason = match lookup {
                LookupError::NoSuchHost => {
                    format!("{lookup}: check the registry's name in the image's name")
                }
                LookupError::Failed(_) => lookup.to_string(),
            };
            return failure(&reason, false, false);
        }
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return failure(&explain_tls(tls, &host), false, true);
        }
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            let (reason, transient) = match io.kind() {
                io::ErrorKind::ConnectionRefused => {
                    ("connection refused: no registry listens there", false)
                }
                io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
                    ("the network does not reach this host", false)
                }
                io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => {
                    ("the connection was reset", true)
                }
                io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => {
                    ("the connection was closed early", true)
                }
                io::ErrorKind::TimedOut => ("the connection timed out", true),
                _ => continue,
            };
            return failure(reason, transient, !transient || error.is_connect());
        }
    }
    if error.is_timeout() {
        let reason = if error.is_connect() {
            "no connection within 15 seconds"
        } else {
            "no data for 60 seconds"
        };
        return failure(reason, true, error.is_connect());
    }
    let transient = error.is_body() || error.is_decode() || error.is_request();
    failure(&innermost(error), transient, error.is_connect())
}

fn explain_tls(error: &rustls::Error, host: &str) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => format!(
            "the certificate is signed by an unknown authority: put the authority's certificate \
             into ~/.config/containers/certs.d/{host}/ca.crt, or use --tls-verify=false"
        ),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the certificate is for another name: use the name it was made for, or \
              --tls-verify=false"
            .to_owned(),
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "the certificate has expired: renew it, or use --tls-verify=false".to_owned(),
        rustls::Error::InvalidCertificate(CertificateError::Other(reason))
            if reason.to_string().contains("CaUsedAsEndEntity") =>
        {
            format!(
                "the server shows an authority's certificate as its own: give it one that the \
                 authority has signed, and put the authority's into \
                 ~/.config/containers/certs.d/{host}/ca.crt; or use --tls-verify=false"
            )
        }
        rustls::Error::InvalidCertificate(reason) => format!(
            "the certificate is not accepted ({reason}): put the authority's certificate into \
             ~/.config/containers/certs.d/{host}/ca.crt, or use --tls-verify=false"
        ),
        rustls::Error::InvalidMessage(_) => "the server does not speak TLS: if plain HTTP is \
                                             meant, use --tls-verify=false or insecure = true in \
                                             registries.conf"
            .to_owned(),
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::HandshakeFailure,
        ) => format!(
            "the server refuses this client ({error}): if it wants a certificate, put client.cert \
             and client.key into ~/.config/containers/certs.d/{host}/"
        ),
        other => other.to_string(),
    }
}

/// The chain of causes. An `io::Error` is skipped over by its own `source`, which returns that of
/// what it wraps, so the wrapped error is visited here.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> Vec<&'a (dyn StdError + 'static)> {
    let mut found: Vec<&'a (dyn StdError + 'static)> = Vec::new();
    let mut next = Some(error);
    while let Some(current) = next {
        found.push(current);
        let wrapped = current
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = match wrapped {
            Some(inner) => Some(inner),
            None => current.source(),
        };
    }
    found
}

fn innermost(error: &(dyn StdError + 'static)) -> String {
    let text = causes(error)
        .last()
        .map_or_else(|| error.to_string(), ToString::to_string);
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_stay_with_their_server() {
        for (from, to, same) in [
            ("https://r.example/a", "https://r.example/b", true),
            ("https://r.example/a", "https://r.example:443/b", true),
            ("http://r.example/a", "https://r.example/a", true),
            ("https://r.example/a", "http://r.example/a", false),
            ("https://r.example/a", "https://r.example:8443/a", false),
            ("http://r.example:5000/a", "https://r.example:5000/a", false),
            ("https://r.example/a", "https://cdn.example/a", false),
            ("https://r.example/a", "https://r.example.evil/a", false),
            ("https://r.example/a", "https://a.r.example/a", false),
        ] {
            let (from, to) = (Url::parse(from).unwrap(), Url::parse(to).unwrap());
            assert_eq!(same_server(&from, &to), same, "{from} {to}");
        }
    }

    #[test]
    fn an_authority_that_shows_its_own_certificate_is_told_in_words() {
        let reason = std::sync::Arc::new(io::Error::other("CaUsedAsEndEntity"));
        let reason = CertificateError::Other(rustls::OtherError(reason));
        let said = explain_tls(&rustls::Error::InvalidCertificate(reason), "r.example");
        assert!(
            said.starts_with("the server shows an authority's certificate"),
            "{said}"
        );
        assert!(said.contains("certs.d/r.example/ca.crt"), "{said}");
    }

    #[test]
    fn a_wrapped_cause_is_found() {
        let tls = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let error = io::Error::other(io::Error::other(tls));
        let found = causes(&error)
            .into_iter()
            .find_map(|cause| cause.downcast_ref::<rustls::Error>());
        assert!(found.is_some());
    }

    #[test]
    fn loopback_is_recognised() {
        for (url, loopback) in [
            ("http://localhost:5000/", true),
            ("http://127.0.0.1:5000/", true),
            ("http://127.9.9.9/", true),
            ("https://[::1]:5000/", true),
            ("https://r.example/", false),
            ("https://10.0.0.1/", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), loopback, "{url}");
        }
    }
}
