//! Flags: how they are written, and what each does inside.

use crate::env::Env;

#[test]
fn flags_end_at_the_image() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    for (flags, command, printed) in [
        (&["--rm"][..], &["echo", "--rm", "-x"][..], "--rm -x\n"),
        (&["--rm", "--"], &["echo", "--", "y"], "-- y\n"),
        (
            &["--rm=false", "--rm=true", "-i=false"],
            &["echo", "z"],
            "z\n",
        ),
        (&["--rm", "--rm"], &["echo", "--nosuch"], "--nosuch\n"),
        (&["--rm", "--env=A=-b"], &["sh", "-c", "echo $A"], "-b\n"),
        (&["--rm", "-e", "A=c"], &["sh", "-c", "echo $A"], "c\n"),
        (&["--rm", "-eA=d"], &["sh", "-c", "echo $A"], "d\n"),
    ] {
        let words: Vec<_> = [&["run"], flags, &[&image], command].concat();
        assert_eq!(env.kelp(&words).succeeds(), printed, "{words:?}");
    }
}

#[test]
fn a_flag_that_is_none_is_named() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    for (words, said) in [
        (
            &["run", "--nosuch", &image][..],
            "unknown flag: --nosuch\nSee 'kelp run --help'",
        ),
        (
            &["create", "-Z", &image],
            "unknown shorthand flag: 'Z' in -Z\nSee 'kelp create --help'",
        ),
        (
            &["exec", "--nosuch=1", "x", "ls"],
            "unknown flag: --nosuch\nSee 'kelp exec --help'",
        ),
        (
            &["container", "ps", "--nosuch"],
            "unknown flag: --nosuch\nSee 'kelp container ps --help'",
        ),
        (
            &["run", "--rm=perhaps", &image],
            "invalid argument \"perhaps\" for \"--rm\" flag: use true or false\nSee 'kelp run --help'",
        ),
        (
            &["run", "--pod", "p", &image],
            "--pod is not supported by kelp yet",
        ),
        (
            &["create", "--requires=x", &image],
            "--requires is not supported by kelp yet",
        ),
        (
            &["exec", "-l", "ls"],
            "--latest is not supported by kelp yet",
        ),
    ] {
        let done = env.kelp(words).done();
        assert_eq!(
            (done.code, done.stdout.as_str(), done.stderr.as_str()),
            (125, "", format!("Error: {said}\n").as_str()),
            "{words:?}"
        );
    }
}
