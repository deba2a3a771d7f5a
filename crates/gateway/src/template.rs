//! Path templates, as `google/api/http.proto` defines them.
//!
//! ```text
//! Template = "/" Segments [ Verb ] ;
//! Segments = Segment { "/" Segment } ;
//! Segment  = "*" | "**" | LITERAL | Variable ;
//! Variable = "{" FieldPath [ "=" Segments ] "}" ;
//! Verb     = ":" LITERAL ;
//! ```
//!
//! A template is parsed once, at start-up, into a flat list of segments; a variable is a range of
//! them. A reserved character in a literal is percent-encoded, as the specification asks, so a bare
//! `:` always begins the verb.

use std::fmt;
use std::ops::Range;

use crate::percent;

/// What one segment of a path must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Exactly this text, percent-decoded.
    Literal(String),
    /// `*`: any one segment that is not empty.
    One,
    /// `**`: all that is left, perhaps nothing; the last segment of its template.
    Rest,
}

/// A part of the path that goes into a field of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// The field, by its names in the proto, from the request down: `book.name`.
    pub field_path: String,
    /// Which segments of the template it spans.
    pub segments: Range<usize>,
    /// Whether it can span several segments of a path. One that cannot is percent-decoded whole, one
    /// that can keeps its `%2F`.
    pub multi: bool,
    /// Whether it ends in `**` and takes all that is left.
    pub open: bool,
}

/// A parsed path template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: String,
    /// All segments, those of variables among them.
    pub segments: Vec<Segment>,
    /// The variables, from left to right.
    pub variables: Vec<Variable>,
    /// What stands behind the `:` at the end.
    pub verb: Option<String>,
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is no template, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path template {template:?} is malformed at character {}: {why}", .at + 1)]
pub struct TemplateError {
    template: String,
    at: usize,
    why: &'static str,
}

impl Template {
    /// Parses a template.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        let mut parser = Parser { text, at: 0, segments: Vec::new(), variables: Vec::new() };
        let verb = parser.template().map_err(|why| TemplateError {
            template: text.to_owned(),
            at: parser.at,
            why,
        })?;
        let Parser { segments, variables, .. } = parser;
        Ok(Template { text: text.to_owned(), segments, variables, verb })
    }
}

type Parsed<T> = Result<T, &'static str>;

struct Parser<'a> {
    text: &'a str,
    at: usize,
    segments: Vec<Segment>,
    variables: Vec<Variable>,
}

