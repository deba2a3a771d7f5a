//! The places where contexts are named by hand, and what a new one adds to each.
//!
//! Most of them are in `templates/places.diff`: new lines behind lines that are there once. A test
//! keeps all places findable.

use std::collections::BTreeMap;
use std::path::Path;

use super::name::ContextName;
use super::patch;
use crate::read;

/// New lines.
const LINES: &str = include_str!("templates/places.diff");
/// Texts within a line, and what comes behind them.
const WORDS: [(&str, &str, &str); 4] = [
    ("crates/proto/src/lib.rs", "pub use taxi::{", "__name__, "),
    ("crates/taxi/src/contexts.rs", "Name::Allocation | Name::Driving", " | Name::__Name__"),
    ("crates/taxi/src/cmd/serve.rs", "dashboard, message,", " __name__,"),
    ("deploy/helm/taxi/templates/_check.tpl", "database.dashboard.url", " database.__name__.url"),
];
/// Constant arrays, and the item that each gets.
const ITEMS: [(&str, &str, &str); 4] = [
    ("crates/taxi/src/contexts.rs", "const ALL", "Name::__Name__"),
    ("crates/testkit/src/mesh.rs", "const CONTEXTS", "\"__name__\""),
    ("crates/testkit/src/mesh.rs", "const RELATIONAL", "\"__name__\""),
    ("crates/xtask/src/graph.rs", "const CONTEXTS", "\"__name__\""),
];
/// The catalogue of errors, and the sections that it gets.
const ERRORS: (&str, &str) = ("docs/errors.md", include_str!("templates/errors.md"));
/// The settings: a line behind the one that begins like this, and a block behind another.
const DEFAULTS: &str = "crates/taxi/src/config.default.toml";
const SETTINGS: [(&str, &str); 2] = [
    ("driving = 8086", "__name__ = __port__ # gRPC of __name__"),
    ("driving = \"127.0.0.1:8086\"", "__name__ = \"127.0.0.1:__port__\" # where __name__ is"),
];
const DATABASE: (&str, &str) = (
    "[database.dashboard]",
    r#"# The database of __name__. Read by: __name__.
[database.__name__]
url = "" # as that of allocation
max_connections = 32 # for reading from Postgres; a few more write
"#,
);
/// Ports that a context may have.
const PORTS: std::ops::Range<u16> = 8081..9000;

/// The files that name contexts, with this one named too.
pub(crate) fn edited(root: &Path, name: &ContextName) -> Result<BTreeMap<String, String>, String> {
    let port = free_port(&read(&root.join(DEFAULTS))?)?;
    let fill = |text: &str| name.fill(text).replace("__port__", &port.to_string());
    let mut files = Files { root, edited: BTreeMap::new() };
    let lines = fill(LINES);
    for (path, hunks) in patch::files(&lines)? {
        files.edit(path, |text| hunks.iter().try_fold(text, |text, hunk| hunk.apply(&text)))?;
    }
    for (path, anchor, more) in WORDS {
        files.edit(path, |text| behind(&text, anchor, &fill(more)))?;
    }
    for (path, array, item) in ITEMS {
        files.edit(path, |text| with_item(&text, array, &fill(item)))?;
    }
    files.edit(ERRORS.0, |text| with_sections(&text, &fill(ERRORS.1)))?;
    for (start, line) in SETTINGS {
        files.edit(DEFAULTS, |text| behind_line(&text, start, &fill(line)))?;
    }
    files.edit(DEFAULTS, |text| behind_block(&text, DATABASE.0, &fill(DATABASE.1)))?;
    Ok(files.edited)
}

/// Files as they are going to be.
struct Files<'a> {
    root: &'a Path,
    edited: BTreeMap<String, String>,
}

impl Files<'_> {
    fn edit(
        &mut self,
        path: &str,
        edit: impl FnOnce(String) -> Result<String, String>,
    ) -> Result<(), String> {
        let text = match self.edited.remove(path) {
            Some(text) => text,
            None => read(&self.root.join(path))?,
        };
        let text = edit(text).map_err(|why| format!("{path}: {why}"))?;
        self.edited.insert(path.to_owned(), text);
        Ok(())
    }
}

/// The first port of a context that the defaults do not mention.
fn free_port(defaults: &str) -> Result<u16, String> {
    let free = |port: &u16| !defaults.contains(&port.to_string());
    PORTS.clone().find(free).ok_or_else(|| format!("{DEFAULTS} has no port left"))
}

/// Settings with their comments in a column, as the other ones have them.
fn aligned(settings: &str) -> String {
    let line = |line: &str| match line.split_once(" # ") {
        Some((setting, comment)) => format!("{setting:31} # {comment}\n"),
        None => format!("{line}\n"),
    };
    settings.lines().map(line).collect()
}

fn behind(text: &str, anchor: &str, more: &str) -> Result<String, String> {
    match text.matches(anchor).count() {
        1 => Ok(text.replacen(anchor, &format!("{anchor}{more}"), 1)),
        count => Err(format!("`{anchor}` is there {count} times, not once")),
    }
}

