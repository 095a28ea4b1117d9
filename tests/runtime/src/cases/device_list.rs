//! config-linux.md: which devices a container may use.
//!
//! The devices have numbers that no driver has: where the list allows one, opening it fails with
//! another error than where it does not.

use std::fs;

use serde_json::{Value, json};

use crate::case::{Case, Needs};
use crate::outcome::{Outcome, holds, not_applicable, same};
use crate::spec::Spec;
use crate::stage::Stage;

const LIST: &str = "config-linux.md: Allowed Device list";

pub(crate) const CASES: &[Case] = &[
    Case::new("denied_unless_allowed", LIST, allowed).needs(Needs::Root),
    Case::new("entries_apply_in_their_order", LIST, order).needs(Needs::Root),
    Case::new("unset_values_mean_all", LIST, unset).needs(Needs::Root),
    Case::new(
        "default_devices_stay",
        "config-linux.md: Default Devices",
        defaults,
    )
    .needs(Needs::Root),
    Case::new("processes_of_exec_have_the_same", LIST, of_exec).needs(Needs::Root),
    Case::new("update_replaces_the_list", LIST, update).needs(Needs::Root),
    Case::new("what_is_no_entry_is_refused", LIST, refused),
];

/// Makes the devices c 60:1, c 60:2, b 60:1, and has a function that opens one and says how that went.
const PREPARE: &str = "set -e
    mknod /dev/c1 c 60 1; mknod /dev/c2 c 60 2; mknod /dev/b1 b 60 1
    echo ready; exec sleep 1000";

const ASK: &str = r#"ask() {
    said=$(eval ": $1/dev/$2" 2>&1) && said=opened
    case "$said" in
        *"not permitted") echo "$1$2 no" ;;
        *"No such device"*) echo "$1$2 yes" ;;
        *) echo "$1$2 $said" ;;
    esac
}
"#;

fn spec(stage: &Stage<'_>, rules: Value) -> Spec {
    let mut spec = stage.spec();
    spec.capabilities(&["CAP_MKNOD", "CAP_DAC_OVERRIDE"]);
    spec["linux"]["resources"]["devices"] = rules;
    spec
}

/// What a container with these rules says to questions: an operator of the shell and a device.
fn answers(stage: &Stage<'_>, rules: Value, questions: &str) -> Outcome<String> {
    let mut spec = spec(stage, rules);
    let asked = PREPARE.replace("echo ready; exec sleep 1000", "");
    stage.shell(&mut spec, &format!("{asked}\n{ASK}{}", each(questions)))
}

fn each(questions: &str) -> String {
    let words = questions.split_whitespace();
    let asks = words.map(|word| {
        let at = word.find(|c: char| c.is_ascii_lowercase()).unwrap_or(0);
        format!("ask '{}' {}\n", &word[..at], &word[at..])
    });
    asks.collect()
}

fn allowed(stage: &Stage<'_>) -> Outcome {
    let rules = json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 60, "minor": 1, "access": "rw"},
        {"allow": true, "type": "b", "major": 60, "minor": 1, "access": "r"},
    ]);
    let found = answers(stage, rules, "<c1 >>c1 <>c1 <c2 >>c2 <b1 >>b1 <>b1")?;
    same(
        "what is allowed",
        found.as_str(),
        "<c1 yes\n>>c1 yes\n<>c1 yes\n<c2 no\n>>c2 no\n<b1 yes\n>>b1 no\n<>b1 no\n",
    )
}

fn order(stage: &Stage<'_>) -> Outcome {
    let rules = json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 60, "access": "rwm"},
        {"allow": false, "type": "c", "major": 60, "minor": 2, "access": "rwm"},
    ]);
    let found = answers(stage, rules, "<>c1 <>c2")?;
    same("what is allowed", found.as_str(), "<>c1 yes\n<>c2 no\n")?;
    let rules = json!([
        {"allow": true, "type": "c", "major": 60, "access": "rwm"},
        {"allow": false, "access": "rwm"},
    ]);
    let found = answers(stage, rules, "<>c1")?;
    same("what is allowed", found.as_str(), "<>c1 no\n")
}

fn unset(stage: &Stage<'_>) -> Outcome {
    let rules = json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "major": 60, "minor": 1, "access": "rwm"},
    ]);
    let found = answers(stage, rules, "<c1 <b1 <c2")?;
    same(
        "what is allowed",
        found.as_str(),
        "<c1 yes\n<b1 yes\n<c2 no\n",
    )?;
    let rules = json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "a", "access": "rwm"},
    ]);
    let found = answers(stage, rules, "<>c1 <>b1 <>c2")?;
    same(
        "what is allowed",
        found.as_str(),
        "<>c1 yes\n<>b1 yes\n<>c2 yes\n",
    )
}

fn defaults(stage: &Stage<'_>) -> Outcome {
    let mut spec = spec(stage, json!([{"allow": false, "access": "rwm"}]));
    let script = "set -e
        for name in null zero full random urandom; do : </dev/$name; done
        echo x >/dev/null; : <>/dev/ptmx
        mknod /dev/own c 1 3; : <>/dev/own; echo all";
    stage.prints(&mut spec, script, "all\n")
}

fn of_exec(stage: &Stage<'_>) -> Outcome {
    let mut spec = spec(
        stage,
        json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 60, "minor": 1, "access": "rwm"},
        ]),
    );
    spec.script(PREPARE);
    let container = stage.create(&spec)?;
    container.start()?;
    container.reads("ready\n")?;
    let found = container.exec(&[], &format!("{ASK}{}", each("<>c1 <>c2")))?;
    same("what is allowed", found.as_str(), "<>c1 yes\n<>c2 no\n")?;
    container.end()
}

fn update(stage: &Stage<'_>) -> Outcome {
    if !stage.runtime().is_kelp() {
        return not_applicable("the specification has no update");
    }
    let deny = json!({"allow": false, "access": "rwm"});
    let mut spec = spec(stage, json!([deny]));
    spec.script(PREPARE);
    let container = stage.create(&spec)?;
    container.start()?;
    container.reads("ready\n")?;
    let ask = format!("{ASK}{}", each("<c1 <c2"));
    let file = stage.path("resources.json");
    let file = file.display().to_string();
    for (minor, expected) in [(1, "<c1 yes\n<c2 no\n"), (2, "<c1 no\n<c2 yes\n")] {
        let allow = json!({"allow": true, "type": "c", "major": 60, "minor": minor});
        fs::write(&file, json!({"devices": [deny, allow]}).to_string())?;
        stage
            .call(&["update", "-r", &file, container.id()])?
            .succeeds()?;
        same(
            "what is allowed",
            container.exec(&[], &ask)?.as_str(),
            expected,
        )?;
    }
    // What says nothing about devices leaves the list.
    fs::write(&file, "{}")?;
    stage
        .call(&["update", "-r", &file, container.id()])?
        .succeeds()?;
    let found = container.exec(&[], &ask)?;
    same("what is allowed", found.as_str(), "<c1 no\n<c2 yes\n")?;
    container.end()
}

fn refused(stage: &Stage<'_>) -> Outcome {
    if !stage.runtime().is_kelp() {
        return not_applicable("the specification does not say that there is an error");
    }
    for (rule, why) in [
        (json!({"allow": true, "access": "rx"}), "access 'x'"),
        (json!({"allow": true, "major": -3}), "major -3"),
    ] {
        let spec = spec(stage, json!([rule]));
        let said = stage.refuses(&spec)?;
        let line = format!("linux.resources.devices[0]: {why}");
        holds(said.contains(&line), format!("no {line:?} in {said:?}"))?;
    }
    Ok(())
}
