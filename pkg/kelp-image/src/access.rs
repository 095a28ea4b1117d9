//! How registries are reached: configuration, credentials and certificates, read once a command.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};

use crate::Error;
use crate::auth::{AuthFiles, Credential};
use crate::certs::CertDirectories;
use crate::config_paths::ConfigPaths;
use crate::http::Transport;
use crate::registries_conf::{Endpoint, RegistriesConf};
use crate::registry::{Repository, Retries};
use crate::token::Authorizer;

/// What a command line says about registries.
#[derive(Debug, Clone, Default)]
pub struct AccessOptions {
    /// Where configuration is read from.
    pub paths: ConfigPaths,
    /// `--tls-verify`, if given; registries.conf decides otherwise.
    pub tls_verify: Option<bool>,
    /// `--cert-dir`.
    pub cert_dir: Option<PathBuf>,
    /// `--authfile`.
    pub authfile: Option<PathBuf>,
    /// `--creds`: for the registry of the image's own name, and no mirror of it.
    pub credentials: Option<Credential>,
    /// `--retry` and `--retry-delay`.
    pub retries: Retries,
    /// `--signature-policy`, instead of the usual policy.json.
    pub signature_policy: Option<PathBuf>,
}

/// The configuration of all registries, and the connections to them.
pub(crate) struct Access {
    pub(crate) registries: RegistriesConf,
    transport: Arc<Transport>,
    auth: AuthFiles,
    options: AccessOptions,
}

impl Access {
    pub(crate) fn new(options: &AccessOptions) -> Result<Self, Error> {
        let registries = RegistriesConf::load(&options.paths)?;
        let certs = CertDirectories::find(&options.paths, options.cert_dir.as_deref());
        let auth = AuthFiles::find(&options.paths, options.authfile.as_deref())
            .with_credential_helpers(&registries.credential_helpers);
        Ok(Self {
            registries,
            transport: Arc::new(Transport::new(certs)),
            auth,
            options: options.clone(),
        })
    }

    /// A repository at an endpoint, to pull from; `registry` is the one of the image's own name.
    pub(crate) fn repository(&self, endpoint: &Endpoint, registry: &str) -> Repository {
        let scope = format!("repository:{}:pull", endpoint.reference.repository());
        self.with_scopes(endpoint, registry, vec![scope])
    }

    /// A repository to push to, and the repositories of the same registry that blobs may be mounted from.
    pub(crate) fn to_push(&self, endpoint: &Endpoint, sources: &[String]) -> Repository {
        let own = endpoint.reference.repository();
        let mut scopes = vec![format!("repository:{own}:pull,push")];
        scopes.extend(
            sources
                .iter()
                .map(|source| format!("repository:{source}:pull")),
        );
        self.with_scopes(endpoint, endpoint.reference.registry(), scopes)
    }

    fn with_scopes(&self, endpoint: &Endpoint, registry: &str, scopes: Vec<String>) -> Repository {
        let insecure = match self.options.tls_verify {
            Some(verify) => !verify,
            None => endpoint.insecure,
        };
        let key = endpoint.reference.name();
        let authorizer = match &self.options.credentials {
            Some(credential) if endpoint.reference.registry() == registry => {
                Authorizer::given(credential.clone(), key, scopes)
            }
            _ => Authorizer::new(self.auth.clone(), key, scopes),
        };
        Repository::new(
            Arc::clone(&self.transport),
            endpoint.reference.clone(),
            insecure,
            self.options.retries,
            authorizer,
        )
    }

    /// The connections, for what is no repository.
    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Answers the challenges of a registry for what it says itself that a request needs.
    pub(crate) fn authorizer(&self, key: &str) -> Authorizer {
        let key = key.to_owned();
        match &self.options.credentials {
            Some(credential) => Authorizer::given(credential.clone(), key, Vec::new()),
            None => Authorizer::new(self.auth.clone(), key, Vec::new()),
        }
    }

    /// Whether a host may be talked to without verifying it.
    pub(crate) fn is_insecure(&self, host: &str) -> bool {
        match self.options.tls_verify {
            Some(verify) => !verify,
            None => self
                .registries
                .registry_for_host(host)
                .is_some_and(|registry| registry.insecure),
        }
    }
}

/// The runtime of one command: one thread, since hashing, writing and extracting have their own.
pub(crate) fn runtime() -> Result<Runtime, Error> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::io("start the network runtime"))
}
