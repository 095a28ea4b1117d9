//! Units that pull and mount artifacts: the command lines that the generator makes of them are executed as they are.

use std::fs;
use std::os::unix::fs::symlink;

use super::two;
use crate::env::{Env, kelp_program};

#[test]
fn the_command_line_of_a_unit_pulls_and_mounts() {
    let Some(env) = Env::new() else { return };
    let address = env.registry().address.clone();
    two().push(&address, "artifacts/unit");
    let name = format!("{address}/artifacts/unit:latest");
    let image = env.busybox();
    let units = env.path("c/containers/systemd");
    fs::create_dir_all(&units).unwrap();
    fs::write(env.path("h/auth.json"), "{}").unwrap();
    fs::create_dir(env.path("h/certs")).unwrap();
    let artifact = format!(
        "[Artifact]\nArtifact={name}\nAuthFile={}\nCertDir={}\nCreds=me:secret\nQuiet=true\nRetry=2\n\
         RetryDelay=1s\nTLSVerify=false\nGlobalArgs=--log-level=error\nPodmanArgs=--retry=0\n",
        env.word("h/auth.json"),
        env.word("h/certs")
    );
    fs::write(units.join("data.artifact"), artifact).unwrap();
    let container = format!(
        "[Container]\nImage={image}\nPull=never\nNetwork=none\nExec=cat /etc/app /all/two\n\
         Mount=type=artifact,source=data.artifact,destination=/etc/app,title=one\n\
         Mount=type=artifact,src=data.artifact,dst=/all\n"
    );
    fs::write(units.join("app.container"), container).unwrap();
    for unit in ["data.artifact", "app.container"] {
        let path = units.join(unit);
        let words = ["quadlet", "check", path.to_str().unwrap()];
        assert_eq!(env.kelp(&words).succeeds(), "", "{unit}");
    }
    let generator = env.path("kelp-quadlet");
    symlink(kelp_program(), &generator).unwrap();
    let mut command = env.program(&generator);
    command
        .args(["-dryrun", "-user"])
        .env("XDG_CONFIG_HOME", env.path("c"));
    let output = command.output().unwrap();
    let services = String::from_utf8(output.stdout).unwrap();
    let line = |with: &str| -> Vec<String> {
        let mut lines = services
            .lines()
            .filter_map(|line| line.strip_prefix("ExecStart="));
        let line = lines.find(|line| line.contains(with)).expect(with);
        line.split(' ').skip(1).map(str::to_owned).collect()
    };
    let pull = line("artifact pull");
    let words: Vec<_> = pull.iter().map(String::as_str).collect();
    assert_eq!(env.kelp(&words).succeeds().trim().len(), 64, "{pull:?}");
    // What only a service has: its notification, its cgroup, its log, and that it is in the background.
    let run = line("--mount");
    let mut words: Vec<_> = run.iter().map(String::as_str).collect();
    let only = ["--sdnotify=", "--cgroups=", "--log-driver"];
    words.retain(|word| *word != "-d" && !only.iter().any(|only| word.starts_with(only)));
    let words: Vec<_> = words
        .into_iter()
        .map(|word| {
            word.replace("%N", "app")
                .replace("%t", env.runtime().to_str().unwrap())
        })
        .collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    assert_eq!(env.kelp(&words).succeeds(), "first\nsecond\n", "{run:?}");
}
