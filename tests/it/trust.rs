//! policy.json and signatures: what peers have signed is accepted here, what kelp has signed by them, and
//! what a rule refuses leaves nothing.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::env::Env;
use crate::http;
use crate::image::{Image, digest};
use crate::inventory::{self, Inventory};
use crate::kelp::Kelp;
use crate::registry::Registry;
use crate::skip::lacks;

/// A world with a registry of its own, in which signatures are kept.
struct World {
    env: Env,
    registry: Registry,
}

impl World {
    fn new() -> Option<Self> {
        let env = Env::new()?;
        if ["skopeo", "gpg", "openssl", "curl"].into_iter().any(lacks) {
            return None;
        }
        let registry = Registry::own();
        let address = registry.address.as_str();
        fs::write(
            env.path("c/containers/registries.conf"),
            format!("[[registry]]\nlocation = \"{address}\"\ninsecure = true\n"),
        )
        .unwrap();
        // kelp's configuration is skopeo's.
        fs::create_dir_all(env.path("h/.config")).unwrap();
        std::os::unix::fs::symlink(env.path("c/containers"), env.path("h/.config/containers"))
            .unwrap();
        fs::create_dir_all(env.path("c/containers/registries.d")).unwrap();
        fs::write(
            env.path("c/containers/registries.d/test.yaml"),
            format!(
                "docker:\n  {address}:\n    lookaside: file://{}\n    \
                 use-sigstore-attachments: true\n",
                env.path("h/sigstore").display()
            ),
        )
        .unwrap();
        let world = Self { env, registry };
        world.policy(&json!([{"type": "insecureAcceptAnything"}]));
        Some(world)
    }

    fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.registry.address)
    }

    fn push(&self, repository: &str) {
        self.registry.push_once(repository, &Image::busybox);
    }

    /// The rule for the registry; what is anywhere else is refused.
    fn policy(&self, rule: &Value) {
        let policy = json!({
            "default": [{"type": "reject"}],
            "transports": {
                "docker": {&self.registry.address: rule},
                "dir": {"": [{"type": "insecureAcceptAnything"}]},
            },
        });
        fs::write(
            self.env.path("c/containers/policy.json"),
            policy.to_string(),
        )
        .unwrap();
    }

    /// Another program of this world.
    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = self.env.program(program);
        command.args(arguments);
        output(command)
    }

    fn skopeo(&self, arguments: &[&str]) -> Command {
        let mut command = self.env.program("skopeo");
        command
            .args(["--policy", &self.env.word("c/containers/policy.json")])
            .args([
                "--registries.d",
                &self.env.word("c/containers/registries.d"),
            ])
            .args(arguments);
        command
    }

    /// A key pair of gpg's; the files with the secret key and the public one.
    fn gpg_key(&self, address: &str) -> (String, String) {
        self.run(
            "gpg",
            &[
                "--batch",
                "--passphrase",
                "",
                "--quick-gen-key",
                address,
                "default",
                "default",
                "never",
            ],
        );
        let (secret, public) = (
            self.env.word(&format!("h/{address}.asc")),
            self.env.word(&format!("h/{address}.pub")),
        );
        let export = |what: &str, file: &str| {
            self.run(
                "gpg",
                &["--batch", "--armor", "--output", file, what, address],
            );
        };
        export("--export-secret-keys", &secret);
        export("--export", &public);
        // Its agent would outlive the test.
        self.run("gpgconf", &["--kill", "all"]);
        (secret, public)
    }

    /// A key pair for sigstore; the files with the private key, the public one and the passphrase.
    fn sigstore_key(&self, name: &str) -> (String, String, String) {
        let prefix = self.env.word(&format!("h/{name}"));
        let passphrase = self.env.word("h/passphrase");
        fs::write(&passphrase, "a secret\n").unwrap();
        let generate = [
            "image",
            "trust",
            "generate-sigstore-key",
            "--output-prefix",
            &prefix,
        ];
        // There is no key without a passphrase.
        self.env.kelp(&generate).done().exits(125);
        let with = ["--passphrase-file", &passphrase];
        self.env.kelp(&[&generate[..], &with].concat()).succeeds();
        (
            format!("{prefix}.private"),
            format!("{prefix}.pub"),
            passphrase,
        )
    }

    fn pulls(&self, image: &str) {
        self.env.kelp(&["pull", "-q", &self.name(image)]).succeeds();
    }

    /// A pull fails, and nothing is left of it.
    fn refuses(&self, image: &str) -> String {
        let before = self.stored();
        let line = self.env.kelp(&["pull", "-q", &self.name(image)]).fails(125);
        let changed = inventory::difference(&before, &self.stored());
        assert!(changed.is_empty(), "{line}\n{changed}");
        assert!(line.contains("policy.json"), "{line}");
        line
    }

    /// What the store has.
    fn stored(&self) -> Inventory {
        inventory::of(&self.env.path("d/kelp"))
    }

    /// skopeo brings an image into a directory, as its policy says.
    fn skopeo_accepts(&self, image: &str) -> bool {
        let target = format!("dir:{}", self.env.word("h/copied"));
        let source = format!("docker://{}", self.name(image));
        let copied = self
            .skopeo(&["copy", "--src-tls-verify=false", &source, &target])
            .output()
            .unwrap();
        if !copied.status.success() {
            let text = String::from_utf8_lossy(&copied.stderr).into_owned();
            assert!(text.contains("Source image rejected"), "{text}");
        }
        copied.status.success()
    }
}

