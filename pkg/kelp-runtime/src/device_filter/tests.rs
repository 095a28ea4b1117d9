//! What the program answers, run by an interpreter of the few instructions that it has.

use super::*;

/// What the program returns for a device and an access.
fn run(program: &[Instruction], kind: u32, (major, minor): (u32, u32), access: u32) -> u32 {
    let context = [access << 16 | kind, major, minor];
    let mut registers = [0_u32; 11];
    let mut at = 0;
    loop {
        let (code, target, source, offset, operand) = program[at].parts();
        let (target, source) = (usize::from(target), usize::from(source));
        let value = operand.cast_unsigned();
        let mut is_taken = false;
        match code {
            LOAD_WORD => {
                assert_eq!(source, usize::from(CONTEXT));
                registers[target] = context[usize::try_from(offset).unwrap() / 4];
            }
            MOVE => registers[target] = registers[source],
            MOVE_OPERAND => registers[target] = value,
            AND => registers[target] &= value,
            SHIFT_RIGHT => registers[target] >>= value,
            JUMP => is_taken = true,
            JUMP_IF_NOT_EQUAL => is_taken = registers[target] != value,
            JUMP_IF_ANY_BIT => is_taken = registers[target] & value != 0,
            EXIT => return registers[usize::from(RESULT)],
            other => panic!("no such code: {other:#x}"),
        }
        at += 1;
        if is_taken {
            // Forwards only, or the kernel would not take it.
            at += usize::try_from(offset).unwrap();
        }
    }
}

fn filter(rules: &str) -> Vec<Instruction> {
    let rules: Vec<LinuxDeviceCgroup> = serde_json::from_str(rules).unwrap();
    let filter = DeviceFilter::new(&rules).unwrap().unwrap();
    assert_all_reached(&filter.instructions);
    filter.instructions
}

/// The kernel refuses instructions that nothing leads to.
fn assert_all_reached(program: &[Instruction]) {
    let mut reached = vec![false; program.len()];
    let mut next = vec![0];
    while let Some(at) = next.pop() {
        if std::mem::replace(&mut reached[at], true) {
            continue;
        }
        let (code, _, _, offset, _) = program[at].parts();
        let over = at + 1 + usize::try_from(offset.max(0)).unwrap();
        match code {
            EXIT => {}
            JUMP => next.push(over),
            JUMP_IF_NOT_EQUAL | JUMP_IF_ANY_BIT => next.extend([at + 1, over]),
            _ => next.push(at + 1),
        }
    }
    assert!(reached.iter().all(|reached| *reached), "{program:?}");
}

const FUSE: (u32, u32) = (10, 229);
const NULL: (u32, u32) = (1, 3);
const DISK: (u32, u32) = (8, 0);

const DENY_ALL: &str = r#"{"allow": false, "access": "rwm"}"#;

