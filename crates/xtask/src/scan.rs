//! Just enough of a Rust lexer to see names, paths and, for those who ask, strings: without
//! comments, and knowing what is only compiled for tests.

/// A name, a mark, or a string in its quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
    /// In an item under `#[cfg(test)]` or `#[test]`.
    pub(crate) test: bool,
}

impl Token {
    /// What stands in the quotes, when it is a string.
    pub(crate) fn string(&self) -> Option<&str> {
        self.text.strip_prefix('"')?.strip_suffix('"')
    }

    fn is_name(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// A path as it is written, `use` trees taken apart: `use a::{b, c::d}` is `a::b` and `a::c::d`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) segments: Vec<String>,
    /// The name it has from here on, for those of a `use`.
    pub(crate) imported_as: Option<String>,
    pub(crate) line: usize,
    pub(crate) test: bool,
}

/// Takes a source text apart, and leaves out its strings.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let mut tokens = tokens_and_strings(source);
    tokens.retain(|token| token.string().is_none());
    tokens
}

/// Takes a source text apart. Of strings there are the plain ones, without a prefix.
pub(crate) fn tokens_and_strings(source: &str) -> Vec<Token> {
    let mut tokens = lex(source);
    mark_tests(&mut tokens);
    tokens
}

fn lex(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut i = 0;
    while i < chars.len() {
        let start = i;
        match at(i) {
            '/' if at(i + 1) == '/' => {
                while i < chars.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            '/' if at(i + 1) == '*' => i = block_comment(&chars, i),
            '"' => {
                i = string(&chars, i);
                let text = chars[start..i.min(chars.len())].iter().collect();
                tokens.push(Token { text, line, test: false });
            }
            '\'' => i = char_or_lifetime(&chars, i),
            c if c.is_alphabetic() || c == '_' => {
                while at(i).is_alphanumeric() || at(i) == '_' {
                    i += 1;
                }
                let name: String = chars[start..i].iter().collect();
                // r"..", br#".."#, c"..", b'x' are literals; r#type is a name.
                if let Some(end) = literal_after(&chars, &name, i) {
                    i = end;
                } else if name == "r" && at(i) == '#' {
                    i += 1;
                } else {
                    tokens.push(Token { text: name, line, test: false });
                }
            }
            c if c.is_ascii_digit() => {
                // `1..=2` and `x.0.len()` keep their dots; a suffix such as 1u64 is swallowed.
                while at(i).is_alphanumeric() || at(i) == '_' {
                    i += 1;
                }
            }
            ':' if at(i + 1) == ':' => {
                tokens.push(Token { text: "::".to_owned(), line, test: false });
                i += 2;
            }
            c => {
                if !c.is_whitespace() {
                    tokens.push(Token { text: c.to_string(), line, test: false });
                }
                i += 1;
            }
        }
        line += chars[start..i.min(chars.len())].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

fn block_comment(chars: &[char], mut i: usize) -> usize {
    let mut depth = 0;
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                i += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                i += 2;
                if depth == 0 {
                    break;
                }
            }
            _ => i += 1,
        }
    }
    i
}

/// From an opening quote to behind the closing one.
fn string(chars: &[char], mut i: usize) -> usize {
    i += 1;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    i
}

fn raw_string(chars: &[char], mut i: usize) -> Option<usize> {
    let mut hashes = 0;
    while chars.get(i) == Some(&'#') {
        hashes += 1;
        i += 1;
    }
    if chars.get(i) != Some(&'"') {
        return None;
    }
    i += 1;
    while i < chars.len() {
        i += 1;
        if chars[i - 1] == '"' && chars[i..].iter().take_while(|c| **c == '#').count() >= hashes {
            return Some(i + hashes);
        }
    }
    Some(i)
}

fn char_or_lifetime(chars: &[char], i: usize) -> usize {
    match (chars.get(i + 1), chars.get(i + 2)) {
        (Some('\\'), _) => {
            let mut end = i + 3;
            while end < chars.len() && chars[end] != '\'' {
                end += 1;
            }
            end + 1
        }
        (Some(_), Some('\'')) => i + 3,
        _ => {
            let mut end = i + 1;
            while chars.get(end).is_some_and(|c| c.is_alphanumeric() || *c == '_') {
                end += 1;
            }
            end
        }
    }
}

/// The end of the literal that begins with a prefix such as `br`, if it is one.
fn literal_after(chars: &[char], prefix: &str, i: usize) -> Option<usize> {
    match (prefix, chars.get(i)) {
        ("r" | "br" | "cr", Some('"' | '#')) => raw_string(chars, i),
        ("b" | "c", Some('"')) => Some(string(chars, i)),
        ("b", Some('\'')) => Some(char_or_lifetime(chars, i)),
        _ => None,
    }
}

