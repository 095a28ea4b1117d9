//! Checking a password with a registry before it is kept.

use reqwest::StatusCode;

use crate::Error;
use crate::access::{Access, AccessOptions, runtime};
use crate::auth::Credential;
use crate::http::Request;
use crate::refusal::refusal;
use crate::registry::find_base;
use crate::token::Authorizer;

/// Asks a registry, `host[:port]`, whether it accepts the credentials. Of a namespace,
/// `host[:port]/path`, only the registry is asked: it knows users, not who may see which path.
pub fn check_login(
    key: &str,
    credential: &Credential,
    options: &AccessOptions,
) -> Result<(), Error> {
    let registry = key.split('/').next().unwrap_or(key);
    crate::reference::check_registry(registry)
        .map_err(|reason| Error::Invalid(format!("registry {registry}: {reason}")))?;
    let access = Access::new(options)?;
    runtime()?.block_on(check(&access, registry, credential))
}

async fn check(access: &Access, registry: &str, credential: &Credential) -> Result<(), Error> {
    let insecure = access.is_insecure(registry);
    let transport = access.transport();
    let base = find_base(transport, registry, insecure).await?;
    let authorizer = Authorizer::given(credential.clone(), registry.to_owned(), Vec::new());
    let mut request = Request {
        insecure,
        ..Request::get(base)
    };
    for _ in 0..2 {
        let authorization = authorizer.current();
        request.authorization = authorization.header();
        let (response, own) = transport.send(&request).await?;
        match response.status() {
            StatusCode::OK => return Ok(()),
            StatusCode::UNAUTHORIZED if own && request.authorization.is_none() => {
                let headers = response.headers();
                authorizer
                    .authorize(transport, &request, headers, &authorization)
                    .await?;
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => break,
            StatusCode::NOT_FOUND => {
                return Err(Error::Registry(format!("{registry} is no image registry")));
            }
            status => {
                let what = format!("logging in to {registry}");
                return Err(refusal(registry, &what, status, b"", own));
            }
        }
    }
    Err(Error::Denied(format!(
        "logging in to {registry}: invalid username/password"
    )))
}
