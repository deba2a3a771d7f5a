//! The catalogue of errors, `docs/errors.md`: it lists what the source answers, and nothing else.
//!
//! The source ([`said`]) is the truth. The page has a section for each reason that callers can read,
//! and at its end a table of those that never leave a context; the comments of the protos promise
//! only reasons that have a section.

mod said;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use self::said::{Said, Table, said};
use crate::source::{files_in, is_test};
use crate::{Violation, read};

const PAGE: &str = "docs/errors.md";
const TABLE: &str = "crates/platform/src/status.rs";
/// Crates that call, and answer nobody.
const CALLERS: [&str; 4] = ["bench", "taxi", "testkit", "xtask"];
/// Words of the protos that look like reasons.
const NAMES: [&str; 1] = ["TAXI_EVENTS"];

/// All violations in the workspace in this folder.
pub(crate) fn check(root: &Path) -> Result<Vec<Violation>, String> {
    let table = Table::parse(&read(&root.join(TABLE))?);
    let page = entries(&read(&root.join(PAGE))?);
    let mut found = order(&page);
    let mut answered = BTreeSet::new();
    for (file, source) in texts(root, "crates", "rs")?.iter().filter(|(file, _)| answers(file)) {
        for said in said(source, &table) {
            if let Some(why) = objection(&page, &table, &said) {
                found.push(violation(file, said.line, "errors-are-catalogued", why));
            }
            answered.insert(said.reason);
        }
    }
    for entry in page.iter().filter(|entry| !answered.contains(&entry.reason)) {
        let why = format!("nobody answers {} any more", entry.reason);
        found.push(violation(Path::new(PAGE), entry.line, "the-catalogue-is-true", why));
    }
    let protos = texts(root, "proto/taxi", "proto")?;
    let values: BTreeSet<&str> = protos.iter().flat_map(|(_, proto)| enum_values(proto)).collect();
    for (file, proto) in &protos {
        for (line, word) in promised(proto, &table, &values) {
            if !page.iter().any(|entry| entry.reason == word && !entry.inside) {
                let why = format!("callers do not read {word}: {PAGE} has no section of it");
                found.push(violation(file, line, "protos-promise-what-is-answered", why));
            }
        }
    }
    Ok(found)
}

fn violation(file: &Path, line: usize, rule: &'static str, why: String) -> Violation {
    Violation { file: file.to_owned(), line, rule, why }
}

/// All files of one kind in a folder, by their paths in the workspace.
fn texts(root: &Path, folder: &str, extension: &str) -> Result<Vec<(PathBuf, String)>, String> {
    let mut files = Vec::new();
    files_in(&root.join(folder), extension, &mut files)?;
    let named = |file: PathBuf| {
        let text = read(&file)?;
        Ok((file.strip_prefix(root).unwrap_or(&file).to_owned(), text))
    };
    files.into_iter().map(named).collect()
}

/// Whether a source file has code that answers callers.
fn answers(file: &Path) -> bool {
    let parts: Vec<&str> = file.iter().filter_map(|part| part.to_str()).collect();
    matches!(parts.as_slice(), ["crates", name, "src", ..] if !CALLERS.contains(name))
        && !is_test(file)
}

/// What is wrong with what the source says.
fn objection(page: &[Entry], table: &Table, said: &Said) -> Option<String> {
    let Said { reason, code, .. } = said;
    if reason.is_empty() {
        return Some("write the reason out, here or as a const of this file".to_owned());
    }
    let Some(entry) = page.iter().find(|entry| entry.reason == *reason) else {
        return Some(format!("{PAGE} does not know {reason}"));
    };
    let answer = format!("`{code}`, HTTP {}", table.http(code).unwrap_or("?"));
    let known = entry.inside || entry.text.contains(&answer);
    (!known).then(|| format!("{PAGE} does not say of {reason}: {answer}"))
}

/// A reason on the page.
#[derive(Debug, Default, PartialEq, Eq)]
struct Entry {
    reason: String,
    line: usize,
    /// All that is said of it.
    text: String,
    /// In the table of those that never leave a context.
    inside: bool,
}

/// Sections are `### REASON`; behind them comes a table of rows that begin with the reason.
fn entries(page: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for (index, text) in page.lines().enumerate() {
        let section = text.strip_prefix("### ");
        let row = text.strip_prefix("| `").and_then(|row| row.split_once('`'));
        let row = row.map(|(reason, _)| reason).filter(|_| !entries.is_empty());
        if let Some(reason) = section.or(row) {
            let (reason, inside) = (reason.to_owned(), section.is_none());
            entries.push(Entry { reason, line: index + 1, inside, ..Entry::default() });
        }
        if let Some(entry) = entries.last_mut() {
            entry.text.push_str(text);
            entry.text.push('\n');
        }
    }
    entries
}

