//! zstd:chunked images, as podman and skopeo make them: of the next one, only what is new is fetched.

use serde_json::Value;

use crate::archive::{Layer, noise};
use crate::env::Env;
use crate::image::Image;
use crate::lists::raw;
use crate::skip;
use crate::transports::skopeo;

/// An image of one layer, so that there is something to be changed in it.
fn sample(version: &str) -> Image {
    let data = Layer::default()
        .directory("data", 0o755)
        .file("data/large", 0o644, &noise(1, 400_000))
        .file("data/other", 0o644, &noise(2, 400_000))
        .file("data/version", 0o644, version.as_bytes());
    Image::busybox().layer(data)
}

#[test]
fn of_a_changed_layer_what_is_new_is_fetched() {
    let Some(env) = Env::new() else { return };
    if skip::lacks("skopeo") {
        return;
    }
    let registry = env.registry().address.clone();
    let mut said = String::new();
    for version in ["one", "two"] {
        let plain = env.push(&format!("chunked-plain-{version}"), &|| sample(version));
        let name = format!("{registry}/chunked:{version}");
        skopeo(
            &env,
            &[
                "copy",
                "-q",
                "--src-tls-verify=false",
                "--dest-tls-verify=false",
                "--dest-compress-format",
                "zstd:chunked",
                &format!("docker://{plain}"),
                &format!("docker://{name}"),
            ],
        );
        let pull = env.kelp(&["pull", "--tls-verify=false", &name]).done();
        assert_eq!(pull.code, 0, "{pull:?}");
        said = pull.stderr;
        let file = env.kelp(&["run", "--rm", &name, "cat", "/data/version"]);
        assert_eq!(file.succeeds(), version);
    }
    assert!(said.contains("are here, in other layers"), "{said}");
    // It is what the registry has, and leaves as that.
    let name = format!("{registry}/chunked:two");
    let there = format!("{registry}/elsewhere/chunked:two");
    let words = ["push", "-q", "--tls-verify=false", &name, &there];
    env.kelp(&words).succeeds();
    assert_eq!(raw(&env, &name), raw(&env, &there));
    let manifest: Value = serde_json::from_str(&raw(&env, &there)).unwrap();
    let layer = manifest["layers"].as_array().unwrap().last().unwrap();
    let annotations = layer["annotations"].to_string();
    assert!(annotations.contains("zstd-chunked"), "{annotations}");
    env.kelp(&["system", "check"]).succeeds();
}
