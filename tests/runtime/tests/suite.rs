//! The suite for kelp-runtime, a test a theme.
//!
//! kelp has to be built: it is looked for at `KELP_BIN`, else beside the suite's own program.

use std::io::Write;
use std::process::Command;

/// Plays a theme's cases; each that fails is a line of the message.
fn theme(name: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_kelp-runtime-suite"))
        .arg(format!("{name}/"))
        .output()
        .expect("the suite's program is built");
    let said = String::from_utf8_lossy(&output.stdout);
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{wrong}");
    print!("{said}");
    // What the machine lacks, where that is all there is to say. Goes past the runner's capture.
    let lacks = |line: &str| line.starts_with("n/a ") && line.contains(": no ");
    if let Some(line) = said
        .lines()
        .find(|line| lacks(line))
        .filter(|_| !said.contains("pass  "))
    {
        let (_, missing) = line.split_once(": ").unwrap_or_default();
        let _ = writeln!(std::io::stderr(), "SKIP: {name}: {missing}");
    }
}

macro_rules! themes {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                theme(stringify!($name));
            }
        )*

        #[test]
        fn every_theme_has_a_test() {
            let output = Command::new(env!("CARGO_BIN_EXE_kelp-runtime-suite"))
                .arg("--list")
                .output()
                .expect("the suite's program is built");
            let list = String::from_utf8_lossy(&output.stdout);
            let known = [$(stringify!($name)),*];
            for line in list.lines() {
                let theme = line.split('/').next().unwrap_or_default();
                assert!(known.contains(&theme), "no test for {theme}");
            }
            for name in known {
                assert!(list.contains(&format!("{name}/")), "no cases of {name}");
            }
        }
    };
}

themes! {
    lifecycle namespaces mounts mount_options process hooks users time root propagation devices
    privileges host scheduling device_list terminal seccomp notify cgroups controllers
    systemd net_devices bad_input exec command_line events
}
