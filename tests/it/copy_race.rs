//! `cp` into a container that is at work on the same files.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::archive::Layer;
use crate::env::Env;

/// What a container must not change: mode, owner, attributes of a file.
fn state(path: &Path) -> (u32, u32, u32, i64) {
    let metadata = fs::metadata(path).unwrap();
    let mode = metadata.permissions().mode() & 0o7777;
    (mode, metadata.uid(), metadata.gid(), metadata.mtime())
}

/// Puts links to `target` in the place of each pipe that appears; how many.
fn swap_pipes(directory: &Path, target: &Path, stop: &AtomicBool) -> u32 {
    let (pipe, link) = (directory.join("p"), directory.join("l"));
    let mut swaps = 0;
    while !stop.load(Ordering::Relaxed) {
        let is_pipe = |found: fs::Metadata| found.file_type().is_fifo();
        if !fs::symlink_metadata(&pipe).is_ok_and(is_pipe) {
            continue;
        }
        symlink(target, &link).unwrap();
        fs::rename(&link, &pipe).unwrap();
        swaps += 1;
    }
    swaps
}

/// A link in the place of a pipe that was just made is not followed when its mode is set.
#[test]
fn what_is_copied_into_a_running_container_changes_no_file_of_the_host() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let [shared, canary] = ["h/shared", "h/canary"].map(|name| env.path(name));
    fs::create_dir(&shared).unwrap();
    fs::write(&canary, "of the host").unwrap();
    fs::set_permissions(&canary, fs::Permissions::from_mode(0o600)).unwrap();
    let before = state(&canary);
    let volume = format!("{}:/t", shared.display());
    let run = ["run", "-d", "--name=box", "-v", &volume, &image];
    env.kelp(&[&run[..], &["sleep", "100000"]].concat())
        .succeeds();
    let mut archive = Layer::default();
    for _ in 0..500 {
        archive = archive.owned_fifo("p", 0o666, (1000, 1000));
    }
    let archive = archive.finish();
    let stop = AtomicBool::new(false);
    let (swaps, changed) = thread::scope(|scope| {
        let swapper = scope.spawn(|| swap_pipes(&shared, &canary, &stop));
        let changed = (0..150).find(|_| {
            // One that meets a link where it has made a pipe says so and ends.
            let copy = env.kelp(&["cp", "-a=false", "-", "box:/t"]);
            let _ = copy.input(&archive).done();
            state(&canary) != before
        });
        stop.store(true, Ordering::Relaxed);
        (swapper.join().unwrap(), changed)
    });
    assert_eq!((changed, state(&canary)), (None, before));
    assert!(swaps >= 150, "only {swaps} links");
    fs::create_dir(shared.join("calm")).unwrap();
    let copy = env
        .kelp(&["cp", "-a=false", "-", "box:/t/calm"])
        .input(&archive);
    copy.done().exits(0);
    let script = "stat -c '%F %a %u:%g' /t/calm/p";
    assert_eq!(
        env.kelp(&["exec", "box", "sh", "-c", script]).succeeds(),
        "fifo 666 1000:1000\n"
    );
    env.kelp(&["rm", "-f", "-t", "0", "box"]).succeeds();
}