#[test]
fn the_specifications_example_allows_what_it_says() {
    let program = filter(&format!(
        r#"[{DENY_ALL},
            {{"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}},
            {{"allow": true, "type": "b", "major": 8, "minor": 0, "access": "r"}}]"#
    ));
    for (kind, device, access, expected) in [
        (CHARACTER, FUSE, READ, 1),
        (CHARACTER, FUSE, READ | WRITE, 1),
        (BLOCK, FUSE, READ, 0),
        (CHARACTER, (10, 228), READ, 0),
        (CHARACTER, (11, 229), READ, 0),
        (BLOCK, DISK, READ, 1),
        (BLOCK, DISK, WRITE, 0),
        (BLOCK, DISK, READ | WRITE, 0),
        (BLOCK, DISK, MAKE, 1),
        (CHARACTER, FUSE, READ | WRITE | MAKE, 1),
    ] {
        let found = run(&program, kind, device, access);
        assert_eq!(found, expected, "{kind} {device:?} {access}");
    }
}

#[test]
fn what_every_container_has_stays_allowed() {
    let program = filter(&format!("[{DENY_ALL}]"));
    for minor in [3, 5, 7, 8, 9] {
        assert_eq!(run(&program, CHARACTER, (1, minor), READ | WRITE), 1);
    }
    for device in [(5, 0), (5, 1), (5, 2), (136, 0), (136, 77)] {
        assert_eq!(run(&program, CHARACTER, device, READ | WRITE), 1);
    }
    // A node alone gives nobody the device.
    assert_eq!(run(&program, BLOCK, DISK, MAKE), 1);
    assert_eq!(run(&program, CHARACTER, (1, 1), MAKE), 1);
    for (kind, device) in [
        (BLOCK, DISK),
        (CHARACTER, (1, 1)),
        (CHARACTER, FUSE),
        (BLOCK, NULL),
        (BLOCK, (136, 0)),
    ] {
        assert_eq!(run(&program, kind, device, READ), 0, "{kind} {device:?}");
        assert_eq!(run(&program, kind, device, READ | MAKE), 0);
    }
}

#[test]
fn later_rules_win_each_access_by_itself() {
    let program = filter(&format!(
        r#"[{DENY_ALL}, {{"allow": true, "type": "c", "major": 10}},
            {{"allow": false, "type": "c", "major": 10, "minor": 229, "access": "w"}}]"#
    ));
    assert_eq!(run(&program, CHARACTER, FUSE, READ), 1);
    assert_eq!(run(&program, CHARACTER, FUSE, WRITE), 0);
    assert_eq!(run(&program, CHARACTER, FUSE, READ | WRITE), 0);
    assert_eq!(run(&program, CHARACTER, (10, 200), READ | WRITE), 1);
    // Allowed by two rules, half each.
    let program = filter(
        r#"[{"allow": true, "type": "b", "major": 8, "access": "r"},
            {"allow": true, "type": "b", "major": 8, "minor": 0, "access": "w"}]"#,
    );
    assert_eq!(run(&program, BLOCK, DISK, READ | WRITE), 1);
    assert_eq!(run(&program, BLOCK, (8, 1), READ | WRITE), 0);
    assert_eq!(run(&program, BLOCK, (8, 1), READ), 1);
}

#[test]
fn wildcards_are_any_number_and_any_type() {
    let program = filter(
        r#"[{"allow": false, "type": "a", "major": -1, "minor": -1, "access": "rwm"},
            {"allow": true, "type": "a", "minor": 229, "access": "rwm"}]"#,
    );
    assert_eq!(run(&program, CHARACTER, FUSE, READ), 1);
    assert_eq!(run(&program, BLOCK, (4_000, 229), READ), 1);
    assert_eq!(run(&program, BLOCK, (4_000, 230), READ), 0);
    let everything = filter(&format!(r#"[{DENY_ALL}, {{"allow": true, "type": "a"}}]"#));
    assert_eq!(run(&everything, BLOCK, DISK, ALL), 1);
    // All but one.
    let program =
        filter(r#"[{"allow": true, "access": "rwm"}, {"allow": false, "type": "b", "major": 8}]"#);
    assert_eq!(run(&program, BLOCK, DISK, READ), 0);
    assert_eq!(run(&program, BLOCK, (9, 0), ALL), 1);
    // What no rule is about is denied.
    let program = filter(r#"[{"allow": true, "type": "b", "major": 8, "access": "rwm"}]"#);
    assert_eq!(run(&program, BLOCK, (9, 0), READ), 0);
    // The largest number is not the operand -1 of something else.
    let program = filter(&format!(
        r#"[{DENY_ALL}, {{"allow": true, "type": "b", "major": 4294967295}}]"#
    ));
    assert_eq!(run(&program, BLOCK, (u32::MAX, 0), READ), 1);
    assert_eq!(run(&program, BLOCK, (0, 0), READ), 0);
}

#[test]
fn what_is_no_rule_is_refused_by_its_number() {
    for (rule, why) in [
        (r#""access": "rx""#, "access 'x': use r, w and m"),
        (
            r#""major": -2"#,
            "major -2: use a number from 0 on, or -1 for any",
        ),
        (
            r#""minor": 4294967296"#,
            "minor 4294967296: use a number from 0 on, or -1 for any",
        ),
        (r#""type": "p""#, "a fifo is no device: type is a, b or c"),
    ] {
        let rules = format!(r#"[{DENY_ALL}, {{"allow": true, {rule}}}]"#);
        let rules: Vec<LinuxDeviceCgroup> = serde_json::from_str(&rules).unwrap();
        let error = DeviceFilter::new(&rules).unwrap_err().to_string();
        assert_eq!(error, format!("linux.resources.devices[1]: {why}"));
    }
    assert_eq!(DeviceFilter::new(&[]).unwrap(), None);
}
