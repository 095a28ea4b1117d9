//! How a registry is shown who asks: nothing, a password, or a token from its token server.
//!
//! The challenge comes from the registry itself, never from a host that it redirects to; so the
//! token server that receives the password is one that the registry named over its own, verified
//! connection.

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use crate::Error;
use crate::auth::{AuthFiles, Credential};
use crate::challenge::{self, Challenge};
use crate::http::{Content, Request, Transport, authority};
use crate::refusal::refusal;

/// The most bytes that a token server's answer may have.
const TOKEN_LIMIT: usize = 1 << 20;

/// What is sent now. A newer one replaces it when the registry answers 401.
#[derive(Clone, Default)]
pub(crate) struct Authorization(Option<Arc<HeaderValue>>);

impl Authorization {
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        self.0.as_deref().cloned()
    }

    fn is(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(one), Some(two)) => Arc::ptr_eq(one, two),
            _ => false,
        }
    }
}

/// Answers the challenges of one registry, for what is to be done there.
pub(crate) struct Authorizer {
    credentials: Credentials,
    /// What the credentials are looked up by.
    key: String,
    scopes: Vec<String>,
    current: Mutex<Authorization>,
    /// Held while a token is fetched: layers that find it expired together fetch it once.
    fetching: tokio::sync::Mutex<()>,
}

/// Where credentials come from.
enum Credentials {
    /// auth.json and its like, read only when a registry asks.
    Files(AuthFiles),
    /// Given by the user for a login.
    Given(Credential),
}

impl Authorizer {
    pub(crate) fn new(files: AuthFiles, key: String, scopes: Vec<String>) -> Self {
        Self::with(Credentials::Files(files), key, scopes)
    }

    pub(crate) fn given(credential: Credential, key: String, scopes: Vec<String>) -> Self {
        Self::with(Credentials::Given(credential), key, scopes)
    }

