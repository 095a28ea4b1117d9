//! TLS: certificates that are unknown, known, for another name, and shown by the client.

use std::fs;
use std::path::Path;

use crate::authentication::{has, run};
use crate::distribution::Distribution;
use crate::faults::{foreign, layer_path};
use crate::fixture::Fixture;
use crate::image::TestImage;
use crate::scripted::{Answer, Scripted, serve_image};

/// Makes NAME.key and NAME.crt, self-signed as `openssl req -x509` does it: an authority's.
fn self_signed(directory: &Path, name: &str, subject: &str) {
    run(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            &format!("{name}.key"),
            "-out",
            &format!("{name}.crt"),
            "-subj",
            "/CN=test",
            "-days",
            "2",
            "-addext",
            &format!("subjectAltName={subject}"),
        ],
        directory,
    );
}

/// Makes NAME.key and NAME.crt, signed by ca.key and ca.crt.
fn signed(directory: &Path, name: &str, extensions: &str) {
    let (key, request, certificate) = (
        format!("{name}.key"),
        format!("{name}.csr"),
        format!("{name}.crt"),
    );
    run(
        "openssl",
        &[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            &key,
            "-out",
            &request,
            "-subj",
            "/CN=leaf",
        ],
        directory,
    );
    fs::write(directory.join("extensions"), extensions).unwrap();
    run(
        "openssl",
        &[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-out",
            &certificate,
            "-days",
            "2",
            "-extfile",
            "extensions",
        ],
        directory,
    );
}

/// The lines of docker-registry's configuration for TLS.
fn tls(directory: &Path, name: &str) -> String {
    format!(
        "  tls:\n    certificate: {0}/{name}.crt\n    key: {0}/{name}.key\n",
        directory.display()
    )
}

/// A fixture that verifies, with an image in its registry's storage.
fn fixture(image: &TestImage) -> Option<Fixture> {
    if !Distribution::is_installed() || !has("openssl", "openssl") {
        return None;
    }
    let mut fixture = Fixture::new();
    fixture.options.access.tls_verify = None;
    let plain = Distribution::plain(fixture.root.path());
    image.push(&plain.address, "x", "latest");
    Some(fixture)
}

/// Copies a file into the user's certs.d.
fn trust(fixture: &Fixture, host: &str, from: &str, to: &str) {
    let directory = fixture
        .root
        .path()
        .join("config/containers/certs.d")
        .join(host);
    fs::create_dir_all(&directory).unwrap();
    fs::copy(fixture.root.path().join(from), directory.join(to)).unwrap();
}

#[test]
fn a_self_signed_registry_is_trusted_by_its_certificate() {
    let image = TestImage::new("self signed", "amd64", &[3 << 20]);
    let Some(mut fixture) = fixture(&image) else {
        return;
    };
    let root = fixture.root.path().to_owned();
    self_signed(&root, "server", "IP:127.0.0.1");
    let registry = Distribution::start(&root, &tls(&root, "server"), "");
    let name = format!("{}/x", registry.address);

    let error = fixture.pull(&name).unwrap_err().to_string();
    for hint in ["certs.d", "--tls-verify=false", &registry.address] {
        assert!(error.contains(hint), "{hint}: {error}");
    }
    fixture.options.access.tls_verify = Some(false);
    assert_eq!(fixture.pull(&name).unwrap(), image.id());

    fixture.options.access.tls_verify = None;
    trust(&fixture, &registry.address, "server.crt", "ca.crt");
    assert_eq!(fixture.pull(&name).unwrap(), image.id());

    // It was made for the address and not for the name.
    let other = registry.address.replace("127.0.0.1", "localhost");
    trust(&fixture, &other, "server.crt", "ca.crt");
    let error = fixture.pull(&format!("{other}/x")).unwrap_err().to_string();
    assert!(error.contains("for another name"), "{error}");
}

