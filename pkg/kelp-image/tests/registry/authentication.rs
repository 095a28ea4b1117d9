//! Passwords and tokens, and that they stay with their host.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use kelp_image::auth::{AuthFiles, Credential};
use kelp_image::login::check_login;
use kelp_image::{Digest, Error};

use crate::distribution::Distribution;
use crate::fixture::Fixture;
use crate::http::Message;
use crate::image::TestImage;
use crate::scripted::{Answer, Scripted, serve_image};

fn basic(username: &str, password: &str) -> Credential {
    Credential::Basic {
        username: username.to_owned(),
        password: password.to_owned().into(),
    }
}

fn login(fixture: &Fixture, key: &str, username: &str, password: &str) {
    let files = AuthFiles::find(&fixture.options.access.paths, None);
    files.login(key, username, password).unwrap();
}

/// Runs a program that a test needs.
pub(crate) fn run(program: &str, arguments: &[&str], directory: &Path) {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Whether a program is there; says so if not.
pub(crate) fn has(program: &str, package: &str) -> bool {
    let there = Command::new(program).arg("--help").output().is_ok();
    if !there {
        eprintln!("skipped: {program} is not installed (Debian's {package})");
    }
    there
}

#[test]
fn a_password_is_asked_for_and_sent() {
    if !Distribution::is_installed() || !has("htpasswd", "apache2-utils") {
        return;
    }
    let fixture = Fixture::new();
    let root = fixture.root.path();
    let image = TestImage::new("password", "amd64", &[1000]);
    image.push(&Distribution::plain(root).address, "private", "latest");
    run("htpasswd", &["-Bbc", "users", "user", "pass:word"], root);
    let users = root.join("users");
    let auth = format!(
        "auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
        users.display()
    );
    let registry = Distribution::start(root, "", &auth);
    let name = format!("{}/private", registry.address);

    let error = fixture.pull(&name).unwrap_err();
    assert!(matches!(error, Error::Denied(_)), "{error}");
    let hint = format!("kelp login {}", registry.address);
    assert!(error.to_string().contains(&hint), "{error}");

    let access = &fixture.options.access;
    check_login(&registry.address, &basic("user", "pass:word"), access).unwrap();
    let error = check_login(&registry.address, &basic("user", "wrong"), access).unwrap_err();
    assert!(matches!(error, Error::Denied(_)), "{error}");
    assert!(error.to_string().contains("invalid username/password"));

    login(&fixture, &registry.address, "user", "wrong");
    assert!(matches!(fixture.pull(&name), Err(Error::Denied(_))));
    login(&fixture, &registry.address, "user", "pass:word");
    assert_eq!(fixture.pull(&name).unwrap(), image.id());
}

#[test]
fn credentials_of_the_command_line_go_to_the_named_registry_alone() {
    let mut fixture = Fixture::new();
    let image = TestImage::new("creds", "amd64", &[10]);
    let refuse = |_: &Message| Answer::new(401, b"{}").header("WWW-Authenticate", "Basic");
    let mirror = Scripted::start(refuse);
    let served = image.clone();
    let origin = Scripted::start(move |request| match request.header("authorization") {
        None => refuse(request),
        Some(_) => serve_image(&served, request),
    });
    fixture.configure(
        "registries.conf",
        &format!(
            "[[registry]]\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{}\"\n",
            origin.address, mirror.address
        ),
    );
    fixture.options.access.credentials = Some(basic("u", "p"));
    let id = fixture.pull(&format!("{}/x", origin.address)).unwrap();
    assert_eq!(id, image.id());
    assert!(
        mirror
            .requests("GET")
            .iter()
            .all(|request| request.header("authorization").is_none())
    );
}

/// A registry with tokens: its token server signs with a key that the registry knows.
struct TokenServer {
    server: Scripted,
    issued: Arc<AtomicUsize>,
}

impl TokenServer {
    fn start(directory: &Path) -> Self {
        run(
            "openssl",
            &[
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-keyout",
                "sign.key",
                "-out",
                "sign.crt",
                "-subj",
                "/CN=tokens",
                "-days",
                "2",
            ],
            directory,
        );
        run(
            "openssl",
            &[
                "x509", "-in", "sign.crt", "-outform", "DER", "-out", "sign.der",
            ],
            directory,
        );
        let directory = directory.to_owned();
        let issued = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&issued);
        let server = Scripted::start(move |request| {
            let user = request.header("authorization");
            if user.is_some_and(|user| user != format!("Basic {}", STANDARD.encode("u:p"))) {
                return Answer::new(401, b"{}");
            }
            count.fetch_add(1, Ordering::SeqCst);
            let may_pull = user.is_some() || request.target().contains("public");
            let token = sign(&directory, request.target(), may_pull);
            let answer = serde_json::json!({"access_token": token, "expires_in": 60});
            Answer::new(200, answer.to_string().as_bytes())
        });
        Self { server, issued }
    }

    fn configuration(&self, directory: &Path) -> String {
        format!(
            "auth:\n  token:\n    realm: http://{}/token\n    service: test\n    issuer: tests\n\
             \x20   rootcertbundle: {}\n",
            self.server.address,
            directory.join("sign.crt").display()
        )
    }
}

