//! The catalogue of this workspace, and what the scanner sees in texts that are known.

use super::*;

#[test]
fn the_catalogue_is_true_and_complete() {
    let show = |it: &Violation| format!("{}:{}: {}\n", it.file.display(), it.line, it.why);
    let found: String = check(crate::root()).expect("a workspace").iter().map(show).collect();
    assert!(found.is_empty(), "\n{found}");
}

#[test]
fn the_catalogue_is_sorted() {
    let page = read(&crate::root().join(PAGE)).expect("a page");
    let sections: Vec<&str> = page.lines().filter(|line| line.starts_with("### ")).collect();
    assert!(sections.is_sorted_by(|a, b| a < b), "{sections:#?}");
}

#[test]
fn the_answers_are_those_of_the_one_table() {
    let table = read(&crate::root().join("crates/platform/src/status.rs")).expect("a table");
    let camel = |name: &str| {
        let word = |word: &str| word[..1].to_uppercase() + &word[1..].to_lowercase();
        name.split('_').map(word).collect::<String>()
    };
    for (kind, answer) in ANSWERS {
        let (code, http) = answer[1..].split_once("`, HTTP ").expect("a code and a status");
        let row = format!("Kind::{} => (Code::{}, {http}),", camel(kind), camel(code));
        assert!(table.contains(&row), "{row}");
    }
}

fn reasons(source: &str) -> Vec<(usize, String, &'static str)> {
    said(&format!("use kernel::Rejection; {source}"))
}

fn one(line: usize, reason: &str, answer: &'static str) -> Vec<(usize, String, &'static str)> {
    vec![(line, reason.to_owned(), answer)]
}

const MISSING: &str = "`NOT_FOUND`, HTTP 404";

#[test]
fn a_reason_stands_where_a_rejection_or_a_status_is_made() {
    let invalid = "Rejection::invalid(\n&format!(\"{a}, {b}\", (1, 2)),\n\"BAD\",\nmessage)";
    assert_eq!(reasons(invalid), one(1, "BAD", "`INVALID_ARGUMENT`, HTTP 400"));
    let missing = "fn f() {\ng(kernel::Rejection::not_found(\"NO_RIDE\", id)) }";
    assert_eq!(reasons(missing), one(2, "NO_RIDE", MISSING));
    assert_eq!(reasons("detailed(Code::NotFound, \"NO_RIDE\", x, y)"), one(1, "NO_RIDE", ""));
    assert_eq!(reasons("status::other(Code::Aborted, \"AGAIN\", &x)"), one(1, "AGAIN", ""));
    assert_eq!(reasons("Err(Status::unimplemented(\"not yet\"))"), one(1, "UNIMPLEMENTED", ""));
}

#[test]
fn a_const_is_looked_up_and_a_variable_is_no_reason() {
    let known = "const WHY: &'static str = \"NO_RIDE\"; fn f() { Rejection::not_found(WHY, 1) }";
    assert_eq!(reasons(known), one(1, "NO_RIDE", MISSING));
    assert_eq!(reasons("Rejection::not_found(why, 1)"), one(1, "", MISSING));
    assert_eq!(reasons("status::other(code, &upper_snake(code), message)"), []);
    assert_eq!(reasons("detailed(grpc_code(kind), reason, message, details)"), []);
}

#[test]
fn nothing_else_says_a_reason() {
    for nothing in [
        "// Rejection::not_found(\"NO_RIDE\", id)",
        "#[cfg(test)] mod tests { fn f() { Rejection::not_found(\"NO_RIDE\", id) } }",
        "fn not_found(reason: &'static str) -> Rejection {}",
        "io::Error::other(\"NO_RIDE\"); Status::with_details(code, \"NO_RIDE\", details)",
        "Rejection::retry_after(no, after)",
    ] {
        assert_eq!(reasons(nothing), [], "{nothing}");
    }
}

#[test]
fn a_page_is_sections_and_a_table() {
    let page =
        sections("# Errors\n| `NOT_THIS` |\n### A\nof A\n### B\n## Inside\n| `C` | of C |\n");
    let seen: Vec<_> = page.iter().map(|(reason, (line, _))| (reason.as_str(), *line)).collect();
    assert_eq!(seen, [("A", 3), ("B", 5), ("C", 7)]);
    assert_eq!(page["A"].1, "### A\nof A\n");
    assert_eq!(page["C"].1, "| `C` | of C |\n");
}

#[test]
fn protos_promise_reasons_among_other_words() {
    let proto = "// NOT_FOUND NO_RIDE, STATE_OPEN, IN_FLIGHT of `TAXI_EVENTS`\n\
                 STATE_OPEN = 1;\nSTATE_IN_FLIGHT = 2; // NO_CAR\nstring A_B = 3;\n";
    let values = enum_values(proto).collect();
    assert_eq!(promised(proto, &values), [(1, "NO_RIDE"), (3, "NO_CAR")]);
}

#[test]
fn only_those_who_answer_are_read() {
    let read = |file| answers(Path::new(file));
    assert!(read("crates/driving/src/domain.rs"));
    assert!(!read("crates/driving/src/domain/tests.rs"));
    assert!(!read("crates/taxi/src/main.rs"));
}