#[test]
fn cert_dir_takes_the_place_of_certs_d() {
    let image = TestImage::new("cert dir", "amd64", &[10]);
    let Some(mut fixture) = fixture(&image) else {
        return;
    };
    let root = fixture.root.path().to_owned();
    self_signed(&root, "server", "IP:127.0.0.1");
    let registry = Distribution::start(&root, &tls(&root, "server"), "");
    let directory = root.join("only");
    fs::create_dir(&directory).unwrap();
    fs::copy(root.join("server.crt"), directory.join("x.crt")).unwrap();
    fixture.options.access.cert_dir = Some(directory);
    let id = fixture.pull(&format!("{}/x", registry.address)).unwrap();
    assert_eq!(id, image.id());
}

/// A registry that wants a certificate of its clients, and client.key and client.crt for it.
fn asks_for_certificates(root: &Path) -> Distribution {
    self_signed(root, "ca", "DNS:authority");
    signed(root, "server", "subjectAltName=IP:127.0.0.1");
    signed(root, "client", "extendedKeyUsage=clientAuth");
    let http = format!(
        "{}    clientcas:\n      - {}/ca.crt\n",
        tls(root, "server"),
        root.display()
    );
    Distribution::start(root, &http, "")
}

#[test]
fn what_cert_dir_holds_is_shown_to_no_other_host() {
    let image = TestImage::new("client", "amd64", &[10]);
    let Some(mut fixture) = fixture(&image) else {
        return;
    };
    let root = fixture.root.path().to_owned();
    let vendor = asks_for_certificates(&root);
    let directory = root.join("only");
    fs::create_dir(&directory).unwrap();
    for (from, to) in [
        ("ca.crt", "ca.crt"),
        ("client.crt", "client.cert"),
        ("client.key", "client.key"),
    ] {
        fs::copy(root.join(from), directory.join(to)).unwrap();
    }
    fixture.options.access.cert_dir = Some(directory);
    let id = fixture.pull(&format!("{}/x", vendor.address)).unwrap();
    assert_eq!(id, image.id());
    // A manifest leads there, and nobody has named that host.
    let image = foreign(&format!("https://{}/layers/one", vendor.address));
    let (served, path) = (image.clone(), layer_path(&image));
    let server = Scripted::start(move |request| {
        if request.target().ends_with(&path) {
            return Answer::new(404, b"{}");
        }
        serve_image(&served, request)
    });
    fixture.options.access.tls_verify = Some(false);
    let error = fixture.pull(&format!("{}/x", server.address)).unwrap_err();
    assert!(error.to_string().contains("client.cert"), "{error}");
}

#[test]
fn a_client_certificate_is_shown_where_it_belongs() {
    let image = TestImage::new("client", "amd64", &[10]);
    let Some(fixture) = fixture(&image) else {
        return;
    };
    let root = fixture.root.path().to_owned();
    let registry = asks_for_certificates(&root);
    let name = format!("{}/x", registry.address);
    trust(&fixture, &registry.address, "ca.crt", "ca.crt");

    let error = fixture.pull(&name).unwrap_err().to_string();
    assert!(error.contains("client.cert"), "{error}");
    trust(&fixture, &registry.address, "client.crt", "client.cert");
    let error = fixture.pull(&name).unwrap_err().to_string();
    assert!(error.contains("client.key"), "{error}");
    trust(&fixture, &registry.address, "client.key", "client.key");
    assert_eq!(fixture.pull(&name).unwrap(), image.id());
}

#[test]
fn plain_http_behind_an_https_name_is_explained() {
    if !Distribution::is_installed() {
        return;
    }
    let mut fixture = Fixture::new();
    fixture.options.access.tls_verify = None;
    let registry = Distribution::plain(fixture.root.path());
    let error = fixture
        .pull(&format!("{}/x", registry.address))
        .unwrap_err();
    let text = error.to_string();
    assert!(text.contains("does not speak TLS"), "{text}");
    assert!(text.contains("insecure = true"), "{text}");
}