/// A JSON web token for the scope in a request's query, signed by openssl.
fn sign(directory: &Path, target: &str, may_pull: bool) -> String {
    let scope = target
        .split(['?', '&'])
        .find_map(|pair| pair.strip_prefix("scope="))
        .unwrap_or_default()
        .replace("%3A", ":")
        .replace("%2F", "/");
    let parts: Vec<&str> = scope.split(':').collect();
    let access = match parts.as_slice() {
        ["repository", name, "pull"] if may_pull => {
            serde_json::json!([{"type": "repository", "name": name, "actions": ["pull"]}])
        }
        _ => serde_json::json!([]),
    };
    let certificate = STANDARD.encode(fs::read(directory.join("sign.der")).unwrap());
    let header = serde_json::json!({"typ": "JWT", "alg": "RS256", "x5c": [certificate]});
    let claims = serde_json::json!({
        "iss": "tests", "sub": "u", "aud": "test", "nbf": 0, "iat": 0, "exp": 32_503_680_000_u64,
        "jti": "1", "access": access,
    });
    let encode = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&header), encode(&claims));
    let work = tempfile::tempdir().unwrap();
    let (input, output) = (work.path().join("in"), work.path().join("out"));
    fs::write(&input, &signed).unwrap();
    let key = directory.join("sign.key");
    let paths = [&key, &output, &input].map(|path| path.to_str().unwrap());
    let [key, output_path, input] = paths;
    run(
        "openssl",
        &["dgst", "-sha256", "-sign", key, "-out", output_path, input],
        work.path(),
    );
    let signature = URL_SAFE_NO_PAD.encode(fs::read(&output).unwrap());
    format!("{signed}.{signature}")
}

#[test]
fn tokens_are_fetched_from_the_registrys_token_server() {
    if !Distribution::is_installed() || !has("openssl", "openssl") {
        return;
    }
    let fixture = Fixture::new();
    let root = fixture.root.path();
    let image = TestImage::new("token", "amd64", &[1000, 2000, 3000]);
    {
        let plain = Distribution::plain(root);
        image.push(&plain.address, "team/public", "latest");
        image.push(&plain.address, "team/private", "latest");
    }
    let tokens = TokenServer::start(root);
    let registry = Distribution::start(root, "", &tokens.configuration(root));

    let public = format!("{}/team/public", registry.address);
    assert_eq!(fixture.pull(&public).unwrap(), image.id());
    assert_eq!(tokens.issued.load(Ordering::SeqCst), 1, "one for the pull");

    let private = format!("{}/team/private", registry.address);
    let error = fixture.pull(&private).unwrap_err();
    assert!(matches!(error, Error::Denied(_)), "{error}");

    let wrong = check_login(
        &registry.address,
        &basic("u", "wrong"),
        &fixture.options.access,
    );
    assert!(matches!(wrong, Err(Error::Denied(_))), "{wrong:?}");
    check_login(&registry.address, &basic("u", "p"), &fixture.options.access).unwrap();

    // For the namespace only.
    login(&fixture, &format!("{}/team", registry.address), "u", "p");
    assert_eq!(fixture.pull(&private).unwrap(), image.id());
}

/// Serves an image to whoever shows the newest token; each lasts for two requests.
fn forgetful(image: &TestImage, token_requests: Arc<OnceLock<Scripted>>) -> Scripted {
    let (image, uses) = (image.clone(), AtomicUsize::new(0));
    Scripted::start(move |request| {
        if request.target() == "/v2/" {
            return Answer::new(200, b"{}");
        }
        let realm = &token_requests.get().unwrap().address;
        let issued = token_requests.get().unwrap().requests("token").len();
        let wanted = format!("Bearer token-{issued}");
        let is_known = request.header("authorization") == Some(wanted.as_str());
        if !is_known || uses.fetch_add(1, Ordering::SeqCst) % 3 == 2 {
            let challenge = format!("Bearer realm=\"http://{realm}/token\",service=\"s\"");
            return Answer::new(401, b"{}").header("WWW-Authenticate", &challenge);
        }
        serve_image(&image, request)
    })
}

#[test]
fn a_token_that_expires_during_a_pull_is_renewed() {
    let fixture = Fixture::new();
    let image = TestImage::new("expires", "amd64", &[1000; 3]);
    let tokens = Arc::new(OnceLock::new());
    let registry = forgetful(&image, Arc::clone(&tokens));
    let count = AtomicUsize::new(0);
    let server = Scripted::start(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        let answer = serde_json::json!({"token": format!("token-{number}")});
        Answer::new(200, answer.to_string().as_bytes())
    });
    assert!(tokens.set(server).is_ok());
    // One layer after the other, so that the count of requests is the same every time.
    let name = format!("{}/x", registry.address);
    let mut result = fixture.pull(&name);
    for _ in 0..3 {
        if result.is_ok() {
            break;
        }
        result = fixture.pull(&name);
    }
    assert_eq!(result.unwrap(), image.id());
    assert!(tokens.get().unwrap().requests("token").len() > 1);
}

