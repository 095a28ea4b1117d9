//! `Mount=`: fields of one line of CSV, of which type and source are looked at.

use crate::draft::Draft;
use crate::key::Take;
use crate::set::Kind;

/// Types whose source a service has to have.
const WITH_SOURCE: &[&str] = &["bind", "volume", "glob", "image", "artifact"];

/// Types that there are.
const TYPES: &[&str] = &[
    "artifact", "bind", "devpts", "glob", "image", "ramfs", "tmpfs", "volume",
];

/// Puts the mounts on the command line.
pub(crate) fn arguments(draft: &mut Draft<'_>, words: &mut Vec<String>) {
    for value in draft.values("Mount", Take::Words) {
        match mount(draft, &value) {
            Ok(text) => words.extend(["--mount".to_owned(), text]),
            Err(Some(why)) => draft.error(value.set.place, format!("Mount=: {why}")),
            // It was told already.
            Err(None) => {}
        }
    }
}

fn mount(draft: &mut Draft<'_>, value: &crate::key::Value<'_>) -> Result<String, Option<String>> {
    let mut fields = split(&value.text);
    let kind = match fields.iter().position(|field| field.starts_with("type=")) {
        Some(index) => fields.remove(index).split_off("type=".len()),
        // podman-run(1), --mount.
        None => "volume".to_owned(),
    };
    if !TYPES.contains(&&*kind) && !kind.contains(['%', '$']) {
        let nearest = crate::suggest::nearest(&kind, TYPES.iter().copied());
        let nearest = nearest.map(|kind| format!("; did you mean {kind}?"));
        let known = TYPES.join(", ");
        let what = format!(
            "Mount=: type {kind:?} is not one of {known}{}",
            nearest.unwrap_or_default()
        );
        draft.warn(value.set.place, what);
    }
    if WITH_SOURCE.contains(&&*kind) {
        let is_source = |field: &&mut String| {
            let name = field.split('=').next();
            matches!(name, Some("source" | "src"))
        };
        // The last one counts.
        let Some(field) = fields.iter_mut().rev().find(is_source) else {
            return Err(Some(format!("a mount of type {kind} needs source=")));
        };
        let Some((_, source)) = field
            .split_once('=')
            .filter(|(_, source)| !source.is_empty())
        else {
            return Err(Some("source= is empty".to_owned()));
        };
        let mut units = vec![Kind::Volume, Kind::Image, Kind::Artifact];
        if kind == "image" {
            units.push(Kind::Build);
        }
        let source = draft
            .storage(value.set.place, "Mount", source, &units)
            .ok_or(None)?;
        *field = format!("source={source}");
    }
    fields.insert(0, format!("type={kind}"));
    let fields: Vec<_> = fields.iter().map(|field| csv(field)).collect();
    Ok(fields.join(","))
}

/// The fields of a line of CSV; in double quotes a comma is no end, and two of them are one.
fn split(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut rest = line.chars().peekable();
    while let Some(char) = rest.next() {
        let field = fields.last_mut().expect("there is one from the beginning");
        match char {
            '"' if quoted && rest.peek() == Some(&'"') => {
                rest.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            char => field.push(char),
        }
    }
    fields
}

/// A field of a line of CSV.
fn csv(field: &str) -> String {
    if field.contains([',', '"', '\n']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_written() {
        for (line, fields) in [
            (
                "type=bind,source=/a,dst=/b",
                &["type=bind", "source=/a", "dst=/b"][..],
            ),
            (
                r#"type=bind,"source=/a,b",ro"#,
                &["type=bind", "source=/a,b", "ro"],
            ),
            (r#""a=""x""""#, &["a=\"x\""]),
            ("", &[""]),
        ] {
            assert_eq!(split(line), fields, "{line}");
            let written: Vec<_> = split(line).iter().map(|field| csv(field)).collect();
            assert_eq!(written.join(","), line);
        }
    }
}
