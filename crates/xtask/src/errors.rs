//! The catalogue of errors, `docs/errors.md`: it lists what the source answers, and nothing else.
//!
//! The source is the truth. The page has a section for each reason that callers can read and, at its
//! end, a table of those that stay inside; comments in the protos promise only what has a section.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::scan::{Token, tokens_and_strings};
use crate::source::{files_in, is_test};
use crate::{Violation, read};

const PAGE: &str = "docs/errors.md";
/// The constructors of rejections, and what the table of `platform::status` makes of each.
const ANSWERS: [(&str, &str); 10] = [
    ("invalid", "`INVALID_ARGUMENT`, HTTP 400"),
    ("not_found", "`NOT_FOUND`, HTTP 404"),
    ("already_exists", "`ALREADY_EXISTS`, HTTP 409"),
    ("precondition", "`FAILED_PRECONDITION`, HTTP 400"),
    ("aborted", "`ABORTED`, HTTP 409"),
    ("denied", "`PERMISSION_DENIED`, HTTP 403"),
    ("unauthenticated", "`UNAUTHENTICATED`, HTTP 401"),
    ("exhausted", "`RESOURCE_EXHAUSTED`, HTTP 429"),
    ("unavailable", "`UNAVAILABLE`, HTTP 503"),
    ("deadline", "`DEADLINE_EXCEEDED`, HTTP 504"),
];
/// Codes that no rejection has.
const OTHER_CODES: [&str; 5] =
    ["CANCELLED", "DATA_LOSS", "INTERNAL", "OUT_OF_RANGE", "UNIMPLEMENTED"];
/// Crates that call, and answer nobody.
const CALLERS: [&str; 6] = ["bench", "models", "taxi", "testkit", "torture", "xtask"];
/// What is only handed on: a reason that is written out elsewhere, and the name of a code.
const HANDED_ON: [&str; 2] = ["reason", "upper_snake"];
const UNREADABLE: &str = "write the reason out, here or as a const of this file";

/// All violations in the workspace in this folder.
pub(crate) fn check(root: &Path) -> Result<Vec<Violation>, String> {
    let page = sections(&read(&root.join(PAGE))?);
    let mut found = Vec::new();
    let mut violate = |file: &Path, line, why| {
        found.push(Violation { file: file.to_owned(), line, rule: "errors-are-catalogued", why });
    };
    let mut stale: BTreeSet<&String> = page.keys().collect();
    for (file, source) in texts(root, "crates", "rs")?.iter().filter(|(file, _)| answers(file)) {
        for (line, reason, answer) in said(source) {
            match page.get(&reason) {
                Some((_, text)) if !text.starts_with("### ") || text.contains(answer) => {}
                Some(_) => violate(file, line, format!("{reason} is {answer}, says the code")),
                None if reason.is_empty() => violate(file, line, UNREADABLE.to_owned()),
                None => violate(file, line, format!("{PAGE} does not know {reason}")),
            }
            stale.remove(&reason);
        }
    }
    for reason in stale {
        violate(Path::new(PAGE), page[reason].0, format!("nobody says {reason}"));
    }
    let protos = texts(root, "proto/taxi", "proto")?;
    let values: BTreeSet<&str> = protos.iter().flat_map(|(_, proto)| enum_values(proto)).collect();
    for (file, proto) in &protos {
        for (line, word) in promised(proto, &values) {
            if !page.get(word).is_some_and(|(_, text)| text.starts_with("### ")) {
                violate(file, line, format!("no caller reads {word}: {PAGE} has no section of it"));
            }
        }
    }
    Ok(found)
}

/// All files of one kind in a folder, by their paths in the workspace.
fn texts(root: &Path, folder: &str, extension: &str) -> Result<Vec<(PathBuf, String)>, String> {
    let mut files = Vec::new();
    files_in(&root.join(folder), extension, &mut files)?;
    let named = |file: PathBuf| Ok((file.strip_prefix(root).unwrap_or(&file).into(), read(&file)?));
    files.into_iter().map(named).collect()
}

/// Whether a source file has code that answers callers.
fn answers(file: &Path) -> bool {
    let parts: Vec<&str> = file.iter().filter_map(|part| part.to_str()).collect();
    matches!(parts.as_slice(), ["crates", name, "src", ..] if !CALLERS.contains(name))
        && !is_test(file)
}