/// Sections are sorted, and so are rows.
fn order(page: &[Entry]) -> Vec<Violation> {
    let wrong =
        |pair: &&[Entry]| pair[0].inside == pair[1].inside && pair[0].reason >= pair[1].reason;
    let report = |pair: &[Entry]| {
        let why = format!("{} belongs before {}", pair[1].reason, pair[0].reason);
        violation(Path::new(PAGE), pair[1].line, "the-catalogue-is-sorted", why)
    };
    page.windows(2).filter(wrong).map(report).collect()
}

/// Words that look like reasons in the comments of a proto, and where.
fn promised<'a>(proto: &'a str, table: &Table, values: &BTreeSet<&str>) -> Vec<(usize, &'a str)> {
    let names_a_value = |word: &str| {
        let prefixed = |value: &&str| value.strip_suffix(word).is_some_and(|it| it.ends_with('_'));
        values.contains(word) || values.iter().any(prefixed)
    };
    let is_reason = |word: &&str| {
        let upper = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let looks_so = word.contains('_') && word.chars().all(upper) && !word.starts_with('_');
        looks_so && table.http(word).is_none() && !NAMES.contains(word) && !names_a_value(word)
    };
    let comments = proto
        .lines()
        .enumerate()
        .filter_map(|(index, line)| line.split_once("//").map(|(_, comment)| (index + 1, comment)));
    comments
        .flat_map(|(line, comment)| {
            let words = comment.split(|c: char| !c.is_alphanumeric() && c != '_');
            words.filter(is_reason).map(move |word| (line, word)).collect::<Vec<_>>()
        })
        .collect()
}

/// The names of all values of enums, such as `STATE_REQUESTED = 1;`.
fn enum_values(proto: &str) -> impl Iterator<Item = &str> {
    let is_value = |name: &&str| name.starts_with(|c: char| c.is_ascii_uppercase());
    proto.lines().filter_map(|line| line.trim().split_once(" = ").map(|it| it.0)).filter(is_value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Kind::NotFound => (Code::NotFound, 404),";

    #[test]
    fn the_catalogue_is_in_order() {
        let found = check(crate::root()).expect("a workspace");
        let lines: Vec<String> = found
            .iter()
            .map(|it| format!("{}:{}: {}: {}", it.file.display(), it.line, it.rule, it.why))
            .collect();
        assert!(found.is_empty(), "\n{}\n", lines.join("\n"));
    }

    #[test]
    fn a_page_is_sections_and_a_table() {
        let page = "# Errors\n| `NOT_THIS` |\n### B\n`NOT_FOUND`, HTTP 404\n### A\n## Inside\n| `C` | x |\n";
        let page = entries(page);
        let seen: Vec<_> = page.iter().map(|it| (it.reason.as_str(), it.line, it.inside)).collect();
        assert_eq!(seen, [("B", 3, false), ("A", 5, false), ("C", 7, true)]);
        assert_eq!(order(&page).iter().map(|it| it.line).collect::<Vec<_>>(), [5]);

        let table = Table::parse(STATUS);
        let objects = |source: &str| objection(&page, &table, &said(source, &table)[0]).is_some();
        for (source, wrong) in [("B", false), ("A", true), ("C", false), ("D", true)] {
            let source = format!("; Rejection::not_found(\"{source}\", id)");
            assert_eq!(objects(&source), wrong, "{source}");
        }
    }

    #[test]
    fn protos_promise_reasons_among_other_words() {
        let proto = "// NOT_FOUND RIDE_NOT_FOUND, STATE_OPEN, IN_FLIGHT of `TAXI_EVENTS`\n\
                     STATE_OPEN = 1;\nSTATE_IN_FLIGHT = 2; // NO_RIDE\nstring A_B = 3;\n";
        let values = enum_values(proto).collect();
        let words = promised(proto, &Table::parse(STATUS), &values);
        assert_eq!(words, [(1, "RIDE_NOT_FOUND"), (3, "NO_RIDE")]);
    }

    #[test]
    fn only_those_who_answer_are_read() {
        let read = |file| answers(Path::new(file));
        assert!(
            read("crates/driving/src/domain.rs") && read("crates/platform/src/server/layers.rs")
        );
        assert!(!read("crates/driving/src/domain/tests.rs") && !read("crates/taxi/src/main.rs"));
    }
}
