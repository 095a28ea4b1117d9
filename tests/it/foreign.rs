//! Programs of other architectures.

use std::fs;

use serde_json::json;

use crate::archive::Layer;
use crate::env::Env;
use crate::image::Image;
use crate::skip;

#[test]
fn a_program_of_another_architecture_is_refused_with_the_way_out() {
    let Some(env) = Env::new() else { return };
    // A header of a static program for s390x (elf(5)), and nothing behind it.
    let mut program = vec![0; 64];
    program[..7].copy_from_slice(b"\x7fELF\x02\x02\x01");
    program[16..24].copy_from_slice(&[0, 2, 0, 22, 0, 0, 0, 1]);
    let make = || {
        let layer = Layer::default().file("program", 0o755, &program);
        Image::empty()
            .layer(layer)
            .architecture("s390x")
            .set("Cmd", json!(["/program"]))
    };
    if fs::read_to_string("/proc/sys/fs/binfmt_misc/qemu-s390x").is_ok() {
        return skip::skip("a machine without an interpreter for s390x");
    }
    let name = env.push("lists-foreign", &make);
    env.kelp(&["pull", "-q", "--platform=linux/s390x", &name])
        .succeeds();
    let line = env.kelp(&["run", "--rm", &name]).fails(126);
    assert!(line.contains("the image is for linux/s390x"), "{line}");
    assert!(
        line.contains("qemu-user-static") || line.contains("switched off"),
        "{line}"
    );
}
