//! Artifacts whose files are written to files of the host.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::artifacts::{Artifact, two};
use crate::env::{Env, names};
use crate::image::digest;

#[test]
fn files_are_extracted_by_their_titles_or_digests() {
    let Some(env) = Env::new() else { return };
    let several = two().untitled("third\n").pulled(&env, "artifacts/several");
    let single = Artifact::new()
        .file("only", "alone\n")
        .pulled(&env, "artifacts/single");
    let third = digest(b"third\n");
    let (first, third_name) = (digest(b"first\n"), third.replace(':', "-"));
    let digest_name = first.replace(':', "-");
    for (name, flags, expected) in [
        (
            &several,
            vec![],
            vec![
                ("one", "first\n"),
                ("two", "second\n"),
                (&*third_name, "third\n"),
            ],
        ),
        (&several, vec!["--title", "two"], vec![("two", "second\n")]),
        (
            &several,
            vec!["--digest", &first],
            vec![(&*digest_name, "first\n")],
        ),
        (&single, vec![], vec![("only", "alone\n")]),
    ] {
        let directory = env.path("h/out");
        fs::create_dir(&directory).unwrap();
        let words = [
            &["artifact", "extract"],
            &flags[..],
            &[name, directory.to_str().unwrap()],
        ]
        .concat();
        assert_eq!(env.kelp(&words).succeeds(), "");
        let mut expected = expected;
        expected.sort_unstable();
        let found: Vec<_> = names(&directory)
            .into_iter()
            .map(|name| {
                (
                    name.clone(),
                    fs::read_to_string(directory.join(name)).unwrap(),
                )
            })
            .collect();
        let found: Vec<_> = found
            .iter()
            .map(|(name, content)| (name.as_str(), content.as_str()))
            .collect();
        assert_eq!(found, expected, "{flags:?}");
        fs::remove_dir_all(&directory).unwrap();
    }
    let file = env.word("h/file");
    env.kelp(&["artifact", "extract", &single, &file])
        .succeeds();
    env.kelp(&["artifact", "extract", "--title=two", &several, &file])
        .succeeds();
    assert_eq!(fs::read_to_string(&file).unwrap(), "second\n");
    let line = env
        .kelp(&["artifact", "extract", &several, &file])
        .fails(125);
    assert!(line.contains("the artifact has 3 blobs"), "{line}");
    let line = env
        .kelp(&["artifact", "extract", "--digest=blah", &single, &file])
        .fails(125);
    assert_eq!(line, "Error: no blob with the digest \"blah\"");
    let line = env
        .kelp(&["artifact", "extract", "--title=x", &single, &file])
        .fails(125);
    assert_eq!(line, "Error: no blob with the title \"x\"");
}

/// A file that is new has the mode that the user's mask leaves; one that was there, its own.
#[test]
fn what_is_extracted_is_open_to_whom_the_user_says() {
    let Some(env) = Env::new() else { return };
    let name = two().pulled(&env, "artifacts/modes");
    let directory = env.path("h/modes");
    fs::create_dir(&directory).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    for (mask, expected) in [(0o077, 0o600), (0o002, 0o664)] {
        let (new, kept) = (directory.join("one"), directory.join("two"));
        fs::write(&kept, "older").unwrap();
        fs::set_permissions(&kept, fs::Permissions::from_mode(0o640)).unwrap();
        let target = directory.to_str().unwrap();
        env.kelp_after(
            &format!("umask {mask:o}"),
            &["artifact", "extract", &name, target],
        )
        .succeeds();
        assert_eq!((mode(&new), mode(&kept)), (expected, 0o640), "{mask:o}");
        assert_eq!(fs::read_to_string(&kept).unwrap(), "second\n");
        fs::remove_file(&new).unwrap();
    }
}

/// A path that leads to what a process has open: nothing that was written before is lost.
#[test]
fn what_is_open_is_written_on() {
    let Some(env) = Env::new() else { return };
    let name = two().pulled(&env, "artifacts/open");
    let file = env.word("h/all");
    let first = format!("exec 7>{file} >&7; echo before");
    let extract = ["artifact", "extract", "--title=one", &name];
    for place in ["/dev/stdout", "/proc/self/fd/1", "/dev/fd/7"] {
        let words = [&extract[..], &[place]].concat();
        env.kelp_after(&first, &words).succeeds();
        assert_eq!(
            fs::read_to_string(&file).unwrap(),
            "before\nfirst\n",
            "{place}"
        );
    }
    let image = env.busybox();
    env.kelp_after(&first, &["save", "-q", "-o", "/dev/stdout", &image])
        .succeeds();
    assert!(fs::read(&file).unwrap().starts_with(b"before\n"));
}

/// Whoever reads an artifact has it whole, as it was or as it is.
#[test]
fn hostile_titles_lead_nowhere() {
    let Some(env) = Env::new() else { return };
    let directory = env.path("h/a/b");
    fs::create_dir_all(&directory).unwrap();
    let target = directory.to_str().unwrap();
    for (number, title) in ["../../x", "/x", "..", "a/b", "a\0b", "a\nb", "a\u{202e}b"]
        .into_iter()
        .enumerate()
    {
        let evil = Artifact::new().file("good", "good\n").file(title, "evil\n");
        let name = evil.pulled(&env, &format!("artifacts/evil-{number}"));
        let line = env.kelp(&["artifact", "extract", &name, target]).fails(125);
        assert!(
            line.contains("choose the blob by its digest"),
            "{title:?}: {line}"
        );
        assert_eq!(names(&directory), [""; 0], "{title:?}");
        assert!(!env.path("h/x").exists() && !env.path("h/a/x").exists());
        let evil = digest(b"evil\n");
        env.kelp(&["artifact", "extract", "--digest", &evil, &name, target])
            .succeeds();
        assert_eq!(names(&directory), [evil.replace(':', "-")]);
        fs::remove_file(directory.join(evil.replace(':', "-"))).unwrap();
        let target = format!("dst=/tmp,digest={evil}");
        let mount = format!("type=artifact,src={name},{target}");
        let said = env.shell(&["--mount", &mount], "cat /tmp/*");
        assert_eq!(said, "evil\n", "{title:?}");
        let mount = format!("type=artifact,src={name},dst=/tmp");
        let image = env.busybox();
        let line = env
            .kelp(&["run", "--rm", "--mount", &mount, &image, "true"])
            .fails(125);
        assert!(
            line.contains("choose the blob by its digest"),
            "{title:?}: {line}"
        );
    }
    let twice = Artifact::new().file("same", "one\n").file("same", "two\n");
    let name = twice.pulled(&env, "artifacts/twice");
    let line = env.kelp(&["artifact", "extract", &name, target]).fails(125);
    assert!(
        line.contains("several blobs of the artifact have the name \"same\""),
        "{line}"
    );
    assert_eq!(names(&directory), [""; 0]);
    // What lies in the directory is replaced, and not followed.
    let outside = env.path("h/outside");
    fs::write(&outside, "kept").unwrap();
    symlink(&outside, directory.join("one")).unwrap();
    let name = two().pulled(&env, "artifacts/linked");
    env.kelp(&["artifact", "extract", &name, target]).succeeds();
    assert_eq!(fs::read_to_string(&outside).unwrap(), "kept");
    assert_eq!(
        fs::read_to_string(directory.join("one")).unwrap(),
        "first\n"
    );
}