impl Parser<'_> {
    fn template(&mut self) -> Parsed<Option<String>> {
        self.expect('/', "it must begin with /")?;
        self.segments(true)?;
        let verb = if self.take(':') { Some(self.literal()?) } else { None };
        match self.peek() {
            None => Ok(verb),
            Some('}') => Err("there is no { for this }"),
            Some(_) if verb.is_some() => Err("nothing may follow the verb"),
            Some(_) => Err("expected /, : or the end"),
        }
    }

    fn segments(&mut self, variables: bool) -> Parsed<()> {
        loop {
            self.segment(variables)?;
            if !self.take('/') {
                return Ok(());
            }
        }
    }

    fn segment(&mut self, variables: bool) -> Parsed<()> {
        if self.segments.last() == Some(&Segment::Rest) {
            return Err("** must be the last segment");
        }
        match self.peek() {
            Some('{') if variables => return self.variable(),
            Some('{') => return Err("a variable cannot contain another one"),
            Some('*') => {
                self.at += 1;
                let segment = if self.take('*') { Segment::Rest } else { Segment::One };
                self.segments.push(segment);
            }
            _ => {
                let literal = self.literal()?;
                self.segments.push(Segment::Literal(literal));
            }
        }
        Ok(())
    }

    fn variable(&mut self) -> Parsed<()> {
        self.expect('{', "expected {")?;
        let field_path = self.field_path()?;
        let start = self.segments.len();
        if self.take('=') {
            self.segments(false)?;
        } else {
            self.segments.push(Segment::One);
        }
        self.expect('}', "expected }")?;
        let segments = start..self.segments.len();
        let open = self.segments.last() == Some(&Segment::Rest);
        let multi = open || segments.len() > 1;
        self.variables.push(Variable { field_path, segments, multi, open });
        Ok(())
    }

    fn field_path(&mut self) -> Parsed<String> {
        let start = self.at;
        loop {
            let first = self.peek().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
            if !first {
                return Err("expected the name of a field");
            }
            self.skip(|c| c.is_ascii_alphanumeric() || c == '_');
            if !self.take('.') {
                return Ok(self.text[start..self.at].to_owned());
            }
        }
    }

    fn literal(&mut self) -> Parsed<String> {
        let start = self.at;
        self.skip(|c| c.is_ascii_alphanumeric() || "-_.~%!$&'()+,;@".contains(c));
        match &self.text[start..self.at] {
            "" => Err("expected a literal, *, ** or a variable"),
            literal => percent::decode(literal)
                .map(|literal| literal.into_owned())
                .ok_or("the literal is not percent-encoded UTF-8"),
        }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += if found { wanted.len_utf8() } else { 0 };
        found
    }

    fn expect(&mut self, wanted: char, why: &'static str) -> Parsed<()> {
        if self.take(wanted) { Ok(()) } else { Err(why) }
    }

    fn skip(&mut self, wanted: impl Fn(char) -> bool) {
        let rest = &self.text[self.at..];
        self.at += rest.find(|c| !wanted(c)).unwrap_or(rest.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> Segment {
        Segment::Literal(text.to_owned())
    }

    #[test]
    fn a_template_is_segments_variables_and_a_verb() {
        let template = Template::parse("/v1/{name=shelves/*/books/**}:copy").expect("a template");
        let segments =
            [literal("v1"), literal("shelves"), Segment::One, literal("books"), Segment::Rest];
        assert_eq!(template.segments, segments);
        assert_eq!(template.verb.as_deref(), Some("copy"));
        let name = Variable { field_path: "name".into(), segments: 1..5, multi: true, open: true };
        assert_eq!(template.variables, [name]);
        assert_eq!(template.to_string(), "/v1/{name=shelves/*/books/**}:copy");
    }

    #[test]
    fn a_variable_without_segments_is_one_segment() {
        for text in ["/v1/{a.b_c}", "/v1/{a.b_c=*}"] {
            let template = Template::parse(text).expect("a template");
            let field_path = "a.b_c".to_owned();
            let variable = Variable { field_path, segments: 1..2, multi: false, open: false };
            assert_eq!(template.variables, [variable]);
        }
    }

    #[test]
    fn reserved_characters_of_literals_are_encoded() {
        let template = Template::parse("/a%3Ab%2Fc/x:y").expect("a template");
        assert_eq!(template.segments, [literal("a:b/c"), literal("x")]);
        assert_eq!(template.verb.as_deref(), Some("y"));
    }

    #[test]
    fn malformed_templates_say_where_and_why() {
        for (text, at, why) in [
            ("", 1, "it must begin with /"),
            ("v1/a", 1, "it must begin with /"),
            ("/", 2, "expected a literal"),
            ("/v1/", 5, "expected a literal"),
            ("/v1//a", 5, "expected a literal"),
            ("/v1/**/a", 8, "** must be the last segment"),
            ("/v1/{a=**}/b", 12, "** must be the last segment"),
            ("/v1/***", 7, "expected /, : or the end"),
            ("/v1/*a", 6, "expected /, : or the end"),
            ("/v1/{a=b/{c}}", 10, "a variable cannot contain another one"),
            ("/v1/{}", 6, "expected the name of a field"),
            ("/v1/{a.}", 8, "expected the name of a field"),
            ("/v1/{1a}", 6, "expected the name of a field"),
            ("/v1/{a", 7, "expected }"),
            ("/v1/{a=}", 8, "expected a literal"),
            ("/v1/a}", 6, "there is no { for this }"),
            ("/v1/{a}b", 8, "expected /, : or the end"),
            ("/v1/a:", 7, "expected a literal"),
            ("/v1/a:b:c", 8, "nothing may follow the verb"),
            ("/v1/a:b/c", 8, "nothing may follow the verb"),
            ("/v1/a b", 6, "expected /, : or the end"),
            ("/v1/ä", 5, "expected a literal"),
            ("/v1/%zz", 8, "not percent-encoded UTF-8"),
            ("/v1/%ff", 8, "not percent-encoded UTF-8"),
        ] {
            let error = Template::parse(text).expect_err(text).to_string();
            let place = format!("at character {at}:");
            assert!(error.contains(&place) && error.contains(why), "{text}: {error}");
        }
    }
}
