//! config.md: what is wrong is an error, what is unknown is not.

use std::fs;

use serde_json::{Value, json};

use crate::case::Case;
use crate::outcome::{Outcome, holds};
use crate::stage::Stage;

const VALUES: &str = "config.md: Valid values";

pub(crate) const CASES: &[Case] = &[
    Case::new("malformed_json", "bundle.md: Container Format", malformed),
    Case::new(
        "config_that_is_missing",
        "bundle.md: Container Format",
        missing,
    ),
    Case::new(
        "config_that_is_a_directory",
        "bundle.md: Container Format",
        directory,
    ),
    Case::new("values_of_the_wrong_type", VALUES, types),
    Case::new(
        "version_that_is_unknown",
        "config.md: Specification version",
        version,
    ),
    Case::new(
        "version_that_is_missing",
        "config.md: Specification version",
        no_version,
    ),
    Case::new(
        "older_versions_are_taken",
        "config.md: Specification version",
        older,
    ),
    Case::new(
        "unknown_properties_are_ignored",
        "config.md: Extensibility",
        unknown,
    ),
    Case::new(
        "annotations_that_are_unknown",
        "config.md: Annotations",
        annotations,
    ),
    Case::new("values_out_of_range", VALUES, ranges),
    Case::new("nul_in_strings", VALUES, nul),
];

fn refuses_text(stage: &Stage<'_>, text: &[u8]) -> Outcome {
    fs::write(stage.bundle().join("config.json"), text)?;
    stage.refuses_call(&["create", &stage.id()])?;
    Ok(())
}

fn malformed(stage: &Stage<'_>) -> Outcome {
    let whole = serde_json::to_vec(&stage.spec().0)?;
    let half = &whole[..whole.len() / 2];
    for text in [
        b"",
        b"{".as_slice(),
        b"[]",
        b"null",
        b"\"text\"",
        half,
        b"{\"ociVersion\": \"1.0.2\" \xff}",
    ] {
        refuses_text(stage, text)?;
    }
    Ok(())
}

fn missing(stage: &Stage<'_>) -> Outcome {
    stage.refuses_call(&["create", &stage.id()])?;
    Ok(())
}

fn directory(stage: &Stage<'_>) -> Outcome {
    fs::create_dir(stage.bundle().join("config.json"))?;
    stage.refuses_call(&["create", &stage.id()])?;
    Ok(())
}

fn types(stage: &Stage<'_>) -> Outcome {
    let wrong = [
        ("/ociVersion", json!(1)),
        ("/process", json!([])),
        ("/process/args", json!("sh")),
        ("/process/args/0", json!(7)),
        ("/process/env", json!({"A": "b"})),
        ("/process/user", json!("root")),
        ("/process/user/uid", json!("0")),
        ("/process/cwd", json!(["/"])),
        ("/root", json!("rootfs")),
        ("/root/path", json!(true)),
        ("/mounts", json!({})),
        ("/mounts/0/destination", json!(3)),
        ("/linux/namespaces", json!("pid")),
        ("/linux/namespaces/0/type", json!(1)),
        ("/linux/cgroupsPath", json!(["/a"])),
    ];
    let mut taken = Vec::new();
    for (pointer, value) in wrong {
        let mut spec = stage.spec();
        if let Some(place) = spec.pointer_mut(pointer) {
            *place = value;
        }
        stage.write(&spec)?;
        let id = stage.id();
        let done = stage.call_on("create", &id)?;
        if done.code == 0 {
            taken.push(pointer);
            stage.call(&["delete", "--force", &id])?;
        } else {
            stage.says_why(&done.err)?;
        }
        stage.left_nothing()?;
    }
    holds(taken.is_empty(), format!("taken: {}", taken.join(" ")))
}

fn with_version(stage: &Stage<'_>, version: &Value) -> Outcome<i32> {
    let mut spec = stage.spec();
    spec["ociVersion"] = version.clone();
    let done = stage.run(&spec)?;
    if done.code != 0 {
        stage.says_why(&done.err)?;
    }
    Ok(done.code)
}

fn version(stage: &Stage<'_>) -> Outcome {
    for version in ["2.0.0", "nonsense", "", "1"] {
        let code = with_version(stage, &json!(version))?;
        holds(code != 0, format!("{version:?} is taken"))?;
    }
    stage.left_nothing()
}

fn no_version(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    if let Some(object) = spec.as_object_mut() {
        object.remove("ociVersion");
    }
    stage.refuses(&spec)?;
    Ok(())
}

fn older(stage: &Stage<'_>) -> Outcome {
    for version in ["1.0.0", "1.0.2", "1.0.2-dev", "1.1.0"] {
        let code = with_version(stage, &json!(version))?;
        holds(code == 0, format!("{version:?} is refused"))?;
    }
    Ok(())
}

fn unknown(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    for pointer in [
        "",
        "/process",
        "/process/user",
        "/root",
        "/mounts/0",
        "/linux",
        "/linux/namespaces/0",
    ] {
        if let Some(Value::Object(object)) = spec.pointer_mut(pointer) {
            object.insert("orgExampleUnknown".to_owned(), json!({"a": [1, null]}));
        }
    }
    stage.prints(&mut spec, "echo runs", "runs\n")
}

fn annotations(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["annotations"] = json!({"nosuch": "x", "org.example/with space": "\u{1F980}", "a": ""});
    stage.prints(&mut spec, "echo runs", "runs\n")
}

fn ranges(stage: &Stage<'_>) -> Outcome {
    let wrong = [
        ("/process/user/uid", json!(-1)),
        ("/process/user/gid", json!(4_294_967_296_u64)),
        ("/process/user/uid", json!(1.5)),
    ];
    for (pointer, value) in wrong {
        let mut spec = stage.spec();
        if let Some(place) = spec.pointer_mut(pointer) {
            *place = value;
        }
        stage.refuses_late(&spec)?;
    }
    stage.left_nothing()
}

fn nul(stage: &Stage<'_>) -> Outcome {
    for (pointer, value) in [
        ("/process/args", json!(["/bin/true", "a\0b"])),
        ("/process/env", json!(["PATH=/bin", "A=b\0c"])),
        ("/process/cwd", json!("/\0etc")),
        ("/mounts/0/destination", json!("/pr\0oc")),
    ] {
        let mut spec = stage.spec();
        if let Some(place) = spec.pointer_mut(pointer) {
            *place = value;
        }
        stage.refuses_late(&spec)?;
    }
    stage.left_nothing()
}
