//! Layers for a second id map.

use std::fs;

use crate::archive::{Layer, noise};
use crate::env::Env;
use crate::image::Image;

/// Bytes of the large file, none of them in a hole.
const SIZE: usize = 20_000_000;

fn large() -> Image {
    let bytes = noise(1, SIZE);
    Image::busybox().layer(
        Layer::default()
            .file("srv/large", 0o644, &bytes)
            .hardlink("srv/again", "srv/large")
            .owned_directory("srv/owned", 0o2750, (1000, 2000))
            .symlink("srv/link", "large")
            .whiteout("home/user")
            .opaque("root"),
    )
}

#[test]
fn where_files_can_share_blocks_another_map_takes_no_content() {
    let Some(env) = Env::of_reflinks() else {
        return;
    };
    let image = env.image("siblings", &large);
    let free = || {
        let state = rustix::fs::statvfs(env.path("d")).unwrap();
        state.f_bfree * state.f_frsize
    };
    let script = "cd /srv; stat -c '%u:%g %a %h %s' large owned link; ls /home; ls -A /root";
    let run = |userns: &str| {
        let words = [
            "run", "--rm", userns, "--user=0", &image, "sh", "-c", script,
        ];
        env.kelp(&words).succeeds()
    };
    let usual = run("--userns=host");
    let expected = format!("0:0 644 2 {SIZE}\n1000:2000 2750 2 ");
    assert!(usual.starts_with(&expected), "{usual}");
    let before = free();
    for userns in ["--userns=keep-id", "--userns=nomap"] {
        assert_eq!(run(userns), usual);
    }
    let taken = before.saturating_sub(free());
    assert!(taken < SIZE as u64 / 2, "{taken}");
    assert_eq!(fs::read_dir(env.path("d/kelp/layers")).unwrap().count(), 3);
    // Each is what its blob says.
    assert_eq!(env.kelp(&["system", "check"]).succeeds(), "");
}

#[test]
fn elsewhere_they_are_made_from_their_blobs() {
    let Some(env) = Env::new() else { return };
    let image = env.image("siblings", &large);
    let words = ["run", "--rm", "--userns=keep-id", &image, "stat", "-c%s"];
    let said = env.kelp(&[&words[..], &["/srv/large"]].concat()).succeeds();
    assert_eq!(said, format!("{SIZE}\n"));
    assert_eq!(env.kelp(&["system", "check"]).succeeds(), "");
}
