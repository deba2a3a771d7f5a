//! Data on stdout, in the form that was asked for.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::exit::Exit;

/// How data is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One JSON document a line.
    Jsonl,
}

impl Format {
    /// Prints a list: aligned columns, or its items as JSON.
    pub(crate) fn list<T: Serialize, const N: usize>(
        self,
        columns: [&str; N],
        items: &[T],
        row: impl Fn(&T) -> [String; N],
    ) -> Result<(), Exit> {
        match self {
            Format::Table => {
                let mut rows = vec![columns.map(str::to_uppercase)];
                rows.extend(items.iter().map(row));
                print(&aligned(&rows))
            }
            Format::Json => line(&serde_json::to_string_pretty(items).map_err(defect)?),
            Format::Jsonl => items
                .iter()
                .try_for_each(|item| line(&serde_json::to_string(item).map_err(defect)?)),
        }
    }

    /// Prints one thing: what people want to read of it, or all of it as JSON.
    pub(crate) fn item(self, people: &str, item: &impl Serialize) -> Result<(), Exit> {
        match self {
            Format::Table => line(people),
            Format::Json => line(&serde_json::to_string_pretty(item).map_err(defect)?),
            Format::Jsonl => line(&serde_json::to_string(item).map_err(defect)?),
        }
    }
}

/// Prints a line.
pub(crate) fn line(text: &str) -> Result<(), Exit> {
    print(&format!("{text}\n"))
}

/// Prints a text as it is. `taxi list | head -1` is no reason to panic.
pub(crate) fn print(text: &str) -> Result<(), Exit> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Exit::unread(),
        _ => Exit::failed(format!("cannot write to stdout: {error}")),
    })
}

/// Rows under each other, each column as wide as its widest cell.
pub(crate) fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn defect(error: serde_json::Error) -> Exit {
    Exit::failed(format!("cannot be written as JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_without_trailing_blanks() {
        let rows = [["NAME", "PORT"], ["allocation", "8081"], ["운행", ""]];
        let text = aligned(&rows.map(|row| row.map(str::to_owned)));
        assert_eq!(text, "NAME        PORT\nallocation  8081\n운행\n");
    }
}
