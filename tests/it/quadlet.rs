//! Quadlet: the generator as systemd calls it, and `kelp quadlet`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::env::{Env, kelp_program, names};
use crate::fake_systemd::Systemd;

const WEB: &str = "[Container]\nImage=quay.io/app/web:1\n[Install]\nWantedBy=default.target\n";

fn write(env: &Env, name: &str, text: &str) {
    let path = env.path(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Runs the generator; its exit code, and what it says without its name and number.
fn generator(env: &Env, program: &Path, words: &[&str]) -> (i32, String, String) {
    let mut command = env.program(program);
    command.args(words).env("XDG_CONFIG_HOME", env.path("c"));
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let said = said.lines().map(|line| {
        let rest = line.strip_prefix("kelp-quadlet[");
        let rest = rest.and_then(|rest| rest.split_once("]: "));
        rest.map_or(line, |(_, rest)| rest).to_owned()
    });
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        said.collect::<Vec<_>>().join("\n"),
    )
}

#[test]
fn systemd_gets_services_of_all_units_but_the_wrong() {
    let Some(env) = Env::new() else { return };
    write(&env, "c/containers/systemd/web.container", WEB);
    write(&env, "c/containers/systemd/sub/data.volume", "[Volume]\n");
    write(
        &env,
        "c/containers/systemd/wrong.container",
        "[Container]\nImages=x\n",
    );
    write(
        &env,
        "c/containers/systemd/web.container.d/data.conf",
        "[Container]\nVolume=data.volume:/data\n",
    );
    let program = env.path("user-generators/kelp-quadlet");
    fs::create_dir(program.parent().unwrap()).unwrap();
    symlink(kelp_program(), &program).unwrap();
    let (normal, early, late) = (env.word("normal"), env.word("early"), env.word("late"));
    let directories = [normal.as_str(), &early, &late];
    let words = [&["-no-kmsg-log"], &directories[..]].concat();
    let (code, _, said) = generator(&env, &program, &words);
    let wrong = env.word("c/containers/systemd/wrong.container");
    let expected = [
        format!("{wrong}:2: error: Images= is no key of [Container]; did you mean Image=?"),
        format!("{wrong}:1: error: there is neither Image= nor Rootfs=: say what is to be run"),
    ];
    assert_eq!((code, said), (1, expected.join("\n")));
    assert_eq!(
        names(Path::new(&normal)),
        ["data-volume.service", "default.target.wants", "web.service"]
    );
    let link = fs::read_link(env.path("normal/default.target.wants/web.service")).unwrap();
    assert_eq!(link, Path::new("../web.service"));
    let kelp = fs::canonicalize(kelp_program()).unwrap();
    let kelp = kelp.to_str().unwrap();
    let web = fs::read_to_string(env.path("normal/web.service")).unwrap();
    let expected = format!(
        "\
[X-Container]
Image=quay.io/app/web:1
Volume=data.volume:/data

[Install]
WantedBy=default.target

[Unit]
SourcePath={}
RequiresMountsFor=%t/kelp
Requires=data-volume.service
After=data-volume.service

[Service]
Environment=PODMAN_SYSTEMD_UNIT=%n
KillMode=mixed
ExecStop={kelp} rm -v -f -i systemd-%N
ExecStopPost=-{kelp} rm -v -f -i systemd-%N
Delegate=yes
Type=notify
NotifyAccess=all
SyslogIdentifier=%N
ExecStart={kelp} run --name systemd-%N --replace --rm --cgroups=split --sdnotify=conmon -d -v \
systemd-data:/data quay.io/app/web:1
",
        env.word("c/containers/systemd/web.container")
    );
    assert_eq!(web, expected);
    // A copy has kelp beside it, or is none.
    let copy = env.path("copied/kelp-quadlet");
    fs::create_dir(copy.parent().unwrap()).unwrap();
    // By a process of its own: what this one has open for writing, a child of another test may have too, and then
    // nobody can execute it.
    let made = Command::new("cp").arg(kelp_program()).arg(&copy).status();
    assert!(made.unwrap().success());
    let (code, _, said) = generator(&env, &copy, &["-dryrun"]);
    let expected = format!(
        "there is no {}: make {} a link to kelp",
        env.word("copied/kelp"),
        copy.display()
    );
    assert_eq!((code, said), (1, expected));
    fs::remove_dir_all(env.path("copied")).unwrap();
}

#[test]
fn a_dry_run_prints_and_writes_nothing() {
    let Some(env) = Env::new() else { return };
    write(&env, "c/containers/systemd/web.container", WEB);
    let program = env.path("h/kelp-quadlet");
    symlink(kelp_program(), &program).unwrap();
    let (code, printed, said) = generator(&env, &program, &["-dryrun", "-user"]);
    let read = format!("read {}", env.word("c/containers/systemd/web.container"));
    assert_eq!((code, said), (0, read));
    assert!(
        printed.starts_with("---web.service---\n[X-Container]\n"),
        "{printed}"
    );
    assert!(
        printed.contains("\n# default.target.wants/web.service -> ../web.service\n"),
        "{printed}"
    );
    let version = format!("{}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        generator(&env, &program, &["-version"]),
        (0, version, String::new())
    );
    assert_eq!(generator(&env, &program, &["-nonsense"]).0, 2);
}

#[test]
fn units_are_installed_listed_printed_and_removed() {
    let Some(env) = Env::new() else { return };
    write(&env, "h/web.container", WEB);
    write(&env, "h/seed.sql", "select 1\n");
    write(&env, "h/shop/shop.pod", "[Pod]\n");
    write(&env, "h/shop/conf/shop.conf", "x\n");
    write(
        &env,
        "h/many.quadlets",
        "# FileName=one\n[Volume]\n---\n# FileName=two\n[Network]\n",
    );
    let quadlet = |words: &[&str]| env.kelp(&[&["quadlet"], words].concat());
    let said = quadlet(&["install", "web.container"]).fails(125);
    assert!(
        said.starts_with("Error: connect to the user's systemd: "),
        "{said}"
    );
    assert!(
        said.ends_with("; --reload-systemd=false does without"),
        "{said}"
    );
    let directory = env.path("c/containers/systemd");
    assert!(!directory.exists());
    let installed = |words: &[&str]| {
        let printed = quadlet(&[&["install", "--reload-systemd=false"], words].concat()).succeeds();
        let lines = printed.lines();
        let names = lines
            .map(|line| line.strip_prefix(directory.to_str().unwrap()).unwrap()[1..].to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(
        installed(&["web.container", "seed.sql"]),
        ["web.container", "seed.sql"]
    );
    assert_eq!(installed(&["shop"]), ["conf/shop.conf", "shop.pod"]);
    assert_eq!(installed(&["many.quadlets"]), ["one.volume", "two.network"]);
    let again = ["install", "--reload-systemd=false", "web.container"];
    assert_eq!(
        quadlet(&again).fails(125),
        "Error: web.container is there already: use --replace"
    );
    assert_eq!(
        installed(&["--replace", "web.container", "seed.sql"]).len(),
        2
    );
    let list = [
        "list",
        "--format",
        "{{.Name}} {{.UnitName}} {{.Status}} {{.App}}",
    ];
    let expected = "\
one.volume one-volume.service Not loaded many
shop.pod shop-pod.service Not loaded shop
two.network two-network.service Not loaded many
web.container web.service Not loaded 
";
    assert_eq!(quadlet(&list).succeeds(), expected);
    let filtered = ["list", "-f", "name=*.pod", "--format", "{{.Name}}"];
    assert_eq!(quadlet(&filtered).succeeds(), "shop.pod\n");
    assert_eq!(
        quadlet(&["list", "-f", "label=x"]).fails(125),
        "Error: invalid filter \"label=x\": it is name=PATTERN"
    );
    assert_eq!(quadlet(&["print", "web.container"]).succeeds(), WEB);
    assert_eq!(
        quadlet(&["print", "no.container"]).fails(125),
        "Error: no such Quadlet: no.container"
    );
    let remove = |words: &[&str]| quadlet(&[&["rm", "--reload-systemd=false"], words].concat());
    assert_eq!(
        remove(&["no.container"]).fails(125),
        "Error: no such Quadlet: no.container"
    );
    assert_eq!(remove(&["--ignore", "no.container"]).succeeds(), "");
    assert_eq!(
        remove(&["one.volume"]).succeeds(),
        "one.volume\ntwo.network\n"
    );
    assert_eq!(remove(&["shop"]).succeeds(), "shop.pod\n");
    assert_eq!(
        names(&directory),
        [".web.container.asset", "seed.sql", "web.container"]
    );
    assert_eq!(remove(&["--all"]).succeeds(), "web.container\n");
    assert_eq!(names(&directory), [""; 0]);
}

#[test]
fn nothing_outside_of_the_units_directory_is_written_or_removed() {
    let Some(env) = Env::new() else { return };
    write(&env, "h/key", "x");
    write(&env, "h/web.container", WEB);
    write(&env, "h/shop/web.container", WEB);
    write(&env, "h/shop/.other.app", "../../../h/key\n");
    let quadlet = |verb: &str, words: &[&str]| {
        env.kelp(&[&["quadlet", verb, "--reload-systemd=false"], words].concat())
    };
    let said = quadlet("install", &["shop"]).fails(125);
    assert_eq!(
        said,
        "Error: \".other.app\" can't be installed: it has to be a path beneath the directory of units, and no \
         list as .NAME.app or .NAME.asset"
    );
    let directory = env.path("c/containers/systemd");
    assert!(!directory.exists());
    // A list that came from elsewhere.
    let key = env.word("h/key");
    write(
        &env,
        "c/containers/systemd/.shop.app",
        &format!("web.container\n{key}\n../../../h/key\n"),
    );
    write(&env, "c/containers/systemd/web.container", WEB);
    let file = env.word("h/web.container");
    assert_eq!(
        quadlet("rm", &[&file]).fails(125),
        format!(
            "Error: {file:?} is a path: give the name of a unit or an application, as kelp quadlet list shows it"
        )
    );
    assert_eq!(quadlet("rm", &["shop"]).succeeds(), "web.container\n");
    assert_eq!(names(&directory), [""; 0]);
    assert!(env.path("h/key").exists() && env.path("h/web.container").exists());
}

#[test]
fn what_a_replaced_application_had_and_has_not_any_more_is_deleted() {
    let Some(env) = Env::new() else { return };
    write(&env, "h/shop/web.container", WEB);
    write(&env, "h/shop/conf/web.conf", "x\n");
    let install = |words: &[&str]| {
        env.kelp(
            &[
                &["quadlet", "install", "--reload-systemd=false", "shop"],
                words,
            ]
            .concat(),
        )
    };
    let at = |name: &str| env.word(&format!("c/containers/systemd/{name}"));
    install(&[]).succeeds();
    fs::rename(
        env.path("h/shop/web.container"),
        env.path("h/shop/front.container"),
    )
    .unwrap();
    fs::remove_dir_all(env.path("h/shop/conf")).unwrap();
    assert_eq!(
        install(&[]).fails(125),
        "Error: shop is installed already: use --replace"
    );
    let done = install(&["--replace"]).done();
    let gone = ["conf/web.conf", "web.container"].map(|name| {
        let name = at(name);
        format!("{name} is deleted: what was replaced had it, and this has not\n")
    });
    assert_eq!((done.code, done.stderr), (0, gone.concat()));
    assert_eq!(done.stdout, format!("{}\n", at("front.container")));
    assert_eq!(
        names(&env.path("c/containers/systemd")),
        [".shop.app", "front.container"]
    );
}

/// Nothing would be left to stop it by.
#[test]
fn the_service_of_a_unit_that_a_replacement_has_not_any_more_is_stopped() {
    let Some(env) = Env::new() else { return };
    let systemd = Systemd::serve(&env);
    for name in ["web", "job", "kept", "named"] {
        write(&env, &format!("h/shop/{name}.container"), WEB);
    }
    let install = |flags: &[&str]| env.kelp(&[&["quadlet", "install", "shop"], flags].concat());
    install(&[]).done().exits(0);
    for name in ["web", "job", "kept", "named", "other"] {
        systemd.start(&format!("{name}.service"), "true");
    }
    systemd.start("job.service", "echo '=> done inactive dead'");
    for name in ["web", "job", "named"] {
        fs::remove_file(env.path(&format!("h/shop/{name}.container"))).unwrap();
    }
    // Another file makes the same service.
    let named = WEB.replace("[Install]", "ServiceName=named\n[Install]");
    write(&env, "h/shop/renamed.container", &named);
    let done = install(&["--replace"]).done();
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(systemd.stopped(), ["web.service"]);
    assert!(
        done.stderr
            .ends_with("web.service is stopped: its unit is deleted\n"),
        "{done:?}"
    );
    // Also where systemd is told nothing of the rest.
    fs::remove_file(env.path("h/shop/kept.container")).unwrap();
    install(&["--replace", "--reload-systemd=false"])
        .done()
        .exits(0);
    assert_eq!(systemd.stopped(), ["kept.service"]);
}

#[test]
fn a_check_tells_what_is_wrong_and_where() {
    let Some(env) = Env::new() else { return };
    write(
        &env,
        "h/q/web.container",
        "[Container]\nImage=quay.io/app/web:1\nVolume=clean.volume:/data\n",
    );
    write(&env, "h/q/net.network", "[Network]\nSubnet=10.0.0.0/33\n");
    write(
        &env,
        "h/q/web.container.d/x.conf",
        "[Container]\nReadOnly=ja\n",
    );
    write(&env, "h/q/clean.volume", "[Volume]\nLabel=a=b\n");
    write(
        &env,
        "h/refused.container",
        "[Container]\nImage=quay.io/app/web:1\nLogDriver=none\nUlimit=nofile=1:2\nPodmanArgs=--cpus 1 --nosuch\n\
         AddDevice=/dev/null:/dev/x:r\nHostName=%H\n",
    );
    write(
        &env,
        "h/later.container",
        "[Container]\nImage=quay.io/app/web:1\nPodmanArgs=--sdnotify=maybe\nPodmanArgs=--pull=sometimes\n\
         Mount=type=artifact,source=quay.io/app/data:1,destination=/c,name=..\n",
    );
    write(
        &env,
        "h/twice.container",
        "[Container]\nImage=quay.io/app/web:1\nTmpfs=/a\nVolume=b:/a\n",
    );
    write(
        &env,
        "h/later.image",
        "[Image]\nImage=quay.io/app/web:1\nPolicy=sometimes\n",
    );
    write(
        &env,
        "h/later.artifact",
        "[Artifact]\nArtifact=quay.io/app/data:1\nDecryptionKey=key\n",
    );
    let check = |words: &[&str]| {
        let done = env.kelp(&[&["quadlet", "check"], words].concat()).done();
        assert_eq!(done.stderr, "");
        (done.code, done.stdout)
    };
    assert_eq!(check(&["q/clean.volume"]), (0, String::new()));
    let drop_in = "q/web.container.d/x.conf:2: error: ReadOnly=: \"ja\" is not true or false\n";
    assert_eq!(check(&["q/web.container"]), (1, drop_in.to_owned()));
    let refused = "\
refused.container:5: error: PodmanArgs=: unknown flag: --nosuch
refused.container:6: error: AddDevice=: --device /dev/null: fewer permissions than rw need the devices controller, \
which only root has
";
    assert_eq!(check(&["refused.container"]), (1, refused.to_owned()));
    // What the engine would say when the service starts.
    for (unit, expected) in [
        (
            "later.container",
            "later.container:3: error: PodmanArgs=: invalid --sdnotify \"maybe\"",
        ),
        (
            "later.container",
            "later.container:4: error: PodmanArgs=: unsupported pull policy \"sometimes\"",
        ),
        (
            "later.container",
            "later.container:5: error: Mount=: invalid name \"..\": it is no file's name",
        ),
        (
            "twice.container",
            "twice.container: error: /a: duplicate mount destination",
        ),
        ("later.image", "later.image:3: error: Policy=: "),
        (
            "later.artifact",
            "later.artifact:3: warning: DecryptionKey=: kelp artifact pull has no --decryption-key yet",
        ),
    ] {
        let (code, said) = check(&[unit]);
        assert!(code == 1 && said.contains(expected), "{expected}: {said}");
    }
    assert!(!env.path("d/kelp/volumes").exists(), "nothing is made");
    let (code, said) = check(&["q"]);
    assert_eq!(code, 1);
    let subnet =
        "q/net.network:2: error: Subnet=: \"10.0.0.0/33\" is not a subnet as 10.89.0.0/24\n";
    assert!(said.contains(subnet) && said.contains(drop_in), "{said}");
    assert_eq!(
        check(&["q/gone.pod"]),
        (
            1,
            "q/gone.pod: error: no such file or directory\n".to_owned()
        )
    );
}

#[test]
fn units_of_containers_are_not_generated_of_containers() {
    let Some(env) = Env::new() else { return };
    assert_eq!(
        env.kelp(&["generate", "systemd", "--new", "web"])
            .fails(125),
        "Error: generate systemd is not supported by kelp: write a Quadlet file instead, of which systemd \
         makes the service (see 'kelp quadlet --help')"
    );
}
