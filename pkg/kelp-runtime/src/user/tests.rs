//! Tests of users and groups of a container.

use super::*;

use std::fs;
use std::os::unix::fs::symlink;

use rustix::fs::{CWD, FileType, Mode, mknodat};

const PASSWD: &str = "\
# comment
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin
app:x:1000:1001:App:/home/app:/bin/sh
1234:x:0:0:trap:/root:/bin/sh
huge:x:4294967296:0:overflow:/root:/bin/sh
minus:x:-1:0:negative:/root:/bin/sh
empty:x::0:none:/root:/bin/sh
word:x:zero:0:word:/root:/bin/sh
short:x:5
bare:x:6:7
app:x:2000:2000:second:/nowhere:/bin/sh
+nis::::::
";

const GROUP: &str = "\
root:x:0:root
bin:x:1:root,daemon
app:x:1001:
wheel:x:10:root, app ,other
video:x:27:app,app
notapp:x:28:apple,xapp
bad:x:99999999999:app
777:x:5:
";

fn lookup(user: &str, more: &[&str]) -> Result<User, String> {
    look_up(Ok(PASSWD.into()), Ok(GROUP.into()), user, more).map_err(|error| error.to_string())
}

#[test]
fn users_and_groups_by_name_and_number() {
    for (spec, more, uid, gid, groups, home) in [
        ("", &[][..], 0, 0, &[0, 1, 10][..], c"/root"),
        ("root", &[], 0, 0, &[0, 1, 10], c"/root"),
        ("0", &[], 0, 0, &[0, 1, 10], c"/root"),
        ("app", &[], 1000, 1001, &[1001, 10, 27], c"/home/app"),
        ("1000", &[], 1000, 1001, &[1001, 10, 27], c"/home/app"),
        // A group that is given leaves the user's own groups out.
        ("app:bin", &[], 1000, 1, &[1], c"/home/app"),
        ("app:4242", &[], 1000, 4242, &[4242], c"/home/app"),
        ("app:", &[], 1000, 1001, &[1001, 10, 27], c"/home/app"),
        (":bin", &[], 0, 1, &[1], c"/root"),
        ("4242", &[], 4242, 0, &[0], c"/"),
        ("4242:app", &[], 4242, 1001, &[1001], c"/"),
        ("2147483647", &[], 2_147_483_647, 0, &[0], c"/"),
        ("007", &[], 7, 0, &[0], c"/"),
        (
            "app",
            &["video", "27", "5", "bin"],
            1000,
            1001,
            &[1001, 10, 27, 5, 1],
            c"/home/app",
        ),
        ("bare", &[], 6, 7, &[7], c"/"),
        // Digits are a number, whoever is named so.
        ("1234", &[], 1234, 0, &[0], c"/"),
        ("app:777", &[], 1000, 777, &[777], c"/home/app"),
    ] {
        let user = lookup(spec, more).unwrap();
        assert_eq!((user.uid, user.gid), (uid, gid), "{spec}");
        assert_eq!(user.groups, groups, "{spec}");
        assert_eq!(user.home.as_c_str(), home, "{spec}");
    }
}

#[test]
fn cve_2024_40635_ids_out_of_range_are_errors() {
    for spec in [
        "2147483648",
        "4294967295",
        "4294967296",
        "18446744073709551616",
        "99999999999999999999999999",
        "-1",
        "+0",
        "app:4294967296",
        "0:-1",
    ] {
        let error = lookup(spec, &[]).unwrap_err();
        assert!(error.contains("out of range"), "{spec}: {error}");
    }
    assert!(lookup("app", &["4294967296"]).is_err());
    // Lines whose id is out of range or no number do not exist.
    for name in ["huge", "minus", "empty", "word", "short", "+nis", "#"] {
        let want = format!("unable to find user {name}: no matching entries in passwd file");
        assert_eq!(lookup(name, &[]).unwrap_err(), want);
    }
    assert_eq!(
        lookup("app:bad", &[]).unwrap_err(),
        "unable to find group bad: no matching entries in group file"
    );
    assert_eq!(
        lookup("app", &["nobody"]).unwrap_err(),
        "unable to find group nobody: no matching entries in group file"
    );
    assert_eq!(
        lookup("app", &[""]).unwrap_err(),
        "a user or group name is empty"
    );
}

#[test]
fn too_many_groups_are_an_error() {
    let group: Vec<String> = (0..=MAX_GROUPS)
        .map(|gid| format!("g:x:{gid}:root"))
        .collect();
    let group = group.join("\n");
    let error = look_up(Ok(PASSWD.into()), Ok(group.into()), "", &[""; 0]).unwrap_err();
    assert_eq!(error.to_string(), "the user is in more than 65536 groups");
}