/// The reasons on the page with their lines and texts: sections `### REASON`, then table rows.
fn sections(page: &str) -> BTreeMap<String, (usize, String)> {
    let mut sections = BTreeMap::<String, (usize, String)>::new();
    let mut last = String::new();
    for (index, line) in page.lines().enumerate() {
        let row = line.strip_prefix("| `").filter(|_| !last.is_empty());
        let reason = row.and_then(|row| row.split('`').next()).or(line.strip_prefix("### "));
        if let Some(reason) = reason {
            last = reason.to_owned();
        }
        let section = sections.entry(last.clone()).or_insert((index + 1, String::new()));
        section.1 += &format!("{line}\n");
    }
    sections.remove("");
    sections
}

/// Lines, reasons and answers of what a source text says outside of its tests. A reason that cannot
/// be read there is empty.
fn said(source: &str) -> Vec<(usize, String, &'static str)> {
    let tokens = tokens_and_strings(source);
    let calls = (3..tokens.len()).filter(|at| tokens[*at].text == "(" && !tokens[*at].test);
    let said = |open: usize| {
        let text = |back: usize| tokens[open - back].text.as_str();
        let owner = if text(2) == "::" { text(3) } else { text(2) };
        let kind = ANSWERS.iter().find(|(kind, _)| *kind == text(1));
        let (argument, answer) = match (owner, text(1)) {
            // A bare status gets the name of its code.
            ("Status", name) if is_code(&name.to_uppercase()) => {
                return Some((tokens[open].line, name.to_uppercase(), ""));
            }
            ("Rejection", name) => (usize::from(name == "invalid"), kind?.1),
            ("fn", _) => return None,
            ("status", "other") | (_, "detailed") => (1, ""),
            _ => return None,
        };
        let argument = nth_argument(&tokens[open + 1..], argument);
        let handed_on = argument.iter().any(|token| HANDED_ON.contains(&token.text.as_str()));
        let reason = value(argument, &tokens).unwrap_or_default().to_owned();
        (!handed_on).then_some((tokens[open].line, reason, answer))
    };
    calls.filter_map(said).collect()
}

fn is_code(word: &str) -> bool {
    OTHER_CODES.contains(&word) || ANSWERS.iter().any(|it| it.1.split('`').nth(1) == Some(word))
}

/// One of the arguments of a call.
fn nth_argument(call: &[Token], n: usize) -> &[Token] {
    let mut depth = 0;
    let ends = |token: &Token| {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        depth < 0 || depth == 0 && token.text == ","
    };
    call.split(ends).nth(n).unwrap_or_default()
}

/// A string, or the one that a const of the same file stands for.
fn value<'a>(argument: &'a [Token], file: &'a [Token]) -> Option<&'a str> {
    let [token] = argument else { return None };
    let is_const = |pair: &[Token]| pair[0].text == "const" && pair[1].text == token.text;
    let value =
        |at: usize| file[at..].iter().take_while(|it| it.text != ";").find_map(Token::string);
    token.string().or_else(|| file.windows(2).position(is_const).and_then(value))
}

/// Words that look like reasons in the comments of a proto, and where.
fn promised<'a>(proto: &'a str, values: &BTreeSet<&str>) -> Vec<(usize, &'a str)> {
    let upper = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    // A value is also called by what distinguishes it: REQUESTED is STATE_REQUESTED.
    let is_value =
        |word: &str| values.iter().any(|value| format!("_{value}").ends_with(&format!("_{word}")));
    let is_reason = |word: &&str| {
        word.contains('_')
            && word.chars().all(upper)
            && *word != "TAXI_EVENTS"
            && !is_code(word)
            && !is_value(word)
    };
    let words =
        |text: &'a str| text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(is_reason);
    let comments = proto
        .lines()
        .enumerate()
        .filter_map(|(index, line)| Some((index, line.split_once("//")?.1)));
    comments.flat_map(|(index, text)| words(text).map(move |word| (index + 1, word))).collect()
}

/// The names of all values of enums, such as `STATE_REQUESTED = 1;`.
fn enum_values(proto: &str) -> impl Iterator<Item = &str> {
    let is_value = |name: &&str| name.starts_with(|c: char| c.is_ascii_uppercase());
    proto.lines().filter_map(|line| line.trim().split_once(" = ").map(|it| it.0)).filter(is_value)
}

#[cfg(test)]
mod tests;