fn output(command: Command) -> String {
    Kelp::new(command).done().exits(0)
}

fn signed_by(key: &str) -> Value {
    json!([{"type": "signedBy", "keyType": "GPGKeys", "keyPath": key}])
}

fn sigstore_signed(key: &str) -> Value {
    json!([{"type": "sigstoreSigned", "keyPath": key}])
}

#[test]
fn what_a_rule_rejects_leaves_nothing() {
    let Some(world) = World::new() else { return };
    world.push("a");
    world.push("b");
    world.policy(&json!([{"type": "reject"}]));
    let line = world.refuses("a:latest");
    let address = &world.registry.address;
    assert!(
        line.contains(&format!(
            "is rejected by the rule for docker: {address} in "
        )),
        "{line}"
    );
    assert!(line.contains("kelp image trust set"), "{line}");
    // The same for a run, which would pull.
    let run = world
        .env
        .kelp(&["run", "--rm", &world.name("a"), "true"])
        .done();
    assert!(run.stderr.contains("is rejected by"), "{run:#?}");
    run.exits(125);
    assert_eq!(world.stored(), Inventory::new());
    // What the line says is the way out.
    let policy = world.env.word("c/containers/policy.json");
    let set = [
        "image",
        "trust",
        "set",
        "--signature-policy",
        &policy,
        "--type",
        "accept",
    ];
    world
        .env
        .kelp(&[&set[..], &[&world.name("a")]].concat())
        .succeeds();
    world.pulls("a:latest");
    // The same image, blob for blob, under a name that is refused.
    let line = world.refuses("b:latest");
    assert!(line.contains("is rejected by"), "{line}");
    world
        .env
        .kelp(&["image", "exists", &world.name("b")])
        .done()
        .exits(1);
    // A policy of a file that was named, on either side.
    let lax = world.env.word("h/lax.json");
    fs::write(&lax, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
    world
        .env
        .kelp(&["pull", "-q", "--signature-policy", &lax, &world.name("b")])
        .succeeds();
    // An unchanged image is looked at again.
    world.refuses("b:latest");
}

#[test]
fn a_policy_that_is_not_understood_refuses_all() {
    let Some(world) = World::new() else { return };
    world.push("a");
    world.policy(&json!([{"type": "insecureAcceptAnything", "unless": "Tuesday"}]));
    let line = world.refuses("a:latest");
    assert!(line.contains("unknown field `unless`"), "{line}");
    // Of one that was named the same holds, and it must be there.
    let nowhere = world.env.word("h/nowhere.json");
    for words in [
        &["pull", "-q", "--signature-policy", &nowhere, "x"][..],
        &["image", "trust", "show", "--signature-policy", &nowhere],
    ] {
        let line = world.env.kelp(words).fails(125);
        assert!(line.contains("nowhere.json"), "{line}");
    }
}

#[test]
fn simple_signatures_of_skopeo_are_accepted() {
    let Some(world) = World::new() else { return };
    for repository in ["plain", "unsigned"] {
        world.push(repository);
    }
    let (_, public) = world.gpg_key("signer@example.com");
    let (_, other) = world.gpg_key("other@example.com");
    let plain = format!("docker://{}", world.name("plain:latest"));
    for tag in ["signed", "other"] {
        let target = format!("docker://{}", world.name(&format!("signed:{tag}")));
        let flags = ["copy", "--src-tls-verify=false", "--dest-tls-verify=false"];
        let sign = ["--sign-by", "signer@example.com", &plain, &target];
        let sign = if tag == "signed" {
            &sign[..]
        } else {
            &sign[2..]
        };
        output(world.skopeo(&[&flags[..], sign].concat()));
    }
    world.run("gpgconf", &["--kill", "all"]);
    world.policy(&signed_by(&public));
    world.pulls("signed:signed");
    // The same manifest under another tag: the signature is for a name.
    let line = world.refuses("signed:other");
    assert!(line.contains("for another name"), "{line}");
    let line = world.refuses("unsigned:latest");
    assert!(line.contains("it has no signature"), "{line}");
    assert!(
        line.contains("signatures were looked for at file:///"),
        "{line}"
    );
    world.policy(&signed_by(&other));
    let line = world.refuses("signed:signed");
    assert!(line.contains("not among those of the rule"), "{line}");
    let mut repository = signed_by(&public);
    repository[0]["signedIdentity"] = json!({"type": "matchRepository"});
    world.policy(&repository);
    world.pulls("signed:other");
}

#[test]
fn simple_signatures_of_kelp_are_accepted_by_skopeo() {
    let Some(world) = World::new() else { return };
    world.push("a");
    world.push("b");
    let (secret, public) = world.gpg_key("signer@example.com");
    let kelp = |words: &[&str]| world.env.kelp(words).succeeds();
    kelp(&[
        "image",
        "sign",
        "--sign-by",
        &secret,
        &world.name("a:latest"),
    ]);
    world.pulls("a:latest");
    kelp(&[
        "push",
        "-q",
        "--sign-by",
        "signer@example.com",
        "--sign-by-key",
        &secret,
        &world.name("a:latest"),
        &world.name("pushed:latest"),
    ]);
    world.policy(&signed_by(&public));
    for image in ["a:latest", "pushed:latest"] {
        assert!(world.skopeo_accepts(image), "{image}");
        world.pulls(image);
    }
    assert!(!world.skopeo_accepts("b:latest"));
    world.refuses("b:latest");
    // A key that is nowhere is told of before anything is sent.
    let line = world
        .env
        .kelp(&[
            "push",
            "--sign-by",
            "nobody",
            &world.name("a:latest"),
            &world.name("c:latest"),
        ])
        .fails(125);
    assert!(line.contains("--sign-by-key FILE"), "{line}");
    let shown = kelp(&["image", "trust", "show", "--noheading"]);
    assert!(shown.contains("signer@example.com"), "{shown}");
}

/// Signs a manifest as cosign does, with openssl: no peer of Debian's makes such signatures. The file with
/// the public key.
fn openssl_signs(world: &World, repository: &str, manifest: &str) -> String {
    let claim = json!({
        "critical": {
            "identity": {"docker-reference": world.name(&format!("{repository}:latest"))},
            "image": {"docker-manifest-digest": manifest},
            "type": "cosign container image signature",
        },
        "optional": null,
    })
    .to_string();
    let path = |name: &str| world.env.word(&format!("h/{name}"));
    let (key, public, payload, made) = (path("key"), path("key.pub"), path("claim"), path("made"));
    fs::write(&payload, &claim).unwrap();
    let curve = [
        "ecparam",
        "-name",
        "prime256v1",
        "-genkey",
        "-noout",
        "-out",
        &key,
    ];
    world.run("openssl", &curve);
    world.run(
        "openssl",
        &["pkey", "-in", &key, "-pubout", "-out", &public],
    );
    let sign = ["dgst", "-sha256", "-sign", &key, "-out", &made, &payload];
    world.run("openssl", &sign);
    let signature = world.run("openssl", &["base64", "-A", "-in", &made]);
    let registry = http::Registry(&world.registry.address);
    let (config, layer) = (b"{}", digest(claim.as_bytes()));
    registry.push_blob(repository, &digest(config), config);
    registry.push_blob(repository, &layer, claim.as_bytes());
    let attached = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "size": config.len(),
            "digest": digest(config),
        },
        "layers": [{
            "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
            "size": claim.len(),
            "digest": layer,
            "annotations": {"dev.cosignproject.cosign/signature": signature.trim()},
        }],
    });
    let tag = format!("{}.sig", manifest.replace(':', "-"));
    registry.push_manifest(repository, &tag, attached.to_string().as_bytes());
    public
}

