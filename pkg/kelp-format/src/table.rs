//! Columns, each as wide as its widest cell and two spaces.

use unicode_width::UnicodeWidthStr;

/// No column but the last is narrower than this, without the spaces behind it.
const NARROWEST: usize = 10;

/// Lays rows out; trailing spaces are left off, as in podman's last column.
pub fn layout(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut widths = vec![0; columns];
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            widths[column] = widths[column].max(width(cell));
        }
    }
    let mut text = String::new();
    for row in rows {
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
}
