//! containers.conf: what it says is seen inside, and what the command line says wins.

use std::fs;

use crate::env::Env;

fn write(env: &Env, text: &str) {
    fs::write(env.path("c/containers/containers.conf"), text).unwrap();
}

#[test]
fn each_setting_is_seen_inside_and_a_flag_wins() {
    let Some(env) = Env::new() else { return };
    fs::create_dir(env.path("h/shared")).unwrap();
    fs::write(env.path("h/shared/file"), "of-the-host\n").unwrap();
    let volume = format!(
        "volumes = ['{}:/shared:ro']",
        env.path("h/shared").display()
    );
    for (line, flags, script, by_default, by_flag) in [
        (
            "env = ['A=conf', 'PATH=/nowhere']",
            &["-e", "A=flag"][..],
            "echo $A $PATH",
            "conf /usr/bin:/bin\n",
            "flag /usr/bin:/bin\n",
        ),
        (
            "env_host = true",
            &["--env-host=false"],
            "echo $KELP_TEST_CANARY",
            "of the host\n",
            "\n",
        ),
        (
            "umask = '0077'",
            &["--umask=0027"],
            "umask",
            "0077\n",
            "0027\n",
        ),
        (
            "default_ulimits = ['nofile=111:222', 'core=0:0']",
            &["--ulimit=nofile=99:99"],
            "ulimit -n; ulimit -c",
            "111\n0\n",
            "99\n0\n",
        ),
        (
            "default_sysctls = ['net.ipv4.ip_unprivileged_port_start=7']",
            &["--sysctl=net.ipv4.ip_unprivileged_port_start=8"],
            "cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
            "7\n",
            "8\n",
        ),
        (
            "default_capabilities = ['CHOWN']",
            &["--cap-add=KILL"],
            "grep CapBnd /proc/self/status | cut -f2",
            "0000000000000001\n",
            "0000000000000021\n",
        ),
        (
            "read_only = true",
            &["--read-only=false"],
            "touch /x 2>/dev/null && echo written || echo refused",
            "refused\n",
            "written\n",
        ),
        ("init = true", &["--init=false"], "echo $$", "2\n", "1\n"),
        (
            "dns_servers = ['10.9.9.9']\ndns_searches = ['conf.test']",
            &["--dns=10.8.8.8"],
            "grep -c 10.9.9.9 /etc/resolv.conf; grep search /etc/resolv.conf",
            "1\nsearch conf.test\n",
            "0\nsearch conf.test\n",
        ),
        (
            "no_hosts = true",
            &["--no-hosts=false"],
            "grep -c ' /etc/hosts ' /proc/self/mounts; true",
            "0\n",
            "1\n",
        ),
        (
            "base_hosts_file = 'none'",
            &["--add-host=flag:10.1.1.1"],
            "grep -c flag /etc/hosts; true",
            "0\n",
            "1\n",
        ),
        (
            "shm_size = '1m'",
            &["--shm-size=2m"],
            "grep ' /dev/shm ' /proc/self/mounts | grep -o 'size=[0-9]*k'",
            "size=1024k\n",
            "size=2048k\n",
        ),
        (
            "oom_score_adj = 500",
            &["--oom-score-adj=600"],
            "cat /proc/self/oom_score_adj",
            "500\n",
            "600\n",
        ),
        (
            "devices = ['/dev/null:/dev/mine']",
            &["--device=/dev/null:/dev/other"],
            "ls /dev/mine 2>/dev/null; true",
            "/dev/mine\n",
            "",
        ),
        (
            volume.as_str(),
            &["--tmpfs=/shared"],
            "cat /shared/file 2>/dev/null; true",
            "of-the-host\n",
            "",
        ),
        (
            "mounts = ['type=tmpfs,dst=/t,tmpfs-mode=0711']",
            &["--tmpfs=/t:mode=0700"],
            "stat -c %a /t",
            "711\n",
            "700\n",
        ),
        (
            "utsns = 'private'\ncontainer_name_as_hostname = true",
            &["-h", "flag"],
            "hostname",
            "named\n",
            "flag\n",
        ),
        (
            "pidns = 'host'",
            &["--pid=private"],
            "test $$ -lt 3 && echo own || echo host",
            "host\n",
            "own\n",
        ),
        (
            "userns = 'keep-id'",
            &["--userns=host"],
            "test $(id -u) = 0 && echo root || echo kept",
            "kept\n",
            "root\n",
        ),
        (
            "netns = 'none'",
            &["--network=host"],
            "test -e /proc/sys/net/ipv4/conf/eth0 -o $(ls /sys/class/net | wc -l) -gt 1 && echo more || echo lo",
            "lo\n",
            "more\n",
        ),
    ] {
        write(&env, &format!("[containers]\n{line}\n"));
        assert_eq!(env.shell(&["--name=named"], script), by_default, "{line}");
        let flags = [flags, &["--name=named"]].concat();
        assert_eq!(env.shell(&flags, script), by_flag, "{line} {flags:?}");
    }
}