#[test]
fn an_identity_token_is_exchanged_by_post() {
    let fixture = Fixture::new();
    let image = TestImage::new("identity", "amd64", &[10]);
    let tokens = Scripted::start(|_| Answer::new(200, br#"{"access_token":"short-lived"}"#));
    let (served, realm) = (image.clone(), tokens.address.clone());
    let registry = Scripted::start(move |request| {
        if request.header("authorization") == Some("Bearer short-lived") {
            return serve_image(&served, request);
        }
        let challenge = format!("Bearer realm=\"http://{realm}/oauth2/token\",service=\"s\"");
        Answer::new(401, b"{}").header("WWW-Authenticate", &challenge)
    });
    let auth = serde_json::json!({"auths": {&registry.address: {"identitytoken": "long lived"}}});
    fixture.configure("auth.json", &auth.to_string());
    let id = fixture.pull(&format!("{}/a/b", registry.address)).unwrap();
    assert_eq!(id, image.id());
    let request = tokens.requests("POST /oauth2/token").remove(0);
    assert_eq!(
        String::from_utf8(request.body).unwrap(),
        "grant_type=refresh_token&client_id=kelp&refresh_token=long+lived&service=s\
         &scope=repository%3Aa%2Fb%3Apull"
    );
}

#[test]
fn cve_2020_15157_credentials_are_not_sent_along_a_redirect() {
    let fixture = Fixture::new();
    let image = TestImage::new("redirected", "amd64", &[1000]);
    let layer = Digest::of(&image.layers[0]).to_string();
    // Another host that asks for a password itself, as the attack did.
    let served = image.clone();
    let asked = AtomicUsize::new(0);
    let greedy = Scripted::start(move |request| {
        if asked.fetch_add(1, Ordering::SeqCst) == 0 {
            return Answer::new(401, b"{}").header("WWW-Authenticate", "Basic realm=\"cdn\"");
        }
        serve_image(&served, request)
    });
    let (served, cdn) = (image.clone(), greedy.address.clone());
    let wanted = format!("Basic {}", STANDARD.encode("u:p"));
    let registry = Scripted::start(move |request| {
        if request.header("authorization") != Some(wanted.as_str()) {
            return Answer::new(401, b"{}").header("WWW-Authenticate", "Basic realm=\"r\"");
        }
        if request.target().ends_with(&layer) {
            let location = format!("http://{cdn}{}", request.target());
            return Answer::new(307, b"").header("Location", &location);
        }
        serve_image(&served, request)
    });
    login(&fixture, &registry.address, "u", "p");
    let name = format!("{}/x", registry.address);
    let error = fixture.pull(&name).unwrap_err();
    assert!(matches!(error, Error::Denied(_)), "{error}");
    // A well-behaved one serves the blob without any.
    assert_eq!(fixture.pull(&name).unwrap(), image.id());
    let requests = greedy.requests("GET");
    assert_eq!(requests.len(), 2);
    assert!(
        requests
            .iter()
            .all(|request| request.header("authorization").is_none())
    );
}

#[test]
fn a_credential_helper_is_asked() {
    use std::os::unix::fs::PermissionsExt;

    // Helpers are found by $PATH, which only another process can have set differently.
    const CHILD: &str = "KELP_TEST_HAS_HELPER";
    if std::env::var_os(CHILD).is_some() {
        return pull_with_helper();
    }
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("docker-credential-kelptest");
    let script = "#!/bin/sh\nread -r server\n\
        [ \"$1\" = get ] && echo '{\"Username\":\"helped\",\"Secret\":\"secret\"}'\n";
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "authentication::a_credential_helper_is_asked"])
        .env("PATH", directory.path())
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
}

fn pull_with_helper() {
    let fixture = Fixture::new();
    let image = TestImage::new("helper", "amd64", &[10]);
    let served = image.clone();
    let wanted = format!("Basic {}", STANDARD.encode("helped:secret"));
    let registry = Scripted::start(move |request| {
        if request.header("authorization") == Some(wanted.as_str()) {
            return serve_image(&served, request);
        }
        Answer::new(401, b"{}").header("WWW-Authenticate", "Basic realm=\"r\"")
    });
    let auth = serde_json::json!({"credHelpers": {&registry.address: "kelptest"}});
    fixture.configure("auth.json", &auth.to_string());
    let name = format!("{}/x", registry.address);
    assert_eq!(fixture.pull(&name).unwrap(), image.id());
    let auth = serde_json::json!({"credsStore": "kelpmissing"});
    fixture.configure("auth.json", &auth.to_string());
    let error = fixture.pull(&name).unwrap_err().to_string();
    assert!(error.contains("docker-credential-kelpmissing"), "{error}");
    assert!(error.contains("$PATH"), "{error}");
}
