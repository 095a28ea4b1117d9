//! What is said when a container can't be started.

use crate::env::Env;
use crate::skip::{no_pasta, skip};

#[test]
fn a_network_that_is_set_up_meanwhile_does_not_hide_the_reason() {
    let Some(env) = Env::new() else { return };
    if let Some(missing) = no_pasta() {
        skip(missing);
        return;
    }
    let image = env.busybox();
    for (flag, reason) in [
        ("--user=70000", "become user 70000"),
        ("--ulimit=nofile=99999999", "set the limit Nofile"),
        ("--oom-score-adj=-500", "set the OOM score to -500"),
    ] {
        let with = |network: &str| {
            let run = ["run", "--rm", network, flag, image.as_str(), "true"];
            env.kelp(&run).fails(125)
        };
        let expected = with("--network=none");
        assert!(expected.contains(reason), "{expected}");
        for _ in 0..2 {
            assert_eq!(with("--network=pasta"), expected);
        }
    }
}
