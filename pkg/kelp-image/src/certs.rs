//! TLS for a registry: which certificates are trusted, and which are shown (containers-certs.d(5)).
//!
//! The machine's own bundle is trusted; Mozilla's, built in, where the machine has none. A
//! directory named for the registry adds to that: `*.crt` are certificates to trust, and a
//! `NAME.cert` with its `NAME.key` is shown to the registry. A certificate shown is a credential of
//! one host, so another host's TLS is always configured by that host's own name; and what `--cert-dir` holds is shown
//! to none that the registry or a manifest leads to.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::Error;
use crate::config_paths::ConfigPaths;

/// Where a registry's certificates may be.
#[derive(Debug, Clone)]
pub struct CertDirectories {
    bases: Vec<PathBuf>,
    only: Option<PathBuf>,
}

impl CertDirectories {
    /// Finds the directories; `only` (`--cert-dir`) takes the place of all of them.
    pub fn find(paths: &ConfigPaths, only: Option<&Path>) -> Self {
        let system = [
            paths.system_containers("certs.d"),
            paths.etc.join("docker/certs.d"),
        ];
        Self {
            bases: paths
                .user_containers("certs.d")
                .into_iter()
                .chain(system)
                .collect(),
            only: only.map(Path::to_owned),
        }
    }

    /// The directory for `host[:port]`, if there is one.
    fn directory(&self, host: &str) -> Option<PathBuf> {
        if let Some(only) = &self.only {
            return Some(only.clone());
        }
        // A URL leaves out the usual port, a directory's name may have it.
        let names = [host.to_owned(), format!("{host}:443")];
        let known = if has_port(host) {
            &names[..1]
        } else {
            &names[..]
        };
        self.bases
            .iter()
            .flat_map(|base| known.iter().map(|name| base.join(name)))
            .find(|directory| directory.is_dir())
    }

    /// Whether one directory is there for all hosts.
    pub(crate) fn is_for_all(&self) -> bool {
        self.only.is_some()
    }

    /// TLS for `host[:port]`. With `verify` false, any certificate will do; with `shows` false none is shown.
    pub(crate) fn client_config(
        &self,
        host: &str,
        verify: bool,
        shows: bool,
    ) -> Result<ClientConfig, Error> {
        let files = match self.directory(host) {
            Some(directory) => CertFiles::read(&directory)?,
            None => CertFiles::default(),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = if verify {
            let mut roots = system_roots().clone();
            for certificate in &files.trusted {
                roots.add(certificate.clone()).map_err(|error| {
                    Error::Invalid(format!("a certificate for {host} is unusable: {error}"))
                })?;
            }
            let webpki =
                WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(&provider))
                    .build()
                    .map_err(|error| Error::Invalid(format!("certificates: {error}")))?;
            Arc::new(Verifier {
                webpki,
                pinned: files.trusted,
            })
        } else {
            Arc::new(AnyCertificate(Arc::clone(&provider)))
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Invalid(format!("TLS: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        match files.identity.filter(|_| shows) {
            None => Ok(builder.with_no_client_auth()),
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|error| {
                Error::Invalid(format!(
                    "the client certificate for {host} does not go with its key: {error}"
                ))
            }),
        }
    }
}

fn has_port(host: &str) -> bool {
    // An IPv6 address in brackets has colons of its own.
    host.rsplit(']')
        .next()
        .is_some_and(|rest| rest.contains(':'))
}

/// What a directory of certificates holds.
#[derive(Debug, Default)]
struct CertFiles {
    trusted: Vec<CertificateDer<'static>>,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl CertFiles {
    fn read(directory: &Path) -> Result<Self, Error> {
        let failed = |error: io::Error| {
            Error::io(format!("read the certificates in {}", directory.display()))(error)
        };
        let mut names = Vec::new();
        match fs::read_dir(directory) {
            Ok(entries) => {
                for entry in entries {
                    names.push(entry.map_err(failed)?.path());
                }
            }
            // Other users' directories are podman's to complain about, not a pull's.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(failed(error)),
        }
        names.sort();
        let mut files = Self::default();
        for path in names {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => files.trusted.extend(read_chain(&path)?),
                Some("cert") => {
                    let key = path.with_extension("key");
                    if !key.exists() {
                        return Err(missing(&path, &key));
                    }
                    // TLS shows one certificate; the first pair is it.
                    if files.identity.is_none() {
                        let private = PrivateKeyDer::from_pem_file(&key)
                            .map_err(|error| unreadable(&key, &error))?;
                        files.identity = Some((read_chain(&path)?, private));
                    }
                }
                Some("key") => {
                    let certificate = path.with_extension("cert");
                    if !certificate.exists() {
                        return Err(missing(&path, &certificate));
                    }
                }
                _ => {}
            }
        }
        Ok(files)
    }
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(path, &error))?;
    if chain.is_empty() {
        return Err(Error::Invalid(format!(
            "{} has no certificate in PEM form",
            path.display()
        )));
    }
    Ok(chain)
}

