//! Pages in Markdown that look the same on a forge and in a book.

/// One page.
pub(super) struct Page {
    /// Where it is in `docs/`.
    pub(super) path: String,
    pub(super) text: String,
}

impl Page {
    /// An empty page that says what it is made from.
    pub(super) fn new(path: impl Into<String>, source: &str) -> Page {
        let text = format!("<!-- Made from {source} by `cargo xtask docs`: do not edit. -->\n");
        Page { path: path.into(), text }
    }

    /// Adds a block: a heading, a paragraph, a list.
    pub(super) fn add(&mut self, block: impl AsRef<str>) {
        let block = block.as_ref().trim();
        if !block.is_empty() {
            self.text.push('\n');
            self.text.push_str(block);
            self.text.push('\n');
        }
    }

    /// Adds a table; columns that are empty in every row are left out, and a table without rows.
    pub(super) fn table<const N: usize>(&mut self, head: [&str; N], rows: &[[String; N]]) {
        let used: Vec<usize> =
            (0..N).filter(|column| rows.iter().any(|row| !row[*column].is_empty())).collect();
        let line = |cells: &dyn Fn(usize) -> String| {
            let cells: Vec<String> = used.iter().map(|column| cells(*column)).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let mut table = line(&|column| head[column].to_owned());
        table.push_str(&format!("|{}\n", "---|".repeat(used.len())));
        for row in rows {
            table.push_str(&line(&|column| cell(&row[column])));
        }
        if !rows.is_empty() {
            self.add(table);
        }
    }

    /// Adds what is read letter by letter.
    pub(super) fn block(&mut self, language: &str, text: &str) {
        self.add(format!("```{language}\n{}\n```", text.trim_end()));
    }
}

/// A text on one line, as a cell of a table has to be.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
        .split('\n')
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(" ")
        .trim()
        .to_owned()
}

/// A text as code.
pub(super) fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{text}`") }
}

/// What a heading is called in links to it, on forges as in books.
pub(super) fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || " _-".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// The anchors of all headings of a page.
pub(super) fn anchors(page: &str) -> Vec<String> {
    let heading = |line: &str| line.starts_with('#').then(|| anchor(line.trim_start_matches('#')));
    let mut code = false;
    let mut anchors = Vec::new();
    for line in page.lines() {
        code ^= line.starts_with("```");
        anchors.extend(heading(line).filter(|_| !code));
    }
    anchors
}
