//! How registries are reached; `login` and `logout`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kelp_image::access::AccessOptions;
use kelp_image::auth::{AuthFiles, Credential, Logout, normalize_key};
use kelp_image::config_paths::ConfigPaths;
use kelp_image::login::check_login;
use kelp_image::registries_conf::RegistriesConf;
use kelp_image::registry::Retries;

use crate::{Engine, Error, Kind};

/// How registries are reached.
#[derive(Clone, Debug, Default)]
pub struct AccessRequest {
    /// Whether certificates must be right; `None` for what registries.conf says.
    pub tls_verify: Option<bool>,
    /// Certificates, instead of certs.d.
    pub cert_dir: Option<PathBuf>,
    /// Credentials, instead of the usual files.
    pub authfile: Option<PathBuf>,
    /// `USER:PASSWORD`, over any file.
    pub credentials: Option<String>,
    /// How often what failed is tried again, instead of three times.
    pub retries: Option<u32>,
    /// How long before, instead of a second that doubles.
    pub retry_delay: Option<Duration>,
    /// policy.json, instead of the user's or the machine's.
    pub signature_policy: Option<PathBuf>,
}

impl AccessRequest {
    /// Refuses what can't be, before anybody is asked.
    pub fn check(&self) -> Result<(), Error> {
        self.options().map(drop)
    }

    pub(crate) fn options(&self) -> Result<AccessOptions, Error> {
        let credentials = self.credentials.as_deref().map(credential).transpose()?;
        let retries = Retries::default();
        Ok(AccessOptions {
            paths: ConfigPaths::from_env(),
            tls_verify: self.tls_verify,
            cert_dir: self.cert_dir.clone(),
            authfile: self.authfile.clone(),
            credentials,
            retries: Retries {
                limit: self.retries.unwrap_or(retries.limit),
                delay: self.retry_delay.unwrap_or(retries.delay),
            },
            signature_policy: self.signature_policy.clone(),
        })
    }
}

/// `USER:PASSWORD`, as --creds takes it.
fn credential(text: &str) -> Result<Credential, Error> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    if user.is_empty() {
        return Err(Error::invalid("--creds is USER:PASSWORD"));
    }
    Ok(basic(user, password))
}

fn basic(user: &str, password: &str) -> Credential {
    Credential::Basic {
        username: user.to_owned(),
        password: password.to_owned().into(),
    }
}

impl Engine {
    /// Checks credentials with their registry and keeps them; the file they are kept in.
    pub fn login(
        &self,
        registry: &str,
        user: &str,
        password: &str,
        request: &AccessRequest,
    ) -> Result<PathBuf, Error> {
        let key = normalize_key(registry);
        let access = request.options()?;
        check_login(&key, &basic(user, password), &access)?;
        let files = auth_files(request.authfile.as_deref())?;
        Ok(files.login(&key, user, password)?)
    }

    /// The user that is logged in at a registry.
    pub fn logged_in(
        &self,
        registry: &str,
        authfile: Option<&Path>,
    ) -> Result<Option<String>, Error> {
        let credential = auth_files(authfile)?.lookup_key(&normalize_key(registry))?;
        Ok(credential.map(|credential| match credential {
            Credential::Basic { username, .. } => username,
            Credential::IdentityToken(_) | Credential::RegistryToken(_) => "<token>".to_owned(),
        }))
    }

    /// Forgets the credentials for a registry, or all.
    pub fn logout(&self, registry: Option<&str>, authfile: Option<&Path>) -> Result<(), Error> {
        let files = auth_files(authfile)?;
        let Some(registry) = registry else {
            return Ok(files.logout_all()?);
        };
        match files.logout(&normalize_key(registry))? {
            Logout::Removed => Ok(()),
            Logout::NotLoggedIn => Err(Error::new(
                Kind::NotFound,
                format!("not logged into {registry}"),
            )),
            Logout::InDockerConfig => Err(Error::conflict(format!(
                "the credentials for {registry} are in docker's own configuration: use `docker \
                 logout {registry}`"
            ))),
        }
    }
}

fn auth_files(authfile: Option<&Path>) -> Result<AuthFiles, Error> {
    let paths = ConfigPaths::from_env();
    let helpers = RegistriesConf::load(&paths)?.credential_helpers;
    Ok(AuthFiles::find(&paths, authfile).with_credential_helpers(&helpers))
}
