//! The README's first command.

use crate::env::Env;

#[test]
fn the_first_command_needs_no_network() {
    let Some(env) = Env::new() else { return };
    let text = env.kelp(&["run", "--rm", "hello"]).succeeds();
    for row in ["user map", "namespaces", "capabilities", "seccomp"] {
        assert!(text.contains(row), "no {row} in:\n{text}");
    }
}
