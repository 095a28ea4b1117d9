//! `kelp load` from a URL.

use std::fs;
use std::process::Command;

use crate::env::Env;
use crate::http::serve;

#[test]
fn a_load_takes_a_url_and_nothing_that_is_cut() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let id = || env.kelp(&["images", "-q", "--no-trunc", &image]).succeeds();
    let own = id();
    let archive = env.path("h/archive.tar");
    env.kelp(&["save", "-q", "-o", archive.to_str().unwrap(), &image])
        .succeeds();
    let plain = fs::read(&archive).unwrap();
    assert!(
        Command::new("gzip")
            .arg("-1")
            .arg(&archive)
            .status()
            .unwrap()
            .success()
    );
    let packed = fs::read(env.path("h/archive.tar.gz")).unwrap();
    let remove = || drop(env.kelp(&["rmi", &image]).succeeds());
    let loaded = format!("Loaded image: {image}\n");
    let answers = vec![
        ("302 Found\r\nLocation: /elsewhere", Vec::new(), 0),
        ("200 OK", plain.clone(), plain.len()),
        ("200 OK", packed.clone(), packed.len()),
        ("200 OK", packed[..packed.len() / 2].to_vec(), packed.len()),
        ("404 Not Found", Vec::new(), 0),
        ("200 OK", b"<html>no archive</html>".to_vec(), 23),
    ];
    let (address, server) = serve(answers);
    let url = format!("http://{address}/archive.tar");
    remove();
    let load = ["load", "-q", "-i", &url];
    assert_eq!(env.kelp(&load).succeeds(), loaded);
    assert_eq!(id(), own);
    remove();
    assert_eq!(env.kelp(&["image", "load", "-q", &url]).succeeds(), loaded);
    assert_eq!(id(), own);
    remove();
    env.kelp(&load).fails(125);
    let line = env.kelp(&load).fails(125);
    assert!(
        line.ends_with("/archive.tar: the server answered 404 Not Found"),
        "{line}"
    );
    env.kelp(&load).fails(125);
    server.join().unwrap();
    // Nobody serves there any more.
    env.kelp(&load).fails(125);
    assert_eq!(env.kelp(&["images", "-a", "-q"]).succeeds(), "");
    let blobs = fs::read_dir(env.path("d/kelp/blobs/sha256"))
        .unwrap()
        .count();
    assert_eq!(blobs, 0);
    let line = env.kelp(&["load", "archive.tar"]).fails(125);
    assert_eq!(
        line,
        "Error: archive.tar is no http or https URL: use --input archive.tar for a file"
    );
    env.kelp(&["load", "-i", "x", &url]).done().exits(125);
}
