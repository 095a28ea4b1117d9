//! `run`: exit codes and the words of failures.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::env::Env;

#[test]
fn the_programs_exit_code_is_kelps() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    for code in [0, 1, 7, 125, 255] {
        let script = format!("exit {code}");
        let done = env
            .kelp(&["run", "--rm", &image, "sh", "-c", &script])
            .done();
        assert_eq!((done.code, done.stderr.as_str()), (code, ""), "{done:#?}");
    }
}

#[test]
fn a_program_that_is_not_there_is_127() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    for program in ["nothing-of-that-name", "/bin/nothing", "./nothing"] {
        let line = env.kelp(&["run", "--rm", &image, program]).fails(127);
        assert!(line.contains(program), "{line}");
    }
}

#[test]
fn a_program_that_cannot_be_run_is_126() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    for program in ["/etc/passwd", "/tmp"] {
        let line = env.kelp(&["run", "--rm", &image, program]).fails(126);
        assert!(line.contains(program), "{line}");
    }
}

#[test]
fn a_script_without_its_interpreter_is_127_and_says_so() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let script = env.path("h/script");
    fs::write(&script, "#!/no/such\n").unwrap();
    fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
    let bind = format!("{}:/script:ro", script.display());
    let line = env
        .kelp(&["run", "--rm", "-v", &bind, &image, "/script"])
        .fails(127);
    assert_eq!(
        line,
        "Error: /script: its interpreter is missing: no such file or directory"
    );
}

#[test]
fn kelps_own_failures_are_125() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    for arguments in [
        vec![
            "run",
            "--rm",
            "--user",
            "nobody-of-that-name",
            &image,
            "true",
        ],
        vec!["run", "--rm", "--network", "nonsense:", &image, "true"],
        vec!["run", "--rm", "--name", "not/a/name", &image, "true"],
        vec!["run", "--rm", "--memory", "much", &image, "true"],
        vec![
            "run",
            "--rm",
            "--volume",
            "relative-name/with/slash:/mnt",
            &image,
            "true",
        ],
        vec!["run", "--rm", "NOT A REFERENCE", "true"],
    ] {
        env.kelp(&arguments).fails(125);
    }
}

#[test]
fn an_image_that_is_nowhere_is_125() {
    let Some(env) = Env::new() else { return };
    let unknown = format!("{}/no/such/image", env.registry().address);
    let done = env.kelp(&["run", "--rm", &unknown, "true"]).done();
    // What is tried is said first.
    let last = done.stderr.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("Error: ") && last.contains("no/such/image"),
        "{done:#?}"
    );
    done.exits(125);
}

#[test]
fn a_wrong_flag_is_125_and_says_which() {
    let Some(env) = Env::new() else { return };
    let done = env.kelp(&["run", "--no-such-flag", "image"]).done();
    assert_eq!(done.code, 125, "{done:#?}");
    assert!(done.stderr.starts_with("Error: "), "{done:#?}");
    assert!(done.stderr.contains("--no-such-flag"), "{done:#?}");
}

#[test]
fn a_killed_program_is_128_and_the_signal() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    env.kelp(&["run", "-d", "--name", "victim", &image, "sleep", "100"])
        .succeeds();
    env.kelp(&["kill", "victim"]).succeeds();
    assert_eq!(
        env.kelp(&["wait", "-i", "250", "victim"]).succeeds(),
        "137\n"
    );
    env.kelp(&["rm", "victim"]).succeeds();
}