fn unreadable(path: &Path, error: &rustls::pki_types::pem::Error) -> Error {
    Error::Invalid(format!("{}: {error}", path.display()))
}

fn missing(of: &Path, what: &Path) -> Error {
    Error::Invalid(format!(
        "{} needs {} beside it (a certificate to trust is named *.crt)",
        of.display(),
        what.display()
    ))
}

/// The machine's trusted certificates, read once; Mozilla's where it has none.
fn system_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        let (_, _) =
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        roots
    })
}

/// webpki's verification, and one thing more: a registry's self-signed certificate from certs.d is
/// accepted as its own, although `openssl req -x509` marks such certificates as an authority's,
/// which webpki does not accept from a server. Its host name still has to fit.
#[derive(Debug)]
struct Verifier {
    webpki: Arc<WebPkiServerVerifier>,
    pinned: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.webpki.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            Err(error)
                if is_authority_as_server(&error)
                    && self.pinned.iter().any(|pinned| pinned == end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// Whether webpki's only complaint is that an authority's certificate was shown by a server; it
/// has no variant of its own in rustls.
fn is_authority_as_server(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = error else {
        return false;
    };
    other.to_string().contains("CaUsedAsEndEntity")
}

/// Accepts whatever certificate the server shows, for `--tls-verify=false`.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_directory_comes_first() {
        let root = tempfile::tempdir().unwrap();
        let paths = ConfigPaths {
            etc: root.path().join("etc"),
            config_home: Some(root.path().join("home")),
            ..ConfigPaths::default()
        };
        let directories = CertDirectories::find(&paths, None);
        let host = "r.example:5000";
        assert_eq!(directories.directory(host), None);
        for base in ["etc/docker", "etc/containers", "home/containers"] {
            let directory = root.path().join(base).join("certs.d").join(host);
            fs::create_dir_all(&directory).unwrap();
            assert_eq!(directories.directory(host), Some(directory));
        }
        assert_eq!(directories.directory("r.example"), None);
        let usual = root.path().join("etc/docker/certs.d/r.example:443");
        fs::create_dir_all(&usual).unwrap();
        assert_eq!(directories.directory("r.example"), Some(usual));
        let only = CertDirectories::find(&paths, Some(Path::new("/only")));
        assert_eq!(only.directory(host), Some(PathBuf::from("/only")));
    }

    #[test]
    fn half_a_pair_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a.key"), "").unwrap();
        let error = CertFiles::read(root.path()).unwrap_err().to_string();
        assert!(error.contains("a.cert"), "{error}");
        fs::rename(root.path().join("a.key"), root.path().join("a.cert")).unwrap();
        let error = CertFiles::read(root.path()).unwrap_err().to_string();
        assert!(error.contains("a.key"), "{error}");
        fs::rename(root.path().join("a.cert"), root.path().join("a.crt")).unwrap();
        let error = CertFiles::read(root.path()).unwrap_err().to_string();
        assert!(error.contains("PEM"), "{error}");
    }

    #[test]
    fn a_machine_without_certificates_has_the_built_in_ones() {
        assert!(!system_roots().is_empty());
    }
}