fn mark_tests(tokens: &mut [Token]) {
    let mut i = 0;
    while i < tokens.len() {
        let Some(mut end) = test_attribute(tokens, i) else {
            i += 1;
            continue;
        };
        // The item: to its `;` or the end of its braces, whichever comes first.
        let mut depth = 0;
        while end < tokens.len() {
            match tokens[end].text.as_str() {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            let closes = tokens[end].text == "}" || tokens[end].text == ";";
            end += 1;
            if closes && depth <= 0 {
                break;
            }
        }
        for token in &mut tokens[i..end] {
            token.test = true;
        }
        i = end;
    }
}

/// Behind `#[cfg(test)]`, `#[cfg(all(test, ..))]`, `#[test]`, `#[tokio::test]`, `#[rstest]`.
fn test_attribute(tokens: &[Token], i: usize) -> Option<usize> {
    let text = |i: usize| tokens.get(i).map_or("", |token| token.text.as_str());
    if text(i) != "#" || text(i + 1) != "[" {
        return None;
    }
    let mut depth = 0;
    let mut end = i + 1;
    while end < tokens.len() {
        match text(end) {
            "[" => depth += 1,
            "]" => depth -= 1,
            _ => {}
        }
        end += 1;
        if depth == 0 {
            break;
        }
    }
    let inside: Vec<&str> = (i + 2..end - 1).map(text).collect();
    let test = match inside.as_slice() {
        ["cfg", rest @ ..] => rest.contains(&"test") && !rest.contains(&"not"),
        [.., "test" | "rstest"] => true,
        _ => false,
    };
    test.then_some(end)
}

/// All paths with at least two segments, and all that is imported.
pub(crate) fn paths(tokens: &[Token]) -> Vec<Path> {
    let mut paths = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        let token = &tokens[i];
        let text = |i: usize| tokens.get(i).map_or("", |token| token.text.as_str());
        // `use<'a>` in a return type captures, it does not import.
        if token.text == "use" && text(i + 1) != "<" {
            i = use_tree(tokens, i + 1, &[], &mut paths);
        } else if token.is_name() {
            let mut segments = vec![token.text.clone()];
            let mut end = i + 1;
            while text(end) == "::" && tokens.get(end + 1).is_some_and(Token::is_name) {
                segments.push(text(end + 1).to_owned());
                end += 2;
            }
            if segments.len() > 1 {
                let (line, test) = (token.line, token.test);
                paths.push(Path { segments, imported_as: None, line, test });
            }
            i = end;
        } else {
            i += 1;
        }
    }
    paths
}

/// One tree; returns where it ends.
fn use_tree(tokens: &[Token], mut i: usize, prefix: &[String], paths: &mut Vec<Path>) -> usize {
    let text = |i: usize| tokens.get(i).map_or(";", |token| token.text.as_str());
    let mut segments = prefix.to_vec();
    let first = i;
    let mut imported_as = None;
    loop {
        match text(i) {
            "::" => i += 1,
            "{" => {
                i += 1;
                while !matches!(text(i), "}" | ";") {
                    i = use_tree(tokens, i, &segments, paths);
                    if text(i) == "," {
                        i += 1;
                    }
                }
                return i + 1;
            }
            "as" => {
                imported_as = Some(text(i + 1).to_owned());
                i += 2;
            }
            "*" => {
                imported_as = Some("*".to_owned());
                i += 1;
            }
            // `a::{self}` imports `a`.
            "self" if !prefix.is_empty() => i += 1,
            "," | "}" | ";" => break,
            name => {
                segments.push(name.to_owned());
                i += 1;
            }
        }
    }
    let imported_as = imported_as.or_else(|| segments.last().cloned());
    if let Some(token) = tokens.get(first) {
        paths.push(Path { segments, imported_as, line: token.line, test: token.test });
    }
    i
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(source: &str) -> Vec<String> {
        tokens(source).into_iter().filter(Token::is_name).map(|token| token.text).collect()
    }

    fn written(source: &str) -> Vec<String> {
        paths(&tokens(source)).into_iter().map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn comments_strings_and_literals_are_not_names() {
        let source = r####"
            // ride
            /* ride /* ride */ ride */
            let a = ("ride \" ride", r#"ride " ride"#, b"ride", br"ride", c"ride");
            let b: &'ride str = 'r'; let c = '\''; let d = b'\'';
            r#type
        "####;
        assert_eq!(names(source), ["let", "a", "let", "b", "str", "let", "c", "let", "d", "type"]);
    }

    #[test]
    fn strings_are_there_for_those_who_ask() {
        let strings: Vec<String> = tokens_and_strings(r#"f("a \" b", 'c', x, "")"#)
            .iter()
            .filter_map(|token| token.string().map(str::to_owned))
            .collect();
        assert_eq!(strings, [r#"a \" b"#, ""]);
    }

    #[test]
    fn lines_are_counted_through_everything() {
        let tokens = tokens("a /*\n\n*/ b \"\n\\\n\" c // x\nd");
        let lines: Vec<usize> = tokens.iter().map(|token| token.line).collect();
        assert_eq!(lines, [1, 3, 5, 6]);
    }

    #[test]
    fn use_trees_are_taken_apart() {
        let source = "use a::{self, b, c::{d as e, f::*}}; pub use ::g::h; use i;";
        assert_eq!(written(source), ["a", "a::b", "a::c::d", "a::c::f", "g::h", "i"]);
        let imported = paths(&tokens("use a::b as c;"));
        assert_eq!(imported[0].imported_as.as_deref(), Some("c"));
    }

    #[test]
    fn paths_in_code_are_seen_whole() {
        let source = "fn f() -> impl X + use<'a> { a::b::<C>(x.d(), E::F); let g: h::I<j::K>; }";
        assert_eq!(written(source), ["a::b", "E::F", "h::I", "j::K"]);
    }

    #[test]
    fn what_is_for_tests_is_known() {
        let source =
            "a; #[cfg(test)] mod t { b; fn x() { c } } d; #[tokio::test] async fn y() { e }
            f; #[cfg(not(test))] fn z() { g } #[cfg(test)] use h; i";
        let seen: Vec<_> = tokens(source)
            .into_iter()
            .filter(|token| token.text.len() == 1 && token.is_name())
            .map(|token| (token.text, token.test))
            .collect();
        let test = |name: &str| seen.iter().find(|(text, _)| text == name).map(|(_, test)| *test);
        for name in ["b", "c", "e", "h"] {
            assert_eq!(test(name), Some(true), "{name}");
        }
        for name in ["a", "d", "f", "g", "i"] {
            assert_eq!(test(name), Some(false), "{name}");
        }
    }
}
