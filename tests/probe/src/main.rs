//! Tells tests what a process in a container sees: a line of JSON a subject.
//!
//! `kelp-probe lines COUNT RATE` writes numbered lines instead, so many a second.
//!
//! `kelp-probe [SUBJECT...]`, all subjects by default. Depends on nothing but /proc, so that it runs
//! in an empty image. A subject that can't be read is `null`, and the others are still told.

mod json;
mod lines;
mod subjects;

use std::process::ExitCode;

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let [verb, count, rate] = &wanted[..]
        && verb == "lines"
    {
        return lines::write(count, rate);
    }
    for (name, tell) in subjects::ALL {
        if !wanted.is_empty() && !wanted.iter().any(|subject| subject == name) {
            continue;
        }
        let value = tell().unwrap_or(json::Value::Null);
        println!("{{{}:{value}}}", json::Value::from(*name));
    }
    let known = |subject: &String| subjects::ALL.iter().any(|(name, _)| name == subject);
    if let Some(unknown) = wanted.iter().find(|subject| !known(subject)) {
        eprintln!("no subject {unknown}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
