//! Columns, each as wide as its widest cell and two spaces.

use std::borrow::Cow;

use unicode_width::UnicodeWidthStr;

/// No column but the last is narrower than this, without the spaces behind it.
const NARROWEST: usize = 10;

/// Lays rows out; trailing spaces are left off, as in podman's last column. Control characters in a cell
/// are shown and do nothing: what is in it may be from an image.
pub fn layout(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<_>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| printable(cell)).collect())
        .collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut widths = vec![0; columns];
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            widths[column] = widths[column].max(width(cell));
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            line.push_str(cell);
            if column + 1 < row.len() {
                let padding = widths[column].max(NARROWEST) - width(cell) + 2;
                line.extend(std::iter::repeat_n(' ', padding));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A text with its control characters escaped, as a terminal may be shown it.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// How many columns of a terminal a cell takes.
fn width(cell: &str) -> usize {
    cell.width()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [
            ["CONTAINER ID", "IMAGE", "NAMES"],
            ["0123456789ab", "localhost/hello:latest", "a"],
        ]
        .map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(
            layout(&rows),
            "CONTAINER ID  IMAGE                   NAMES\n\
             0123456789ab  localhost/hello:latest  a\n"
        );
        let rows = [["\u{6d77}", "x"], ["e\u{301}", "y"], ["", "z"]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(
            layout(&rows),
            "\u{6d77}          x\ne\u{301}           y\n            z\n"
        );
        assert_eq!(layout(&[]), "");
    }

    #[test]
    fn control_characters_are_shown() {
        let rows = [["a\u{1b}[31mb\n", "\u{9b}2J"], ["c", "d\\"]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(
            layout(&rows),
            "a\\u{1b}[31mb\\n  \\u{9b}2J\nc               d\\\n"
        );
    }
}
