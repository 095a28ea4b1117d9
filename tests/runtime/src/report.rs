//! What is printed.

use std::process::Command;

use crate::case::{Named, Result, Results};
use crate::cases::THEMES;

/// A runtime's name, its version and what came of the cases.
pub(crate) type Column = (String, String, Results);

/// `--list`.
pub(crate) fn list(cases: &[Named]) {
    for (theme, case) in cases {
        let needs = format!("{:?}", case.needs).to_lowercase();
        println!("{}/{}\t{}\t{needs}", theme.name, case.name, case.section);
    }
}

/// The line of a case.
pub(crate) fn line((theme, case): Named, result: &Result) {
    let name = format!("{}/{}", theme.name, case.name);
    match result {
        Result::Passed => println!("pass  {name}"),
        Result::Failed(why) => println!("fail  {name} ({}): {}", case.section, flat(why)),
        Result::NotApplicable(why) => println!("n/a   {name}: {}", flat(why)),
    }
}

/// The last line.
pub(crate) fn sum(results: &Results) {
    println!("{}", counts(results));
}

fn counts(results: &Results) -> String {
    let count = |of: fn(&Result) -> bool| results.iter().filter(|(_, result)| of(result)).count();
    format!(
        "{} passed, {} failed, {} not applicable",
        count(|result| matches!(result, Result::Passed)),
        count(Result::is_failure),
        count(|result| matches!(result, Result::NotApplicable(_))),
    )
}

/// A text in one line.
fn flat(text: &str) -> String {
    let words: Vec<&str> = text.split('\n').map(str::trim).collect();
    words.join(" ").trim().to_owned()
}

/// Markdown: how many cases of a theme each runtime passes, and the cases that not all pass.
pub(crate) fn table(columns: &[Column]) {
    println!("{}, {}:", date(), who());
    println!();
    for (name, version, results) in columns {
        println!("- {name}: {version}; {}", counts(results));
    }
    println!();
    let names: Vec<&str> = columns.iter().map(|(name, _, _)| name.as_str()).collect();
    println!("| theme | {} |", names.join(" | "));
    println!("| --- |{}", " --- |".repeat(names.len()));
    for theme in THEMES {
        let cells = columns
            .iter()
            .map(|(_, _, results)| share(results, theme.name));
        let cells: Vec<String> = cells.collect();
        if cells.iter().any(|cell| !cell.is_empty()) {
            println!("| {} | {} |", theme.name, cells.join(" | "));
        }
    }
    println!();
    differences(columns, &names);
    println!();
    println!("kelp-runtime differs on purpose:");
    println!();
    for (theme, case) in crate::case::chosen(&[]) {
        if let Some(why) = crate::deviations::reason((theme, case)) {
            println!("- {}/{}: {why}.", theme.name, case.name);
        }
    }
}

/// `passed of played` of a theme.
fn share(results: &Results, theme: &str) -> String {
    let of_theme = results.iter().filter(|((found, _), _)| found.name == theme);
    let (mut passed, mut played) = (0, 0);
    for (_, result) in of_theme {
        passed += usize::from(matches!(result, Result::Passed));
        played += usize::from(!matches!(result, Result::NotApplicable(_)));
    }
    if played == 0 {
        return String::new();
    }
    format!("{passed} of {played}")
}

fn differences(columns: &[Column], names: &[&str]) {
    println!("| case | section | {} |", names.join(" | "));
    println!("| --- | --- |{}", " --- |".repeat(names.len()));
    let Some((_, _, first)) = columns.first() else {
        return;
    };
    for (index, ((theme, case), _)) in first.iter().enumerate() {
        let results = columns.iter().map(|(_, _, results)| &results[index].1);
        let results: Vec<&Result> = results.collect();
        if !results.iter().any(|result| result.is_failure()) {
            continue;
        }
        let cells: Vec<String> = results.into_iter().map(cell).collect();
        println!(
            "| {}/{} | {} | {} |",
            theme.name,
            case.name,
            case.section,
            cells.join(" | ")
        );
    }
}

/// A reason may be as long as a runtime likes; its beginning says what it is.
fn cell(result: &Result) -> String {
    let text = match result {
        Result::Passed => return "pass".to_owned(),
        Result::Failed(why) => format!("fail: {}", flat(why)),
        Result::NotApplicable(why) => format!("n/a: {}", flat(why)),
    };
    let text: String = text.replace('|', "\\|");
    match text.char_indices().nth(160) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn who() -> &'static str {
    if rustix::process::geteuid().is_root() {
        "as root"
    } else {
        "as an ordinary user"
    }
}

fn date() -> String {
    let date = Command::new("date").args(["+%Y-%m-%d"]).output();
    let date = date.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy();
    // Without what a distribution adds.
    let release = release.split('-').next().unwrap_or_default();
    format!("{}, Linux {release}", date.unwrap_or_default())
}
