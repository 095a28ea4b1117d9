//! A distribution's own tools inside, where the host's user is the only id there is.

use std::fs;
use std::process::Command;

use crate::env::Env;
use crate::image::Image;

/// The smallest Debian with apt, made by mmdebstrap from the machine's mirror.
fn debian() -> Image {
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("debian.tar");
    let output = Command::new("mmdebstrap")
        .args(["--quiet", "--variant=apt", "--mode=unshare", "bookworm"])
        .arg(&archive)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    Image::empty()
        .archive(fs::read(&archive).unwrap())
        .set("Cmd", serde_json::json!(["bash"]))
}

#[test]
fn apt_installs_packages_with_a_single_id() {
    let Some(env) = Env::new() else { return };
    let image = env.image("debian", &debian);
    // cron's package makes a group and gives it a file with the setgid bit.
    let script = "export DEBIAN_FRONTEND=noninteractive
        cat /proc/self/uid_map | tr -s ' '
        apt-get -qq update
        apt-get -qq -y install --no-install-recommends cron >/dev/null 2>/tmp/said || cat /tmp/said
        dpkg-query -W -f '${Package} ${Status}\\n' cron
        getent group crontab | cut -d: -f1
        id -u";
    let single = ["--uidmap", "0:0:1", "--gidmap", "0:0:1"];
    let mut words = vec!["run", "--rm", "--network", "host"];
    words.extend(single);
    words.extend([&image, "bash", "-c", script]);
    let uid = rustix::process::getuid().as_raw();
    let expected = format!(" 0 {uid} 1\ncron install ok installed\ncrontab\n0\n");
    assert_eq!(env.kelp(&words).done().exits(0), expected);
}
