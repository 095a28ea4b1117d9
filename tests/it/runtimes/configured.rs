//! The runtime that kelp.conf and containers.conf name.

use std::fs;

use super::World;

impl World {
    /// Writes kelp.conf.
    fn configure(&self, text: &str) {
        let directory = self.env.path("c/kelp");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("kelp.conf"), text).unwrap();
    }

    fn path(&self) -> String {
        if self.runtime.contains('/') {
            return self.runtime.clone();
        }
        let found = ["/usr/bin", "/usr/sbin"].map(|place| format!("{place}/{}", self.runtime));
        let found = found.into_iter().find(|path| fs::metadata(path).is_ok());
        found.unwrap()
    }
}

#[test]
fn a_user_who_names_nothing_gets_the_configured_runtime() {
    for world in World::each() {
        world.configure(&format!(
            "[engine]\nruntime = 'mine'\n[engine.runtimes]\nmine = ['/no/such', '{}']\n",
            world.path()
        ));
        let image = &world.image;
        let create = ["create", "--network=none", "--name=c"];
        world.kelp(&[&create[..], &[image, "echo", "made"]].concat());
        assert_eq!(world.inspect("{{.OCIRuntime}}"), "mine\n");
        assert_eq!(world.kelp(&["start", "-a", "c"]), "made\n");
        world.kelp(&["rm", "c"]);
        let info = [
            "info",
            "-f",
            "{{.Host.OCIRuntime.Name}} {{.Host.OCIRuntime.Path}}",
        ];
        assert_eq!(world.kelp(&info), format!("mine {}\n", world.path()));
        // The command line wins, before the command and behind it.
        let own = [&["--runtime=kelp"], &create[..], &[image]].concat();
        world.kelp(&own);
        assert_eq!(world.inspect("{{.OCIRuntime}}"), "kelp\n");
        world.kelp(&["rm", "c"]);
        let behind = [&create[..], &["--runtime", &world.runtime, image]].concat();
        world.kelp(&[&["--runtime=kelp"], &behind[..]].concat());
        assert_eq!(
            world.inspect("{{.OCIRuntime}}"),
            format!("{}\n", world.name)
        );
        world.kelp(&["rm", "c"]);
    }
}

#[test]
fn a_configured_runtime_that_is_missing_is_told_with_its_place() {
    let Some(world) = World::new("kelp-runtime") else {
        return;
    };
    world.configure("[engine]\nruntime = 'mine'\n[engine.runtimes]\nmine = ['/no/such']\n");
    let line = world.env.kelp(&["run", &world.image, "true"]).fails(125);
    assert_eq!(
        line,
        format!(
            "Error: {}:2: runtime \"mine\" is not installed: it was looked for at /no/such; install it, \
             name its path, or put it into [engine.runtimes] of kelp.conf",
            world.env.path("c/kelp/kelp.conf").display()
        )
    );
}

#[test]
fn flags_are_passed_on() {
    for world in World::each() {
        let log = world.env.path("h/runtime.log");
        let flag = format!("log={}", log.display());
        let flags = ["--rm", "--network=none", "--runtime-flag", &flag];
        world.run(&flags, &["nosuch"]).done().exits(127);
        let text = fs::read_to_string(&log).unwrap();
        assert!(text.contains("nosuch"), "{}: {text}", world.name);
        fs::remove_file(&log).unwrap();
        world.configure(&format!(
            "[engine.runtimes]\n{name} = ['{path}']\n[engine.runtimes_flags]\n{name} = ['{flag}']\n",
            name = world.name,
            path = world.path(),
        ));
        let words = ["--runtime", world.name, "run", "--rm", "--network=none"];
        let words = [&words[..], &[&world.image, "nosuch"]].concat();
        world.env.kelp(&words).done().exits(127);
        assert!(fs::read_to_string(&log).unwrap().contains("nosuch"));
        fs::remove_file(&log).unwrap();
    }
}
