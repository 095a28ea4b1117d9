//! Merging, matching and mistakes.

use super::*;

fn conf(text: &str) -> RegistriesConf {
    let mut conf = RegistriesConf::default();
    conf.merge(text, Path::new("test.conf")).unwrap();
    conf
}

fn refused(text: &str) -> String {
    RegistriesConf::default()
        .merge(text, Path::new("test.conf"))
        .unwrap_err()
        .to_string()
}

fn endpoints(conf: &RegistriesConf, name: &str) -> Vec<String> {
    conf.endpoints(&Reference::parse(name).unwrap())
        .unwrap()
        .iter()
        .map(|endpoint| {
            let mark = if endpoint.insecure { " insecure" } else { "" };
            format!("{}{mark}", endpoint.reference)
        })
        .collect()
}

#[test]
fn a_prefix_fits_whole_components() {
    for (prefix, name, rest) in [
        ("example.com", "example.com/a:t", Some("/a:t")),
        ("example.com", "example.com:5000/a", None),
        ("example.com", "example.community/a", None),
        ("example.com:5000", "example.com:5000/a", Some("/a")),
        ("example.com/a", "example.com/a:t", Some(":t")),
        ("example.com/a", "example.com/ab", None),
        ("example.com/a:t", "example.com/a:t", Some("")),
        ("example.com/a:t", "example.com/a:tt", None),
        ("*.example.com", "a.example.com/b", Some("/b")),
        ("*.example.com", "a.b.example.com/c:t", Some("/c:t")),
        ("*.example.com", "a.example.com:5000/c", Some(":5000/c")),
        ("*.example.com", "example.com/b", None),
        ("*.example.com", "a.example.com.evil/b", None),
        ("*.example.com", "evil/a.example.com/b", None),
        ("*.example.com/x", "a.example.com/x/y", Some("/y")),
        ("*.example.com/x", "a.example.com/xy", None),
    ] {
        let found = matched_length(prefix, name).map(|length| &name[length..]);
        assert_eq!(found, rest, "{prefix} {name}");
    }
}

#[test]
fn mirrors_come_first_and_the_longest_prefix_wins() {
    let conf = conf(
        r#"
        [[registry]]
        location = "docker.io"
        [[registry.mirror]]
        location = "mirror.gcr.io"
        [[registry.mirror]]
        location = "localhost:5000/hub"
        insecure = true
        pull-from-mirror = "digest-only"
        [[registry.mirror]]
        location = "tags.example"
        pull-from-mirror = "tag-only"

        [[registry]]
        prefix = "docker.io/library"
        location = "internal.example/base"
        insecure = true

        [[registry]]
        prefix = "*.wild.example"
        [[registry.mirror]]
        location = "flat.example/w"
    "#,
    );
    assert_eq!(
        endpoints(&conf, "docker.io/a/b:t"),
        [
            "mirror.gcr.io/a/b:t",
            "tags.example/a/b:t",
            "docker.io/a/b:t"
        ]
    );
    let digest = format!("@sha256:{}", "0".repeat(64));
    assert_eq!(
        endpoints(&conf, &format!("docker.io/a/b{digest}")),
        [
            format!("mirror.gcr.io/a/b{digest}"),
            format!("localhost:5000/hub/a/b{digest} insecure"),
            format!("docker.io/a/b{digest}"),
        ]
    );
    assert_eq!(
        endpoints(&conf, "docker.io/alpine"),
        ["internal.example/base/alpine insecure"]
    );
    assert_eq!(
        endpoints(&conf, "a.wild.example/x"),
        ["flat.example/w/x", "a.wild.example/x"]
    );
    assert_eq!(endpoints(&conf, "quay.io/x"), ["quay.io/x"]);
}