/// The line that begins like this gets another one behind it.
fn behind_line(text: &str, start: &str, line: &str) -> Result<String, String> {
    match text.lines().filter(|line| line.starts_with(start)).collect::<Vec<_>>()[..] {
        [found] => behind(text, &format!("\n{found}\n"), &aligned(line)),
        ref found => Err(format!("{} lines begin with `{start}`, not one", found.len())),
    }
}

/// The block in which this is a line gets another one behind it; blocks end with a blank line.
fn behind_block(text: &str, line: &str, block: &str) -> Result<String, String> {
    let has_line = |block: &&str| block.lines().any(|known| known == line);
    let found = text.split_inclusive("\n\n").find(has_line);
    let found = found.ok_or_else(|| format!("there is no line `{line}`"))?;
    behind(text, found, &(aligned(block) + "\n"))
}

/// `const X: [T; 2] = [a, b]` gets a third.
fn with_item(text: &str, array: &str, item: &str) -> Result<String, String> {
    let edit = || {
        let (before, rest) = text.split_once(&format!("{array}: ["))?;
        let (kind, rest) = rest.split_once("; ")?;
        let (count, rest) = rest.split_once(']')?;
        let (items, after) = rest.split_once("];")?;
        let items = items.trim_end().trim_end_matches(',');
        let count = count.parse::<usize>().ok()? + 1;
        Some(format!("{before}{array}: [{kind}; {count}]{items}, {item}];{after}"))
    };
    edit().ok_or_else(|| format!("`{array}` is no array of this form"))
}

/// Puts each `###` section where its title belongs.
fn with_sections(page: &str, sections: &str) -> Result<String, String> {
    let (before, rest) = page.split_once("\n## Reasons\n").ok_or("there is no section Reasons")?;
    let (reasons, after) = rest.split_once("\n## ").ok_or("nothing comes behind the reasons")?;
    let titled = |text| str::split(text, "### ").map(str::trim).filter(|it| !it.is_empty());
    let mut all: Vec<&str> = titled(reasons).chain(titled(sections)).collect();
    all.sort_by_key(|section| section.lines().next());
    let reasons: String = all.iter().map(|section| format!("\n### {section}\n")).collect();
    Ok(format!("{before}\n## Reasons\n{reasons}\n## {after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root;

    #[test]
    fn every_place_is_where_it_was() {
        let name = ContextName::parse("rating", root()).expect("free");
        for (path, text) in edited(root(), &name).expect("all places are found") {
            assert!(text.to_lowercase().contains("rating"), "{path}");
        }
    }

    #[test]
    fn the_rest_of_the_catalogue_stays_as_it_is() {
        let page = read(&root().join(ERRORS.0)).expect("a file");
        assert_eq!(with_sections(&page, "").expect("a page"), page);
    }

    #[test]
    fn settings_find_their_place() {
        let text = "[a]\nx = 1 # one\n\n[b]\ny = 2\n";
        let longer = behind_line(text, "x = 1", "z = 3 # three").expect("a line");
        let column = " ".repeat(27);
        assert_eq!(longer, format!("[a]\nx = 1 # one\nz = 3{column}# three\n\n[b]\ny = 2\n"));
        let more = behind_block(text, "[a]", "[c]\n").expect("a block");
        assert_eq!(more, "[a]\nx = 1 # one\n\n[c]\n\n[b]\ny = 2\n");
        assert!(behind_line(text, "[", "").is_err() && behind_block(text, "[d]", "").is_err());
    }

    #[test]
    fn an_array_grows_whatever_its_layout() {
        for (before, after) in [
            ("const A: [u8; 1] = [1];\n", "const A: [u8; 2] = [1, 2];\n"),
            ("const A: [u8; 1] =\n    [\n    1,\n];\n", "const A: [u8; 2] =\n    [\n    1, 2];\n"),
        ] {
            assert_eq!(with_item(before, "const A", "2").expect("an array"), after);
        }
        assert!(with_item("const B: u8 = 1;", "const A", "2").is_err());
    }

    #[test]
    fn sections_are_in_order() {
        let page = "# E\n\n## Reasons\n\n### A\n\na\n\n### C\n\nc\n\n## Rest\n";
        let grown = with_sections(page, "### D\n\nd\n\n### B\n\nb\n").expect("a page");
        let sections = "### A\n\na\n\n### B\n\nb\n\n### C\n\nc\n\n### D\n\nd\n";
        assert_eq!(grown, format!("# E\n\n## Reasons\n\n{sections}\n## Rest\n"));
    }

    #[test]
    fn a_word_that_is_gone_or_ambiguous_is_told() {
        assert_eq!(behind("a b", "a", "c").as_deref(), Ok("ac b"));
        assert!(behind("a b", "x", "c").expect_err("gone").contains("0 times"));
        assert!(behind("a a", "a", "c").expect_err("twice").contains("2 times"));
    }

    #[test]
    fn the_next_port_is_one_that_is_free() {
        assert_eq!(free_port("a = 8081\nb = \"127.0.0.1:8082\"\n"), Ok(8083));
    }
}
