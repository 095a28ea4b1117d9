//! Images as registries really have them: many layers, odd names, links and holes.

use crate::archive::Layer;
use crate::env::{Env, is_old_kernel};
use crate::image::Image;

/// As many layers as the kernel's overlay is asked for by any image that builders make.
const LAYERS: usize = 128;

/// busybox and its probe, and layers that each add, replace and delete something of those below.
fn deep() -> Image {
    let mut image = Image::busybox();
    for number in 2..LAYERS {
        let mut layer = Layer::default()
            .file(&format!("deep/own-{number}"), 0o644, b"mine\n")
            .file("deep/last", 0o644, format!("{number}\n").as_bytes());
        if number > 2 && number % 2 == 1 {
            layer = layer.whiteout(&format!("deep/own-{}", number - 1));
        }
        image = image.layer(layer);
    }
    image
}

#[test]
fn an_image_of_128_layers_is_the_sum_of_them() {
    for env in Env::each() {
        let image = env.image("deep", &deep);
        let script = "cat /deep/last; cd /deep; echo own-*; echo new > own-3; rm last; ls | wc -l";
        let said = env
            .kelp(&["run", "--rm", &image, "sh", "-c", script])
            .succeeds();
        let mut odd: Vec<_> = (3..LAYERS).step_by(2).map(|n| format!("own-{n}")).collect();
        odd.sort();
        let kept = format!("{}\n{}\n{}\n", LAYERS - 1, odd.join(" "), odd.len());
        assert_eq!(said, kept);
    }
}

#[test]
fn before_linux_6_5_layers_are_named_by_their_descriptors() {
    let script = "grep ' / overlay ' /proc/self/mounts";
    for (env, old) in [(Env::new(), is_old_kernel()), (Env::of_old_kernel(), true)] {
        let Some(env) = env else { return };
        let mount = env.shell(&[], script);
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let (_, options) = mount.split_once(",lowerdir").unwrap();
        let layer = options.trim_start_matches(['+', '=']);
        let layer = layer.split([',', ':']).next().unwrap();
        assert_eq!(number(layer), old, "{mount}");
    }
}

#[test]
fn later_layers_replace_hide_and_link() {
    for env in Env::each() {
        let image = env.image("changing", &|| {
            Image::busybox()
                .layer(
                    Layer::default()
                        .file("srv/a", 0o644, b"a file\n")
                        .directory("srv/b", 0o755)
                        .file("srv/b/below", 0o644, b"hidden\n")
                        .directory("srv/c", 0o755)
                        .file("srv/c/below", 0o644, b"hidden\n")
                        .file("srv/d", 0o644, b"short-lived\n")
                        .file("srv/e/below", 0o644, b"hidden\n")
                        .file("srv/f/below", 0o644, b"hidden\n"),
                )
                .layer(
                    Layer::default()
                        .directory("srv/a", 0o755)
                        .file("srv/a/inside", 0o644, b"a directory\n")
                        .whiteout("srv/b")
                        .file("srv/b", 0o644, b"a file\n")
                        .opaque("srv/c")
                        .file("srv/c/above", 0o644, b"alone\n")
                        .file("srv/first", 0o600, b"linked\n")
                        .hardlink("srv/second", "srv/first")
                        // What is below went with the file, and is not to come back with the directory.
                        .file("srv/e", 0o644, b"short-lived\n")
                        .directory("srv/e", 0o755)
                        .file("srv/e/above", 0o644, b"alone\n")
                        // A directory that has no entry of its own.
                        .whiteout("srv/f")
                        .file("srv/f/above", 0o644, b"alone\n"),
                )
                .layer(
                    Layer::default()
                        .whiteout("srv/d")
                        .file("srv/a", 0o644, b"a file again\n"),
                )
        });
        let script = "cd /srv; echo *; echo c/* e/* f/*; cat a b c/above second; stat -c %h first; \
                  [ first -ef second ] && echo same";
        let said = env
            .kelp(&["run", "--rm", &image, "sh", "-c", script])
            .succeeds();
        let expected = "a b c e f first second\nc/above e/above f/above\na file again\na file\nalone\nlinked\n2\nsame\n";
        assert_eq!(said, expected);
    }
}

#[test]
fn an_opaque_root_hides_all_below() {
    for env in Env::each() {
        let image = env.image("opaque", &|| {
            let all = Image::busybox();
            let below = Layer::default().file("srv/below", 0o644, b"hidden\n");
            all.below(below.opaque("."))
                .below(Layer::default().file("lowest", 0o644, b"hidden\n"))
        });
        let script = "ls -d /lowest /srv/below";
        let done = env
            .kelp(&["run", "--rm", &image, "sh", "-c", script])
            .done();
        assert_eq!(done.stdout, "/srv/below\n", "{done:?}");
    }
}

#[test]
fn names_that_are_not_utf_8_stay_as_they_are() {
    for env in Env::each() {
        let image = env.image("bytes", &|| {
            Image::busybox()
                .layer(Layer::default().file_of_bytes(b"srv/\xff\xfe caf\xe9", b"bytes\n"))
        });
        let script = "cat /srv/*; for f in /srv/*; do printf %s \"${f#/srv/}\" | od -An -tx1; done";
        let said = env
            .kelp(&["run", "--rm", &image, "sh", "-c", script])
            .succeeds();
        assert_eq!(said.trim_end(), "bytes\n ff fe 20 63 61 66 e9");
    }
}

#[test]
fn a_sparse_file_of_8_gb_takes_no_room() {
    for env in Env::each() {
        let image = env.image("sparse", &|| {
            Image::busybox().layer(Layer::default().sparse_file("srv/large", 8_000_000_000, b"end"))
        });
        let script = "stat -c '%s %b' /srv/large; tail -c 3 /srv/large";
        let said = env
            .kelp(&["run", "--rm", &image, "sh", "-c", script])
            .succeeds();
        let (size, rest) = said.split_once(' ').unwrap();
        let (blocks, end) = rest.split_once('\n').unwrap();
        assert_eq!((size, end), ("8000000000", "end"));
        assert!(blocks.parse::<u64>().unwrap() <= 64, "{said}");
    }
}