#[test]
fn random_files_never_panic() {
    let mut state = 0x1234_5678_9abc_def1_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let alphabet = b":::\n\n,0123456789-+ax#\0\xff \t/\r";
    for _ in 0..3_000 {
        let mut file = |length: u64| -> Vec<u8> {
            (0..next() % length)
                .map(|_| match next() % 40 {
                    0 => next() as u8,
                    _ => alphabet[next() as usize % alphabet.len()],
                })
                .collect()
        };
        let (passwd, group, spec) = (file(300), file(300), file(12));
        let spec = String::from_utf8_lossy(&spec).into_owned();
        if let Ok(user) = look_up(Ok(passwd), Ok(group), &spec, &[&spec]) {
            assert_eq!(user.groups[0], user.gid);
            assert!(u64::from(user.uid) <= MAX_ID && u64::from(user.gid) <= MAX_ID);
        }
    }
}

/// A root with these files.
fn container(passwd: Option<&str>) -> (tempfile::TempDir, Root) {
    let keep = tempfile::tempdir().unwrap();
    fs::create_dir_all(keep.path().join("root/etc")).unwrap();
    if let Some(passwd) = passwd {
        fs::write(keep.path().join("root/etc/passwd"), passwd).unwrap();
    }
    let root = Root::open_host(&keep.path().join("root")).unwrap();
    (keep, root)
}

const NONE: [&str; 0] = [];

#[test]
fn files_that_are_missing_are_empty() {
    let (_keep, root) = container(None);
    let user = resolve(&root, "7:8", &NONE).unwrap();
    assert_eq!((user.uid, user.gid), (7, 8));
    assert!(resolve(&root, "root", &NONE).is_err());
    let (_keep, root) = container(Some(PASSWD));
    assert_eq!(resolve(&root, "app", &NONE).unwrap().groups, [1001]);
}

#[test]
fn cve_2024_9676_passwd_is_never_a_link_outside_nor_a_fifo() {
    let (keep, root) = container(None);
    let passwd = keep.path().join("root/etc/passwd");
    fs::write(keep.path().join("secret"), "root:x:0:0::/leak:\n").unwrap();
    symlink(keep.path().join("secret"), &passwd).unwrap();
    assert_eq!(resolve(&root, "0", &NONE).unwrap().home.as_c_str(), c"/");

    // A link inside is in use, by images whose /etc is made of links.
    fs::remove_file(&passwd).unwrap();
    fs::create_dir(keep.path().join("root/store")).unwrap();
    fs::write(keep.path().join("root/store/passwd"), PASSWD).unwrap();
    symlink("/store/passwd", &passwd).unwrap();
    assert_eq!(resolve(&root, "app", &NONE).unwrap().uid, 1000);

    fs::remove_file(&passwd).unwrap();
    mknodat(CWD, &passwd, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
    assert_eq!(
        resolve(&root, "app", &NONE).unwrap_err().to_string(),
        "read the container's /etc/passwd: it is not a regular file"
    );
}

#[test]
fn a_file_that_can_not_be_read_matters_to_names_alone() {
    let bad = |path: &str| Err(Error::Spec(path.to_owned()));
    for (user, passwd, group) in [
        ("", true, true),
        ("0", true, true),
        ("root", true, true),
        ("7", true, true),
        ("7:8", true, true),
        ("7:bin", true, false),
        ("app", false, false),
        ("app:bin", false, false),
        ("app:8", false, true),
        ("nobody", false, false),
    ] {
        let found = look_up(bad("passwd"), Ok(GROUP.into()), user, &NONE);
        assert_eq!(found.is_ok(), passwd, "{user}");
        if let Ok(found) = found {
            assert_eq!((found.home.as_c_str(), found.name), (c"/", None), "{user}");
        }
        let found = look_up(Ok(PASSWD.into()), bad("group"), user, &NONE);
        assert_eq!(found.is_ok(), group, "{user}");
        let found = look_up(Ok(PASSWD.into()), bad("group"), user, &["1", "bin"]);
        assert!(found.is_err(), "{user}");
    }
    let root = look_up(bad("passwd"), bad("group"), "root", &["7"]).unwrap();
    assert_eq!((root.uid, root.gid, root.groups), (0, 0, vec![0, 7]));
}

#[test]
fn containerd_2026_47262_an_endless_file_is_refused() {
    let (keep, root) = container(None);
    // Sparse: large without taking space.
    let group = fs::File::create(keep.path().join("root/etc/group")).unwrap();
    group.set_len(1 << 40).unwrap();
    assert_eq!(
        resolve(&root, "0:bin", &NONE).unwrap_err().to_string(),
        "read the container's /etc/group: it is too large"
    );
}
