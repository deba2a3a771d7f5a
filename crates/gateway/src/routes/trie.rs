//! Which route a path belongs to: a tree of segments.
//!
//! Literal before `*` before `**`, decided segment by segment; where a choice leads nowhere the next
//! one is tried. No path can make that slow: each node is visited at most once, since a node has one
//! way to it and each step takes one segment.

use http::Method;

use crate::percent;
use crate::template::{Segment, Template};

/// All routes by their templates, each known by its index.
#[derive(Debug, Default)]
pub(super) struct Trie {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    literals: Vec<(String, Node)>,
    one: Option<Box<Node>>,
    rest: Option<Box<Node>>,
    ends: Vec<End>,
}

/// A route that ends at a node.
#[derive(Debug)]
struct End {
    verb: Option<String>,
    /// `None` takes every method.
    method: Option<Method>,
    route: usize,
}

/// What is at a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Route(usize),
    /// Something, but not by this method; these would do.
    OtherMethods(Vec<Method>),
    Nothing,
}

impl Trie {
    /// Adds a route. Where another one has the same shape, verb and method, that one is returned.
    pub(super) fn add(
        &mut self,
        template: &Template,
        method: Option<Method>,
        route: usize,
    ) -> Result<(), usize> {
        let mut node = &mut self.root;
        for segment in &template.segments {
            node = match segment {
                Segment::Literal(text) => node.literal(text),
                Segment::One => node.one.get_or_insert_default(),
                Segment::Rest => node.rest.get_or_insert_default(),
            };
        }
        let verb = template.verb.clone();
        if let Some(end) = node.ends.iter().find(|end| end.verb == verb && end.method == method) {
            return Err(end.route);
        }
        node.ends.push(End { verb, method, route });
        Ok(())
    }

    /// The route of a request. What stands behind the last `:` is a verb where some route has it,
    /// and otherwise a part of the last segment.
    pub(super) fn find(&self, method: &Method, path: &str) -> Found {
        if let Some((head, verb)) = split_verb(path) {
            let found = self.search(method, head, Some(verb));
            if found != Found::Nothing {
                return found;
            }
        }
        self.search(method, path, None)
    }

    fn search(&self, method: &Method, path: &str, verb: Option<&str>) -> Found {
        let Some(segments) = path.strip_prefix('/') else { return Found::Nothing };
        // An empty segment matches nothing, so neither `a//b` nor `a/` is a route; `/` has none.
        if segments.ends_with('/') || segments.starts_with('/') || segments.contains("//") {
            return Found::Nothing;
        }
        let segments = (!segments.is_empty()).then_some(segments);
        let mut search = Search { method, verb, allowed: Vec::new() };
        match search.visit(&self.root, segments) {
            Some(route) => Found::Route(route),
            None if search.allowed.is_empty() => Found::Nothing,
            None => Found::OtherMethods(search.allowed()),
        }
    }
}

/// A path without its verb, and the verb, if it looks as if it had one.
pub(super) fn split_verb(path: &str) -> Option<(&str, &str)> {
    path.rsplit_once(':').filter(|(_, verb)| !verb.contains('/'))
}

impl Node {
    fn literal(&mut self, text: &str) -> &mut Node {
        let at = self.literals.iter().position(|(literal, _)| literal == text);
        let at = at.unwrap_or_else(|| {
            self.literals.push((text.to_owned(), Node::default()));
            self.literals.len() - 1
        });
        &mut self.literals[at].1
    }
}

struct Search<'a> {
    method: &'a Method,
    verb: Option<&'a str>,
    allowed: Vec<Method>,
}

impl Search<'_> {
    /// Goes down from a node with the segments that are left, `None` when all are taken.
    fn visit(&mut self, node: &Node, segments: Option<&str>) -> Option<usize> {
        let Some(segments) = segments else {
            let here = self.ends(node);
            return here.or_else(|| node.rest.as_deref().and_then(|rest| self.ends(rest)));
        };
        let (segment, left) = match segments.split_once('/') {
            Some((segment, left)) => (segment, Some(left)),
            None => (segments, None),
        };
        let literal = percent::decode(segment).and_then(|segment| {
            node.literals.iter().find(|(literal, _)| *literal == segment).map(|(_, node)| node)
        });
        literal
            .and_then(|node| self.visit(node, left))
            .or_else(|| node.one.as_deref().and_then(|node| self.visit(node, left)))
            .or_else(|| node.rest.as_deref().and_then(|node| self.ends(node)))
    }

    /// The route that ends here: by this method, by GET when it is HEAD, by any method.
    fn ends(&mut self, node: &Node) -> Option<usize> {
        let ends = || node.ends.iter().filter(|end| end.verb.as_deref() == self.verb);
        let by = |method: Option<&Method>| ends().find(|end| end.method.as_ref() == method);
        let head = *self.method == Method::HEAD;
        let found = by(Some(self.method))
            .or_else(|| head.then(|| by(Some(&Method::GET))).flatten())
            .or_else(|| by(None));
        if let Some(end) = found {
            return Some(end.route);
        }
        let others: Vec<Method> = ends().filter_map(|end| end.method.clone()).collect();
        self.allowed.extend(others);
        None
    }

    fn allowed(mut self) -> Vec<Method> {
        if self.allowed.contains(&Method::GET) {
            self.allowed.push(Method::HEAD);
        }
        self.allowed.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        self.allowed.dedup();
        self.allowed
    }
}
