//! What the source answers: the reasons that it gives to rejections and statuses, with their codes.

use std::collections::BTreeMap;

use crate::scan::{Token, tokens_and_strings};

/// What is only handed on: a reason that is written out elsewhere, and the name of a code.
const HANDED_ON: [&str; 2] = ["reason", "upper_snake"];

/// A reason in a source text; empty when it cannot be read there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) reason: String,
    pub(super) code: String,
    pub(super) line: usize,
}

/// The one table, of `platform::status`: the code of each kind of rejection, and the HTTP status of
/// each code.
#[derive(Default)]
pub(super) struct Table {
    codes: BTreeMap<String, String>,
    http: BTreeMap<String, String>,
}

impl Table {
    /// Reads lines such as `Kind::Invalid => (Code::InvalidArgument, 400),` and `Code::Ok => 200,`.
    pub(super) fn parse(source: &str) -> Table {
        let mut table = Table::default();
        // The status of whatever has none of its own.
        table.http.insert("INTERNAL".to_owned(), "500".to_owned());
        for (from, to) in source.lines().filter_map(|line| line.trim().split_once(" => ")) {
            let to = to.trim_matches(['(', ')', ',']);
            if let Some(code) = from.strip_prefix("Code::") {
                table.http.insert(upper_snake(code), to.to_owned());
            } else if let Some(kind) = from.strip_prefix("Kind::")
                && let Some((code, http)) = to.trim_start_matches("Code::").split_once(", ")
            {
                table.codes.insert(upper_snake(kind), upper_snake(code));
                table.http.insert(upper_snake(code), http.to_owned());
            }
        }
        table
    }

    /// The HTTP status of a code.
    pub(super) fn http(&self, code: &str) -> Option<&str> {
        self.http.get(code).map(String::as_str)
    }
}

fn upper_snake(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_uppercase());
    }
    snake
}

/// All reasons in a source text, outside of its tests.
pub(super) fn said(source: &str, table: &Table) -> Vec<Said> {
    let tokens = tokens_and_strings(source);
    let called = |at: &usize| tokens[*at].text == "(" && !tokens[*at].test;
    (3..tokens.len()).filter(called).filter_map(|at| said_by_call(&tokens, at, table)).collect()
}

/// The reason in the call whose arguments begin here, if it is one that takes a reason.
fn said_by_call(tokens: &[Token], open: usize, table: &Table) -> Option<Said> {
    let text = |at: usize| tokens[at].text.as_str();
    let (name, line) = (text(open - 1), tokens[open - 1].line);
    let owner = if text(open - 2) == "::" { text(open - 3) } else { text(open - 2) };
    let arguments = arguments(&tokens[open + 1..]);
    let upper = name.to_uppercase();
    let (code, reason) = match (owner, name) {
        ("Rejection", _) => {
            (table.codes.get(&upper)?.clone(), arguments.get(usize::from(name == "invalid"))?)
        }
        // A bare status: on its way out it gets the name of its code for a reason.
        ("Status", _) => {
            return table.http(&upper).map(|_| Said { reason: upper.clone(), code: upper, line });
        }
        ("fn", _) => return None,
        ("status", "other") | (_, "detailed") => {
            (upper_snake(&arguments.first()?.last()?.text), arguments.get(1)?)
        }
        _ => return None,
    };
    if reason.iter().any(|token| HANDED_ON.contains(&token.text.as_str())) {
        return None;
    }
    Some(Said { reason: value(reason, tokens).unwrap_or_default().to_owned(), code, line })
}

/// The arguments up to the closing parenthesis.
fn arguments(tokens: &[Token]) -> Vec<&[Token]> {
    let mut arguments = Vec::new();
    let (mut start, mut depth) = (0, 0);
    for (at, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" if depth == 0 => {
                arguments.push(&tokens[start..at]);
                break;
            }
            ")" | "]" | "}" => depth -= 1,
            "," if depth == 0 => {
                arguments.push(&tokens[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    arguments
}

/// A string, or the one that a const of the same file stands for.
fn value<'a>(argument: &'a [Token], file: &'a [Token]) -> Option<&'a str> {
    let [token] = argument else { return None };
    let is_its_const = |pair: &[Token]| pair[0].text == "const" && pair[1].text == token.text;
    token.string().or_else(|| {
        let at = file.windows(2).position(is_its_const)?;
        file[at..].iter().take_while(|token| token.text != ";").find_map(Token::string)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "
        Kind::Invalid => (Code::InvalidArgument, 400),
        Kind::NotFound => (Code::NotFound, 404),
        Code::Unimplemented => 501,
        code => TABLE.iter().find(|row| row.1 == code).map_or(500, |row| row.2),";

    fn reasons(source: &str) -> Vec<(String, String, usize)> {
        let said = said(&format!("use kernel::Rejection;\n{source}"), &Table::parse(STATUS));
        said.into_iter().map(|it| (it.reason, it.code, it.line - 1)).collect()
    }

    fn one(reason: &str, code: &str, line: usize) -> Vec<(String, String, usize)> {
        vec![(reason.to_owned(), code.to_owned(), line)]
    }

    #[test]
    fn the_table_is_read() {
        let table = Table::parse(STATUS);
        let http = ["INVALID_ARGUMENT", "UNIMPLEMENTED", "INTERNAL"].map(|code| table.http(code));
        assert_eq!(http, [Some("400"), Some("501"), Some("500")]);
    }

    #[test]
    fn reasons_stand_where_rejections_are_made() {
        let invalid = "Rejection::invalid(\n&format!(\"{a}, {b}\", (1, 2)),\n\"BAD\",\nmessage)";
        assert_eq!(reasons(invalid), one("BAD", "INVALID_ARGUMENT", 1));
        let missing = "fn f() { g(kernel::Rejection::not_found(\"MISSING\", id)) }";
        assert_eq!(reasons(missing), one("MISSING", "NOT_FOUND", 1));
        let detailed = "detailed(Code::NotFound, \"MISSING\", message, details)";
        assert_eq!(reasons(&format!("; {detailed}")), one("MISSING", "NOT_FOUND", 1));
        let other = "status::other(Code::Unimplemented, \"NO_METHOD\", &message)";
        assert_eq!(reasons(other), one("NO_METHOD", "UNIMPLEMENTED", 1));
        let bare = "\nErr(Status::unimplemented(\"not yet\"))";
        assert_eq!(reasons(bare), one("UNIMPLEMENTED", "UNIMPLEMENTED", 2));
    }

    #[test]
    fn a_const_is_looked_up_and_a_variable_is_no_reason() {
        let known =
            "const WHY: &'static str = \"MISSING\"; fn f() { Rejection::not_found(WHY, 1) }";
        assert_eq!(reasons(known), one("MISSING", "NOT_FOUND", 1));
        assert_eq!(reasons("Rejection::not_found(why, 1)"), one("", "NOT_FOUND", 1));
        assert_eq!(reasons("status::other(code, &upper_snake(code), message)"), []);
        assert_eq!(reasons("detailed(grpc_code(kind), reason, message, details)"), []);
    }

    #[test]
    fn the_rest_says_nothing() {
        for nothing in [
            "// Rejection::not_found(\"MISSING\", id)",
            "#[cfg(test)] mod tests { fn f() { Rejection::not_found(\"MISSING\", id) } }",
            "fn not_found(reason: &'static str) -> Rejection {}",
            "io::Error::other(\"MISSING\"); Status::with_details(code, \"MISSING\", details)",
            "const WHY: &str = \"MISSING\"; Rejection::retry_after(no, after)",
        ] {
            assert_eq!(reasons(nothing), [], "{nothing}");
        }
    }
}
