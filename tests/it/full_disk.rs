//! A file system that is too small for an image.

mod steps;

use crate::archive::{Layer, noise};
use crate::artifacts::Artifact;
use crate::env::Env;
use crate::image::Image;
use crate::kelp::around;
use crate::podman::Podman;

/// A command in a mount namespace in which a tmpfs of this size is the data directory, with what a
/// shell says after it. The user has no range of ids there: the namespace's ids could not be mapped
/// once more.
pub(crate) fn on_small_disk(
    env: &Env,
    size: &str,
    kelp: &[&str],
    after: &str,
) -> (i32, String, String) {
    let inner = env.kelp(kelp).into_command();
    let data = env.path("d");
    let script = format!(
        "mount -t tmpfs -o size={size} tmpfs '{0}' && mount --bind /dev/null /etc/subuid &&
         mount --bind /dev/null /etc/subgid || exit 99
         setpriv --ambient-caps=-all --inh-caps=-all \"$@\"; code=$?; cd '{0}'; {after}; exit $code",
        data.display()
    );
    let flags = ["--user", "--map-current-user", "--mount", "--keep-caps"];
    let shell = ["sh", "-c", &script, "sh"];
    let mut command = around(&inner, "unshare", &[flags, shell].concat());
    let output = command.current_dir("/").output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn a_pull_that_does_not_fit_says_where_and_leaves_nothing_half_done() {
    let Some(env) = Env::new() else { return };
    let image = env.push("fits-not", &|| {
        // Small to download, large to extract.
        let zeroes = vec![b'x'; 3 << 20];
        let noise = noise(1, 3 << 20);
        Image::empty()
            .layer(Layer::default().file("zeroes", 0o644, &zeroes))
            .layer(Layer::default().file("noise", 0o644, &noise))
    });
    let mount = env.path("d").display().to_string();
    let left = "ls kelp/tmp kelp/images kelp/tags; find kelp/layers -type f";
    // Too small for a download, for an extraction, for both, and large enough.
    for size in ["200k", "1m", "2m", "4m", "5m", "7m"] {
        let (code, stdout, stderr) = on_small_disk(&env, size, &["pull", "-q", &image], left);
        assert_eq!(code, 125, "{size}: {stderr}");
        let full = format!("the file system at {mount} is full: ");
        assert!(stderr.contains(&full), "{size}: {stderr}");
        assert!(
            stderr.contains("no space left on device"),
            "{size}: {stderr}"
        );
        assert_eq!(stderr.lines().count(), 1, "{size}: {stderr}");
        let half: Vec<_> = stdout.lines().filter(|line| is_half_done(line)).collect();
        assert_eq!(half, [""; 0], "{size}: {stdout}");
    }
    let (code, stdout, stderr) = on_small_disk(&env, "32m", &["pull", "-q", &image], left);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
}

#[test]
fn an_image_of_podmans_that_does_not_fit_says_where_and_leaves_nothing_half_done() {
    let Some(env) = Env::new() else { return };
    let Some(podman) = Podman::empty(&env, "vfs") else {
        return;
    };
    let image = env.push("podmans-fits-not", &|| {
        let noise = noise(5, 3 << 20);
        Image::empty().layer(Layer::default().file("noise", 0o644, &noise))
    });
    let pull = ["pull", "-q", "--tls-verify=false", &image];
    podman.run(&pull).exits(0);
    let mount = env.path("d").display().to_string();
    let root = env.word("h/storage");
    let words = ["image", "import-from", "podman", "-q", "--root", &root];
    let left = "ls kelp/tmp kelp/images kelp/tags; find kelp/layers -type f";
    for size in ["200k", "1m", "2m", "4m", "5m"] {
        let (code, stdout, stderr) = on_small_disk(&env, size, &words, left);
        assert_eq!(code, 125, "{size}: {stderr}");
        let full = format!("the file system at {mount} is full: ");
        assert!(stderr.contains(&full), "{size}: {stderr}");
        assert!(stderr.contains("the image takes 3."), "{size}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{size}: {stderr}");
        let half: Vec<_> = stdout.lines().filter(|line| is_half_done(line)).collect();
        assert_eq!(half, [""; 0], "{size}: {stdout}");
    }
    let (code, stdout, stderr) = on_small_disk(&env, "32m", &words, left);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
}

/// What is to make space has to do without any.
#[test]
fn space_is_made_on_a_disk_without_a_free_byte() {
    let Some(env) = Env::new() else { return };
    let image = env.push("fits", &|| {
        let noise = noise(2, 1 << 20);
        Image::empty().layer(Layer::default().file("noise", 0o644, &noise))
    });
    let elsewhere = env.word("h/saved");
    let address = &env.registry().address;
    let artifact = Artifact::new()
        .file("noise", "noise")
        .push(address, "fits-too");
    let artifact = artifact.trim_start_matches("sha256:");
    let after = format!(
        "kelp() {{ {kelp} \"$@\" 2>&1 || echo \"$1: $?\"; }}
         kelp artifact pull -q {address}/fits-too >/dev/null
         kelp create --network none --name made {image} true
         kelp manifest create localhost/list {image} >/dev/null
         kelp volume create filled; kelp volume create unused; echo >kelp/volumes/unused/_data/file
         cat /dev/zero >kelp/volumes/filled/_data/zeroes 2>/dev/null
         for piece in 4096 64 1; do
             while head -c $piece /dev/zero >>kelp/tmp/left 2>/dev/null; do :; done
         done
         echo full; kelp tag {image} localhost/other; kelp save -q -o saved {image}; ls -A
         echo whole; kelp system check; kelp save -q -o {elsewhere} {image}
         kelp push -q --tls-verify=false {image} {registry}/elsewhere/full
         kelp manifest push -q --all --tls-verify=false localhost/list {registry}/elsewhere/list
         kelp system check --max 0s
         echo less; kelp artifact rm {artifact}; kelp rm made; kelp manifest rm localhost/list >/dev/null; kelp rmi {image}
         kelp image prune -f; kelp volume rm filled; kelp volume prune -f; kelp system prune -f
         echo left; find kelp/tmp kelp/layers kelp/blobs kelp/containers kelp/volumes -type f
         kelp load -q -i {elsewhere}; kelp system check",
        registry = address,
        kelp = crate::env::kelp_program().display(),
    );
    let (code, stdout, stderr) = on_small_disk(&env, "4m", &["pull", "-q", &image], &after);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    let id = stdout.lines().next().unwrap();
    let (_, told) = stdout.split_once("\nfull\n").unwrap();
    let (full, rest) = told.split_once("\nwhole\n").unwrap();
    let full: Vec<_> = full.lines().collect();
    let [tag, "tag: 125", save, "save: 125", "kelp"] = full[..] else {
        panic!("{stdout}");
    };
    let says =
        |line: &str, what: &str| line.contains("is full: 0 kB are left") && line.contains(what);
    assert!(says(tag, "a name or a record takes at least 4 kB"), "{tag}");
    assert!(says(save, "what is written takes 1."), "{save}");
    let expected = format!(
        "less\n{artifact}\nmade\nUntagged: {image}\nDeleted: {id}\nfilled\nunused\nTotal reclaimed space: 0B\nleft\n\
         Loaded image: {image}\n"
    );
    assert_eq!(rest, expected);
}

/// Two images of which a small disk has room for one.
#[test]
fn an_addition_waits_for_space_that_was_promised() {
    let Some(env) = Env::new() else { return };
    let push = |name, seed| {
        env.push(name, &|| {
            let noise = noise(seed, 3 << 20);
            Image::empty().layer(Layer::default().file("noise", 0o644, &noise))
        })
    };
    let (one, other) = (push("waits-one", 3), push("waits-other", 4));
    let after = format!(
        "kelp() {{ {kelp} \"$@\" 2>&1 || echo \"$1: $?\"; }}
         echo; kelp pull -q {other} | sed 's/^.* is full: .*/full/'; kelp rmi {one} >/dev/null
         echo held; head -c 6M /dev/zero >left
         exec 9<kelp/tmp; flock -s 9
         {kelp} pull -q {other} >/dev/null 9<&- & pid=$!
         until grep -q -e \"-> FLOCK .* $pid \" /proc/locks; do
             kill -0 $pid 2>/dev/null || {{ echo was not waited for; break; }}
             sleep 0.01
         done
         rm left; flock -u 9; exec 9<&-
         wait $pid; echo let go: $?
         for round in 1 2 3; do
             for names in '{other} {one}' '{one} {other}'; do
                 set -- $names
                 large=$(ls -S kelp/blobs/sha256/* | head -n 1); truncate -s 200M \"$large\"
                 kelp rmi \"$1\" >/dev/null; kelp pull -q \"$2\" >/dev/null
             done
         done
         kelp images --format '{{{{.Repository}}}}'; kelp system check
         kelp rmi {other} >/dev/null; kelp image prune -f; find kelp/tmp kelp/blobs kelp/layers -type f",
        kelp = crate::env::kelp_program().display(),
    );
    let (code, stdout, stderr) = on_small_disk(&env, "10m", &["pull", "-q", &one], &after);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    let (_, told) = stdout.split_once("\n\n").unwrap();
    let repository = other.rsplit_once(':').unwrap().0;
    let expected = format!("full\npull: 125\nheld\nlet go: 0\n{repository}\n");
    assert_eq!(told, expected);
}

/// A layer that is whole may stay: another pull has use for it.
fn is_half_done(line: &str) -> bool {
    let heading = line.is_empty() || line.ends_with(':');
    !heading && !line.starts_with("kelp/layers/")
}

/// A program that writes more than fits into its log ends by itself, with all of its output and its
/// own code.
#[test]
fn a_log_that_does_not_fit_is_the_logs_loss() {
    let Some(env) = Env::new() else { return };
    let root = env.path("h/root");
    crate::image::busybox_root(&root, &["dev", "etc", "proc", "sys"], &[]);
    let script = "/bin/busybox yes line | /bin/busybox head -n 400000; exit 4";
    let run = ["run", "--name", "chatty", "--network", "none", "--rootfs"];
    let program = [root.to_str().unwrap(), "/bin/busybox", "sh", "-c", script];
    let kelp = crate::env::kelp_program();
    let after = format!(
        "echo; {0} ps -a --format '{{{{.Names}}}} {{{{.Status}}}}' | cut -c1-17; \
         {0} logs chatty | uniq; {0} rm chatty;
         {0} run --rm --network none --rootfs {1} /bin/busybox true",
        kelp.display(),
        root.display(),
    );
    let (code, stdout, stderr) = on_small_disk(&env, "1m", &[&run[..], &program].concat(), &after);
    assert_eq!(code, 4, "{stderr}");
    // Without a range of ids that is said, and once is enough.
    let [told] = stderr.lines().collect::<Vec<_>>()[..] else {
        panic!("{stderr}");
    };
    let whole = told.contains("no ids in /etc/subuid") && told.contains(":100000:65536` added");
    assert!(whole, "{told}");
    let (output, rest) = stdout.split_once("\n\n").unwrap();
    assert_eq!(output.lines().count(), 400_000);
    let rest: Vec<_> = rest.lines().collect();
    assert_eq!(
        (rest[0], rest[rest.len() - 1]),
        ("chatty Exited (4)", "chatty")
    );
    // Of a line at the edge of what did not fit, a part may be there.
    let log = &rest[1..rest.len() - 1];
    assert_eq!(log[0], "line");
    assert!(log.iter().all(|line| "line".contains(line)), "{log:?}");
}