#[test]
fn a_blocked_registry_is_an_error() {
    let conf = conf("[[registry]]\nprefix = \"docker.io/evil\"\nblocked = true\n");
    let error = conf
        .endpoints(&Reference::parse("docker.io/evil/x").unwrap())
        .unwrap_err();
    assert!(matches!(error, Error::Denied(_)), "{error}");
    assert_eq!(endpoints(&conf, "docker.io/good/x"), ["docker.io/good/x"]);
}

#[test]
fn later_files_replace_what_earlier_ones_say() {
    let mut conf = conf(
        r#"
        unqualified-search-registries = ["a.example", "b.example"]
        short-name-mode = "enforcing"
        [aliases]
        "x" = "quay.io/x/x"
        "y" = "quay.io/y/y"
        [[registry]]
        prefix = "p.example"
        blocked = true
    "#,
    );
    conf.merge(
        "[aliases]\nx = \"\"\nz = \"quay.io/z\"\n[[registry]]\nprefix = \"p.example\"\n",
        Path::new("later.conf"),
    )
    .unwrap();
    assert_eq!(conf.search(), ["a.example", "b.example"]);
    assert_eq!(conf.short_name_mode, ShortNameMode::Enforcing);
    assert_eq!(conf.alias("x"), None);
    assert_eq!(conf.alias("y").unwrap().file, Path::new("test.conf"));
    assert_eq!(conf.alias("z").unwrap().target.name(), "quay.io/z");
    assert_eq!(endpoints(&conf, "p.example/x"), ["p.example/x"]);
    conf.merge("unqualified-search-registries = []", Path::new("l"))
        .unwrap();
    assert!(conf.search().is_empty());
}

#[test]
fn mistakes_are_named_with_their_place() {
    for (text, message) in [
        ("\nx = ", "test.conf: line 2: "),
        ("short-name-mode = \"maybe\"", "line 1: unknown variant"),
        ("[registries.search]\nregistries = []", "version 1"),
        (
            "[[registry]]\ninsecure = true",
            "needs a prefix or a location",
        ),
        ("[[registry]]\nprefix = \"a.*.b\"", "wildcard"),
        ("[[registry]]\nlocation = \"https://a.b\"", "not a URL"),
        ("[aliases]\nx = \"x\"", "no registry"),
        ("[aliases]\nx = \"quay.io/x:t\"", "tag or a digest"),
        (
            "[[registry]]\nlocation = \"a.b\"\nmirror-by-digest-only = true\n\
             [[registry.mirror]]\nlocation = \"c\"\npull-from-mirror = \"all\"",
            "exclude",
        ),
    ] {
        let error = refused(text);
        assert!(error.contains(message), "{text}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn files_are_read_in_order() {
    let etc = tempfile::tempdir().unwrap();
    let home = tempfile::tempdir().unwrap();
    let paths = ConfigPaths {
        etc: etc.path().to_owned(),
        config_home: Some(home.path().to_owned()),
        ..ConfigPaths::default()
    };
    assert_eq!(
        RegistriesConf::load(&paths).unwrap().search(),
        ["docker.io"]
    );
    let write = |base: &Path, name: &str, search: &str| {
        let file = base.join("containers").join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let text = format!("unqualified-search-registries = [\"{search}\"]");
        fs::write(file, text).unwrap();
    };
    let search = || RegistriesConf::load(&paths).unwrap().search().join(",");
    write(etc.path(), "registries.conf", "one.example");
    assert_eq!(search(), "one.example");
    write(home.path(), "registries.conf", "two.example");
    assert_eq!(search(), "two.example");
    write(etc.path(), "registries.conf.d/10-a.conf", "three.example");
    write(etc.path(), "registries.conf.d/05-a.conf", "four.example");
    write(etc.path(), "registries.conf.d/20-not", "five.example");
    assert_eq!(search(), "three.example");
    write(home.path(), "registries.conf.d/00.conf", "six.example");
    assert_eq!(search(), "six.example");
    let missing = ConfigPaths {
        registries_conf: Some(home.path().join("nowhere")),
        ..paths.clone()
    };
    assert!(RegistriesConf::load(&missing).is_err());
}
