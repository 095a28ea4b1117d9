//! What files say together, and what is said of mistakes.

use std::fs;
use std::path::Path;

use super::*;

fn of(texts: &[&str]) -> Result<Conf, Error> {
    let mut conf = Conf::default();
    for (number, text) in texts.iter().enumerate() {
        conf.add(Path::new(&format!("/{number}")), text)?;
    }
    Ok(conf)
}

#[test]
fn later_files_win_and_lists_may_be_appended() {
    let conf = of(&[
        "# nothing\n\n#[containers]\n",
        "[containers]\ntz = 'UTC'\nenv = ['1=a']\ninit = true\n",
        "[containers]\ntz = 'local'\nenv = ['2=a']\npids_limit = 7\n",
        "[containers]\nenv = ['3=a', {append = true}]\n",
        "[containers]\nenv = ['4=a']\n",
    ])
    .unwrap();
    assert_eq!(conf.text("containers", "tz").unwrap().value, "local");
    assert_eq!(conf.truth("containers", "init"), Some(true));
    assert_eq!(conf.number("containers", "pids_limit").unwrap().value, 7);
    assert_eq!(
        conf.list("containers", "env").unwrap().value,
        ["2=a", "3=a", "4=a"]
    );
    assert_eq!(conf.truth("containers", "read_only"), None);
    let again = "[containers]\nenv = ['5=a', {append = false}]\n";
    let conf = of(&["[containers]\nenv = ['1=a', {append = true}]\n", again]).unwrap();
    assert_eq!(conf.list("containers", "env").unwrap().value, ["5=a"]);
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    for (text, said) in [
        (
            "[containers]\n\ntz = 7\n",
            "/0:3: tz is a text, not a whole number",
        ),
        (
            "[containers]\nenv = 'A=b'\n",
            "/0:2: env is a list of texts, not a text",
        ),
        (
            "[containers]\nenv = ['A=b', 7]\n",
            "/0:2: env is a list of texts, not a list of anything else",
        ),
        (
            "[engine]\nstop_timeout = '7'\n",
            "/0:2: stop_timeout is a whole number, not a text",
        ),
    ] {
        assert_eq!(of(&[text]).unwrap_err().to_string(), said);
    }
    let error = of(&["[containers]\ntz = \n"]).unwrap_err().to_string();
    assert!(error.starts_with("/0:2: "), "{error}");
    let conf = of(&["[containers]\n# zone\ntz = 'Mars'\n"]).unwrap();
    let zone = conf.text("containers", "tz").unwrap();
    let read = zone.read(|zone| Err::<(), _>(format!("unknown time zone {zone}")));
    assert_eq!(
        read.unwrap_err().to_string(),
        "/0:3: unknown time zone Mars"
    );
}

#[test]
fn lists_by_name_are_put_together_name_by_name() {
    let conf = of(&[
        "[engine.runtimes]\ncrun = ['/a/crun', '/b/crun']\nrunc = ['/a/runc']\n",
        "[engine.runtimes]\ncrun = ['/c/crun']\n[engine.runtimes_flags]\ncrun = ['debug']\n",
    ])
    .unwrap();
    let entry = |key, name| conf.entry("engine", key, name).map(|entry| entry.value);
    assert_eq!(entry("runtimes", "crun").unwrap(), ["/c/crun"]);
    assert_eq!(entry("runtimes", "runc").unwrap(), ["/a/runc"]);
    assert_eq!(entry("runtimes_flags", "crun").unwrap(), ["debug"]);
    assert_eq!(entry("runtimes", "youki"), None);
    let error = of(&["[engine.runtimes]\ncrun = '/a/crun'\n"]).unwrap_err();
    let said = "/0:1: runtimes is lists of texts by name, not a text";
    assert_eq!(error.to_string(), said);
}

#[test]
fn what_nobody_knows_is_a_warning() {
    let conf = of(&["[containers]\ntzz = 7\n[planets]\n[machine]\ncpus = 'x'\n"]).unwrap();
    assert_eq!(
        conf.warnings,
        [
            "/0:2: unknown key \"tzz\" in table \"containers\"",
            "/0:3: unknown table \"planets\"",
        ]
    );
}

#[test]
fn files_are_read_in_podmans_order() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let names = [
        "vendor/containers.conf",
        "machine/containers.conf",
        "machine/containers.conf.d/10-a.conf",
        "machine/containers.conf.d/20-b.conf",
        "machine/containers.rootless.conf",
        "machine/containers.rootless.d/a.conf",
        "machine/containers.rootless.d/1000/a.conf",
        "user/containers.conf",
        "user/containers.conf.d/a.conf",
        "etc/kelp.conf",
        "own/kelp.conf",
        "last.conf",
    ];
    for name in names {
        let path = path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = format!("[containers]\nenv = ['{name}', {{append = true}}]\n");
        fs::write(path, text).unwrap();
    }
    fs::write(path("user/containers.conf.d/a.txt"), "[").unwrap();
    let mut sources = Sources {
        vendor: path("vendor"),
        machine: path("machine"),
        user: Some(path("user")),
        uid: Some(1000),
        own: vec![path("etc"), path("own")],
        only: None,
        last: Some(path("last.conf")),
    };
    let read = |sources: &Sources| {
        let conf = Conf::load(sources).unwrap();
        conf.list("containers", "env").unwrap().value
    };
    assert_eq!(read(&sources), names);
    sources.uid = None;
    assert_eq!(read(&sources).len(), 9);
    sources.only = Some(path(names[1]));
    assert_eq!(read(&sources), [names[1], "last.conf"]);
    sources.only = Some(path("nosuch.conf"));
    let error = Conf::load(&sources).unwrap_err().to_string();
    assert!(error.ends_with("/nosuch.conf"), "{error}");
    let nowhere = Sources {
        user: Some(path("nosuch")),
        ..Sources::default()
    };
    assert!(Conf::load(&nowhere).unwrap().settings.is_empty());
}
