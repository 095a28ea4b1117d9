//! `--format`: what a list or an object looks like.

use serde::Serialize;
use serde_json::Value;

use crate::table;
use crate::template::{Error, Template, unescape};

/// What --format asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// The word json.
    Json,
    /// A template a row, with a header row and columns.
    Table(String),
    /// A template a row.
    Template(String),
}

impl Format {
    /// From the argument; `default` is the template of the word `table`.
    pub fn parse(text: &str, default: &str) -> Self {
        let unescaped = unescape(text);
        let trimmed = unescaped.trim();
        match trimmed {
            "json" => Self::Json,
            "" | "table" => Self::Table(default.to_owned()),
            _ => match trimmed.strip_prefix("table ") {
                Some(template) => Self::Table(template.trim_start().to_owned()),
                None => Self::Template(unescaped),
            },
        }
    }
}

/// Renders rows. `headers` gives the heading of each field; `heading` says whether to print it.
pub fn render<T: Serialize>(
    rows: &[T],
    format: &Format,
    headers: &[(&str, &str)],
    heading: bool,
) -> Result<String, Error> {
    match format {
        // From the rows themselves: as values, their fields would be in the order of the alphabet.
        Format::Json => json(&rows).map(|text| text + "\n"),
        Format::Template(text) => {
            let template = Template::parse(text)?;
            let mut output = String::new();
            for value in &values(rows)? {
                let line = template.execute(value)?;
                output.push_str(&line);
                if !line.ends_with('\n') {
                    output.push('\n');
                }
            }
            Ok(output)
        }
        Format::Table(text) => {
            let template = Template::parse(text)?;
            let cells = |line: String| line.split('\t').map(str::to_owned).collect::<Vec<_>>();
            let mut lines = Vec::with_capacity(rows.len() + 1);
            if heading {
                let names: serde_json::Map<_, _> = headers
                    .iter()
                    .map(|(field, name)| ((*field).to_owned(), Value::from(*name)))
                    .collect();
                lines.push(cells(template.execute_heading(&Value::Object(names))?));
            }
            // Its own ends of lines are no text of a cell's.
            let has_lines = text.contains('\n') || text.contains("println");
            for value in &values(rows)? {
                let line = template.execute(value)?;
                if has_lines {
                    lines.extend(line.lines().map(str::to_owned).map(cells));
                } else {
                    lines.push(cells(line));
                }
            }
            Ok(table::layout(&lines))
        }
    }
}

fn values<T: Serialize>(rows: &[T]) -> Result<Vec<Value>, Error> {
    let values = rows.iter().map(serde_json::to_value);
    values
        .collect::<Result<_, _>>()
        .map_err(|error| Error::new(error.to_string()))
}

/// One object in the words of --format, as inspect prints it.
pub fn object<T: Serialize>(value: &T, template: &str) -> Result<String, Error> {
    let value = serde_json::to_value(value).map_err(|error| Error::new(error.to_string()))?;
    Template::parse_shell(template)?.execute(&value)
}

/// Indented by four, as podman prints JSON.
pub fn json<T: Serialize>(value: &T) -> Result<String, Error> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value
        .serialize(&mut serializer)
        .map_err(|error| Error::new(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| Error::new(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_has_the_headings_of_its_fields() {
        let rows = [
            json!({"ID": "abc", "Names": "x"}),
            json!({"ID": "def", "Names": "yy"}),
        ];
        let headers = [("ID", "CONTAINER ID"), ("Names", "NAMES")];
        let format = Format::parse("table {{.ID}}\\t{{.Names}}", "");
        assert_eq!(
            render(&rows, &format, &headers, true).unwrap(),
            "CONTAINER ID  NAMES\nabc           x\ndef           yy\n"
        );
        let format = Format::parse("table {{.ID}}\\n- {{.Names}}", "");
        assert_eq!(
            render(&rows, &format, &headers, false).unwrap(),
            "abc\n- x\ndef\n- yy\n"
        );
        let format = Format::parse("{{.ID}}", "");
        assert_eq!(
            render(&rows, &format, &headers, true).unwrap(),
            "abc\ndef\n"
        );
        let format = Format::parse("json", "");
        assert!(
            render(&rows, &format, &headers, true)
                .unwrap()
                .starts_with("[\n    {\n")
        );
    }

    #[test]
    fn a_heading_is_that_of_the_field_whatever_is_made_of_it() {
        let rows = [json!({
            "ID": "abc", "Names": ["x", "y"], "Labels": {"a": "1"}, "State": {"Status": "up"},
        })];
        let headers = [("ID", "CONTAINER ID"), ("Names", "NAMES")];
        for (template, expected) in [
            ("{{join .Names \",\"}}", "NAMES\nx,y\n"),
            ("{{split .ID \"b\"}}", "CONTAINER ID\n[a c]\n"),
            ("{{index .Labels \"a\"}}", "LABELS\n1\n"),
            ("{{printf \"%s!\" .ID}}", "CONTAINER ID\nabc!\n"),
            ("{{truncate .ID 2 | upper}}", "CONTAINER ID\nAB\n"),
            ("{{slice .ID 0 2}}", "CONTAINER ID\nab\n"),
            ("{{range .Names}}{{.}}{{end}}", "NAMES\nxy\n"),
            ("{{if eq .ID \"abc\"}}{{.ID}}{{end}}", "CONTAINER ID\nabc\n"),
            ("{{with .State}}{{.Status}}{{end}}", "STATUS\nup\n"),
        ] {
            let format = Format::parse(&format!("table {template}"), "");
            let text = render(&rows, &format, &headers, true);
            assert_eq!(text.as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn escapes_are_those_of_the_shell_between_actions_and_of_go_inside() {
        let value = json!({"ID": "a", "Names": ["x", "y"]});
        for (template, expected) in [
            (r#"{{range .Names}}{{.}}{{"\n"}}{{end}}"#, "x\ny\n"),
            (r"{{.ID}}\t{{.ID}}\n", "a\ta\n"),
            (r#"{{join .Names "\n"}}\n"#, "x\ny\n"),
            (r#"{{"\t"}}|{{`\t`}}|{{"}}\t"}}"#, "\t|\\t|}}\t"),
        ] {
            let text = object(&value, template);
            assert_eq!(text.as_deref(), Ok(expected), "{template}");
            let format = Format::parse(template, "");
            let text = render(std::slice::from_ref(&value), &format, &[], true).unwrap();
            assert_eq!(text.trim_end(), expected.trim_end(), "{template}");
        }
        assert!(object(&value, r#"{{"\n"#).is_err());
    }

    #[test]
    fn json_has_the_fields_in_the_order_of_the_row() {
        #[derive(Serialize)]
        struct Row {
            name: &'static str,
            id: u32,
        }
        let rows = [Row { name: "x", id: 1 }];
        assert_eq!(
            render(&rows, &Format::Json, &[], true).unwrap(),
            "[\n    {\n        \"name\": \"x\",\n        \"id\": 1\n    }\n]\n"
        );
        assert_eq!(
            render::<Row>(&[], &Format::Json, &[], true).unwrap(),
            "[]\n"
        );
    }
}