#[test]
fn sigstore_signatures_go_both_ways() {
    let Some(world) = World::new() else { return };
    for repository in ["plain", "unsigned"] {
        world.push(repository);
    }
    let (private, public, passphrase) = world.sigstore_key("one");
    world.pulls("plain:latest");
    let written = world.env.word("h/digest");
    let push = |to: &str, more: &[&str]| {
        let words = ["push", "-q", "--digestfile", &written];
        let names = [&world.name("plain:latest")[..], &world.name(to)[..]];
        world
            .env
            .kelp(&[&words, more, &names[..]].concat())
            .succeeds();
        fs::read_to_string(&written).unwrap()
    };
    let sign = [
        "--sign-by-sigstore-private-key",
        &private,
        "--sign-passphrase-file",
        &passphrase,
    ];
    let manifest = push("ours:latest", &sign);
    push("theirs:latest", &[]);
    let theirs = openssl_signs(&world, "theirs", &manifest);

    // What kelp has signed, openssl finds good.
    let get = |path: &str| {
        let url = format!("http://{}/v2/ours/{path}", world.registry.address);
        let accept = "Accept: application/vnd.oci.image.manifest.v1+json";
        world.run("curl", &["-sSf", "-H", accept, &url])
    };
    let attached = get(&format!("manifests/{}.sig", manifest.replace(':', "-")));
    let attached: Value = serde_json::from_str(&attached).unwrap();
    let layer = &attached["layers"][0];
    let claim = get(&format!("blobs/{}", layer["digest"].as_str().unwrap()));
    let path = |name: &str| world.env.word(&format!("h/{name}"));
    fs::write(path("ours"), claim).unwrap();
    let signature = layer["annotations"]["dev.cosignproject.cosign/signature"].as_str();
    fs::write(path("ours.b64"), signature.unwrap()).unwrap();
    let (text, bytes) = (path("ours.b64"), path("ours.sig"));
    world.run(
        "openssl",
        &["base64", "-d", "-A", "-in", &text, "-out", &bytes],
    );
    let check = [
        "dgst",
        "-sha256",
        "-verify",
        &public,
        "-signature",
        &bytes,
        &path("ours"),
    ];
    assert_eq!(world.run("openssl", &check), "Verified OK\n");

    world.policy(&sigstore_signed(&public));
    world.pulls("ours:latest");
    let line = world.refuses("unsigned:latest");
    assert!(line.contains("it has no signature"), "{line}");
    let line = world.refuses("theirs:latest");
    assert!(line.contains("not by a key of the rule"), "{line}");
    world.policy(&sigstore_signed(&theirs));
    world.pulls("theirs:latest");
    world.refuses("ours:latest");
    // Both rules at once, of which one is not met.
    let mut both = sigstore_signed(&public);
    let more = sigstore_signed(&theirs);
    both.as_array_mut()
        .unwrap()
        .extend(more.as_array().unwrap().clone());
    world.policy(&both);
    world.refuses("ours:latest");
    // Where registries.d has them looked for nowhere, the line says so.
    world.policy(&sigstore_signed(&public));
    fs::remove_file(world.env.path("c/containers/registries.d/test.yaml")).unwrap();
    let line = world.refuses("ours:latest");
    assert!(line.contains("use-sigstore-attachments: true"), "{line}");
}

#[test]
fn files_fall_under_the_rules_of_their_transport() {
    let Some(world) = World::new() else { return };
    world.push("a");
    world.pulls("a:latest");
    let archive = world.env.word("h/a.tar");
    world
        .env
        .kelp(&["save", "-q", "-o", &archive, &world.name("a:latest")])
        .succeeds();
    world.env.kelp(&["rmi", &world.name("a:latest")]).succeeds();
    let before = world.stored();
    let line = world.env.kelp(&["load", "-q", "-i", &archive]).fails(125);
    assert!(line.contains("is rejected by the default in"), "{line}");
    assert_eq!(world.stored(), before);
    let lax = world.env.word("h/lax.json");
    let accept = json!([{"type": "insecureAcceptAnything"}]);
    let policy = json!({
        "default": [{"type": "reject"}],
        "transports": {"docker-archive": {"": accept}},
    });
    fs::write(&lax, policy.to_string()).unwrap();
    world
        .env
        .kelp(&["load", "-q", "--signature-policy", &lax, "-i", &archive])
        .succeeds();
}