#[test]
fn what_has_no_effect_inside_is_in_the_record() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    write(
        &env,
        "[containers]\nannotations = ['a=conf']\nlog_driver = 'none'\n\
         host_containers_internal_ip = '10.7.7.7'\ntz = 'Europe/Berlin'\n\
         [engine]\nstop_timeout = 3\ndetach_keys = 'ctrl-x'\npull_policy = 'never'\n\
         image_volume_mode = 'ignore'\n",
    );
    env.kelp(&["create", "--name=web", &image, "cat", "/etc/hosts"])
        .succeeds();
    let format =
        "{{.Config.StopTimeout}} {{.HostConfig.LogConfig.Type}} {{.HostConfig.Annotations.a}}";
    assert_eq!(
        env.kelp(&["inspect", "-f", format, "web"]).succeeds(),
        "3 none conf\n"
    );
    let hosts = env.kelp(&["start", "-a", "web"]).succeeds();
    assert!(
        hosts.contains("10.7.7.7\thost.containers.internal"),
        "{hosts}"
    );
    env.kelp(&["rm", "web"]).succeeds();
    let line = env.kelp(&["create", "127.0.0.1:1/nosuch"]).fails(125);
    assert!(line.contains("nosuch"), "{line}");
}

#[test]
fn a_wrong_value_is_told_with_file_and_line() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let file = env
        .path("c/containers/containers.conf")
        .display()
        .to_string();
    for (text, said) in [
        (
            "[containers]\ninit = 'yes'\n",
            "2: init is true or false, not a text",
        ),
        (
            "[containers]\n\ndefault_ulimits = ['nofile']\n",
            "3: invalid ulimit \"nofile\": a ulimit is NAME=SOFT[:HARD]",
        ),
        (
            "[containers]\nlog_driver = 'syslog'\n",
            "2: invalid log driver \"syslog\": use k8s-file, json-file, journald, none, passthrough or \
             passthrough-tty",
        ),
        (
            "[containers]\nshm_size = 'much'\n",
            "2: invalid size \"much\": a size is a number with b, k, m, g or t",
        ),
        (
            "[engine]\nimage_default_transport = 'docker-archive:'\n",
            "2: a name without a transport is one in a registry, and not of docker-archive:",
        ),
    ] {
        write(&env, text);
        let line = env.kelp(&["run", "--rm", &image, "true"]).fails(125);
        assert_eq!(line, format!("Error: {file}:{said}"));
    }
    write(&env, "[containers]\ntzz = 'UTC'\n");
    let done = env.kelp(&["run", "--rm", &image, "echo", "x"]).done();
    assert_eq!((done.code, done.stdout.as_str()), (0, "x\n"));
    assert_eq!(
        done.stderr,
        format!("Warning: {file}:2: unknown key \"tzz\" in table \"containers\"\n")
    );
}

#[test]
fn variables_name_the_file_and_one_over_all() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    write(&env, "[containers]\nenv = ['A=user', 'B=user']\n");
    let only = env.path("h/only.conf");
    fs::write(&only, "[containers]\nenv = ['A=only']\n").unwrap();
    let last = env.path("h/last.conf");
    fs::write(&last, "[containers]\nenv = ['C=last', {append = true}]\n").unwrap();
    let seen = |only: Option<&str>, last: Option<&str>| {
        let words = ["run", "--rm", &image, "sh", "-c", "echo $A $B $C"];
        let mut command = env.kelp(&words).into_command();
        command.envs(only.map(|only| ("CONTAINERS_CONF", only)));
        command.envs(last.map(|last| ("CONTAINERS_CONF_OVERRIDE", last)));
        crate::kelp::Kelp::new(command).succeeds()
    };
    let (only, last) = (only.to_str(), last.to_str());
    assert_eq!(seen(None, None), "user user\n");
    assert_eq!(seen(only, None), "only\n");
    assert_eq!(seen(None, last), "user user last\n");
    assert_eq!(seen(only, last), "only last\n");
}