    fn with(credentials: Credentials, key: String, scopes: Vec<String>) -> Self {
        Self {
            credentials,
            key,
            scopes,
            current: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn current(&self) -> Authorization {
        self.current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Finds an authorization after the registry has answered 401 to `refused`; false if another request
    /// had found one meanwhile.
    pub(crate) async fn authorize(
        &self,
        transport: &Transport,
        request: &Request,
        headers: &HeaderMap,
        refused: &Authorization,
    ) -> Result<bool, Error> {
        let _fetching = self.fetching.lock().await;
        if !self.current().is(refused) {
            return Ok(false);
        }
        let challenges: Vec<Challenge> = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(challenge::parse)
            .collect();
        let with_scheme = |scheme: &str| {
            challenges
                .iter()
                .find(|challenge| challenge.scheme == scheme)
        };
        let credential = match &self.credentials {
            Credentials::Files(files) => files.lookup_key(&self.key)?,
            Credentials::Given(credential) => Some(credential.clone()),
        };
        let value = if let Some(bearer) = with_scheme("bearer") {
            let token = self
                .bearer_token(transport, request, bearer, credential.as_ref())
                .await?;
            format!("Bearer {token}")
        } else if with_scheme("basic").is_some() {
            match &credential {
                Some(Credential::Basic { username, password }) => {
                    basic(username, password.reveal())
                }
                _ => return Err(self.denied("the registry asks for a user name and password")),
            }
        } else {
            return Err(self.denied("the registry asks for an unknown kind of authentication"));
        };
        let mut header = HeaderValue::from_str(&value)
            .map_err(|_| self.denied("the credentials have characters that HTTP can't carry"))?;
        header.set_sensitive(true);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Authorization(Some(Arc::new(header)));
        Ok(true)
    }

    async fn bearer_token(
        &self,
        transport: &Transport,
        request: &Request,
        challenge: &Challenge,
        credential: Option<&Credential>,
    ) -> Result<String, Error> {
        if let Some(Credential::RegistryToken(token)) = credential {
            return Ok(token.reveal().to_owned());
        }
        let realm = challenge
            .parameter("realm")
            .and_then(|realm| Url::parse(realm).ok())
            .filter(|realm| matches!(realm.scheme(), "http" | "https"))
            .ok_or_else(|| self.denied("the registry names no token server"))?;
        if realm.scheme() == "http"
            && request.url.scheme() == "https"
            && credential.is_some()
            && !request.insecure
        {
            return Err(self.denied(&format!(
                "the registry wants the credentials sent in the clear to {}",
                authority(&realm)
            )));
        }
        let service = challenge.parameter("service");
        let scopes: Vec<&str> = match self.scopes.as_slice() {
            [] => challenge.parameter("scope").into_iter().collect(),
            scopes => scopes.iter().map(String::as_str).collect(),
        };
        let token_request = match credential {
            Some(Credential::IdentityToken(token)) => {
                token_form(realm, service, &scopes, token.reveal())
            }
            other => token_query(realm, service, &scopes, other),
        };
        let token_request = Request {
            insecure: request.insecure,
            ..token_request
        };
        let host = authority(&token_request.url);
        let (response, own) = transport.send(&token_request).await?;
        let status = response.status();
        let body = read(response)
            .await
            .map_err(|()| Error::Registry(format!("token server {host}: the answer broke off")))?;
        if status != StatusCode::OK {
            let what = format!("token server {host}");
            let registry = self.key.split('/').next().unwrap_or(&self.key);
            return Err(refusal(registry, &what, status, &body, own));
        }
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|_| Error::Registry(format!("token server {host}: no JSON in the answer")))?;
        [answer.token, answer.access_token]
            .into_iter()
            .flatten()
            .find(|token| !token.is_empty())
            .ok_or_else(|| Error::Registry(format!("token server {host}: no token in the answer")))
    }

    fn denied(&self, reason: &str) -> Error {
        let registry = self.key.split('/').next().unwrap_or(&self.key);
        Error::Denied(format!(
            "{}: unauthorized: {reason}: kelp login {registry}",
            self.key
        ))
    }
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
}

/// Docker's token protocol: GET, with the password if there is one.
fn token_query(
    mut realm: Url,
    service: Option<&str>,
    scopes: &[&str],
    credential: Option<&Credential>,
) -> Request {
    let mut authorization = None;
    {
        let mut query = realm.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        for scope in scopes {
            query.append_pair("scope", scope);
        }
        if let Some(Credential::Basic { username, password }) = credential {
            query.append_pair("account", username);
            authorization = HeaderValue::from_str(&basic(username, password.reveal())).ok();
        }
    }
    if let Some(header) = &mut authorization {
        header.set_sensitive(true);
    }
    Request {
        authorization,
        accept: "application/json",
        ..Request::get(realm)
    }
}

/// OAuth 2: POST, with the identity token as the refresh token.
fn token_form(realm: Url, service: Option<&str>, scopes: &[&str], token: &str) -> Request {
    // A URL's query is a form's encoding; this one is never requested.
    let mut form = realm.clone();
    form.set_query(None);
    {
        let mut pairs = form.query_pairs_mut();
        pairs.append_pair("grant_type", "refresh_token");
        pairs.append_pair("client_id", "kelp");
        pairs.append_pair("refresh_token", token);
        if let Some(service) = service {
            pairs.append_pair("service", service);
        }
        for scope in scopes {
            pairs.append_pair("scope", scope);
        }
    }
    Request {
        method: Method::POST,
        accept: "application/json",
        content: form
            .query()
            .map_or(Content::None, |form| Content::Form(form.to_owned())),
        ..Request::get(realm)
    }
}

fn basic(username: &str, password: &str) -> String {
    format!(
        "Basic {}",
        STANDARD.encode(format!("{username}:{password}"))
    )
}

async fn read(mut response: reqwest::Response) -> Result<Vec<u8>, ()> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(drop)? {
        body.extend_from_slice(&chunk);
        if body.len() > TOKEN_LIMIT {
            return Err(());
        }
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_asked_for_as_docker_does() {
        let realm = Url::parse("https://auth.example/token?x=1").unwrap();
        let credential = Credential::Basic {
            username: "u".to_owned(),
            password: "p:w".to_owned().into(),
        };
        let scope = ["repository:a/b:pull"];
        let request = token_query(realm.clone(), Some("s t"), &scope, Some(&credential));
        assert_eq!(
            request.url.as_str(),
            "https://auth.example/token?x=1&service=s+t&scope=repository%3Aa%2Fb%3Apull&account=u"
        );
        let authorization = request.authorization.unwrap();
        assert_eq!(authorization.to_str().unwrap(), "Basic dTpwOnc=");
        assert!(authorization.is_sensitive());

        let request = token_form(realm, None, &scope, "a&b");
        assert_eq!(request.method, Method::POST);
        let Content::Form(form) = request.content else {
            panic!("no form");
        };
        assert_eq!(
            form,
            "grant_type=refresh_token&client_id=kelp&refresh_token=a%26b\
             &scope=repository%3Aa%2Fb%3Apull"
        );
        assert!(request.authorization.is_none());
    }
}
