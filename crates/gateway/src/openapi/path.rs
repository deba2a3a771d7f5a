//! Path templates as OpenAPI writes paths.
//!
//! OpenAPI has a name for each segment that varies, and no field that spans several of them. So
//! `/v1/{name=shelves/*/books/*}` is `/v1/shelves/{shelf}/books/{book}`, and each parameter says which
//! field it is a part of. Two paths of one shape must not differ by names alone: the names are those
//! of the first route.

use std::collections::{BTreeMap, HashSet};

use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, Value as Field};
use serde_json::{Value, json};

use super::comment::Comment;
use super::example;
use super::schema::Schemas;
use crate::routes::Route;
use crate::template::{Segment, Variable};

/// The path of a route.
pub(super) struct Path {
    /// As OpenAPI writes it.
    pub(super) text: String,
    /// The names of its segments that vary, in their order, each with where it is in the template.
    names: Vec<(usize, String)>,
}

/// The paths so far, by their shapes.
#[derive(Default)]
pub(super) struct Paths {
    shapes: BTreeMap<String, Vec<String>>,
}

impl Paths {
    /// The path of a route.
    pub(super) fn path(&mut self, route: &Route) -> Path {
        let shape = text(route, |_| "*");
        let names = self.shapes.entry(shape).or_insert_with(|| names(route));
        let varying = route.template.segments.iter().enumerate();
        let varying = varying.filter(|(_, segment)| !matches!(segment, Segment::Literal(_)));
        let names: Vec<(usize, String)> =
            varying.map(|(at, _)| at).zip(names.iter().cloned()).collect();
        let name = |at: usize| name_at(&names, at);
        Path { text: text(route, name), names }
    }
}

impl Path {
    /// The parameters of the path.
    pub(super) fn parameters(&self, route: &Route, schemas: &mut Schemas) -> Vec<Value> {
        self.names.iter().map(|(at, name)| self.parameter(route, *at, name, schemas)).collect()
    }

    fn parameter(&self, route: &Route, at: usize, name: &str, schemas: &mut Schemas) -> Value {
        let mut variables = route.template.variables.iter().zip(&route.variables);
        let found = variables.find(|(variable, _)| variable.segments.contains(&at));
        let found = found.and_then(|(variable, target)| Some((variable, target.last()?)));
        let (schema, description) = match found {
            Some((variable, field)) => (
                segment_schema(route, at, variable, field, schemas),
                self.description(route, variable, field),
            ),
            None => (json!({ "type": "string" }), "Anything: the rpc does not read it.".to_owned()),
        };
        let mut parameter = json!({
            "name": name,
            "in": "path",
            "required": true,
            "description": description,
            "schema": schema,
        });
        let example = found.and_then(|(variable, field)| {
            let nth = at.checked_sub(variable.segments.start)?;
            example::segment(field, nth, variable.segments.len())
        });
        if let Some(example) = example {
            parameter["example"] = example;
        }
        parameter
    }

    /// The field's comment, and how its value comes about where that is not plain.
    fn description(&self, route: &Route, variable: &Variable, field: &FieldDescriptor) -> String {
        let comment = Comment::of(&field.parent_file(), field.path()).text();
        if variable.segments.len() == 1 && !variable.open {
            return comment;
        }
        let pattern = pattern(route, variable, |at| name_at(&self.names, at));
        let rest = if variable.open { " Its last part can be of several segments." } else { "" };
        let whole = format!("The field `{}` is `{pattern}`.{rest}", variable.field_path);
        [comment, whole].join("\n\n").trim().to_owned()
    }
}

fn name_at(names: &[(usize, String)], at: usize) -> &str {
    names.iter().find(|(place, _)| *place == at).map_or("", |(_, name)| name.as_str())
}

fn segment_schema(
    route: &Route,
    at: usize,
    variable: &Variable,
    field: &FieldDescriptor,
    schemas: &mut Schemas,
) -> Value {
    match route.template.segments.get(at) {
        Some(Segment::Rest) => json!({ "type": "string" }),
        _ if variable.multi => json!({ "type": "string", "pattern": "^[^/]+$" }),
        _ if field.kind() == Kind::String => json!({ "type": "string", "minLength": 1 }),
        _ => schemas.value(&field.kind()),
    }
}

/// The path of a route, with names for what varies.
fn text<'n>(route: &Route, name: impl Fn(usize) -> &'n str) -> String {
    let template = &route.template;
    let segments = template.segments.iter().enumerate().map(|(at, segment)| match segment {
        Segment::Literal(text) => encoded(text),
        Segment::One | Segment::Rest => format!("{{{}}}", name(at)),
    });
    let path = segments.collect::<Vec<_>>().join("/");
    let verb = template.verb.as_ref().map(|verb| format!(":{}", encoded(verb)));
    format!("/{path}{}", verb.unwrap_or_default())
}

/// The value of a variable, with names for what varies.
fn pattern<'n>(route: &Route, variable: &Variable, name: impl Fn(usize) -> &'n str) -> String {
    let segments = variable.segments.clone().map(|at| match &route.template.segments[at] {
        Segment::Literal(text) => text.clone(),
        Segment::One | Segment::Rest => format!("{{{}}}", name(at)),
    });
    segments.collect::<Vec<_>>().join("/")
}

/// All but the unreserved characters is percent-encoded.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'-' | b'_' | b'.' | b'~' => encoded.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => encoded.push(char::from(byte)),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Names for the segments of a route that vary, each once.
fn names(route: &Route) -> Vec<String> {
    let segments = route.template.segments.iter().enumerate();
    let varying = segments.filter(|(_, segment)| !matches!(segment, Segment::Literal(_)));
    let mut taken = HashSet::new();
    let unique = |name: String| {
        let mut candidates = (2..).map(|nth| format!("{name}{nth}"));
        let mut unique = name.clone();
        while !taken.insert(unique.clone()) {
            unique = candidates.next().unwrap_or_default();
        }
        unique
    };
    varying.map(|(at, _)| name(route, at)).map(unique).collect()
}

/// The best name for a segment: that of its resource's pattern, of its field when it is all of it, or
/// of what stands before it.
fn name(route: &Route, at: usize) -> String {
    let mut variables = route.template.variables.iter().zip(&route.variables);
    let Some((variable, target)) = variables.find(|(variable, _)| variable.segments.contains(&at))
    else {
        return "segment".to_owned();
    };
    if variable.segments.len() == 1 {
        return variable.field_path.clone();
    }
    let nth = at - variable.segments.start;
    let patterns = target.last().map(patterns).unwrap_or_default();
    let named = patterns.iter().find_map(|pattern| named(route, variable, pattern, nth));
    named.or_else(|| collection(route, at)).unwrap_or_else(|| "segment".to_owned())
}

/// The name that a resource's pattern has for a segment, if the pattern is of the variable's shape.
fn named(route: &Route, variable: &Variable, pattern: &str, nth: usize) -> Option<String> {
    let parts: Vec<&str> = pattern.split('/').collect();
    let segments = &route.template.segments[variable.segments.clone()];
    let fits = |(part, segment): (&&str, &Segment)| match segment {
        Segment::Literal(text) => part == text,
        Segment::One => part.starts_with('{'),
        Segment::Rest => false,
    };
    let same = parts.len() == segments.len() && parts.iter().zip(segments).all(fits);
    let part = parts.get(nth).filter(|_| same)?;
    Some(part.trim_matches(['{', '}']).to_owned())
}

/// One of what the segment before is a collection of: `shelves` has a `shelf`, more or less.
fn collection(route: &Route, at: usize) -> Option<String> {
    let Segment::Literal(plural) = route.template.segments.get(at.checked_sub(1)?)? else {
        return None;
    };
    let singular = match plural {
        _ if plural.ends_with("ies") => format!("{}y", plural.trim_end_matches("ies")),
        _ if plural.ends_with("ves") => format!("{}f", plural.trim_end_matches("ves")),
        _ => plural.trim_end_matches('s').to_owned(),
    };
    Some(singular).filter(|name| !name.is_empty())
}

/// The patterns of the resource that a field refers to, or is the name of.
fn patterns(field: &FieldDescriptor) -> Vec<String> {
    let pool = field.parent_pool();
    let referred = option(pool, field.options(), "google.api.resource_reference")
        .and_then(|reference| text_of(&reference, "type"));
    let own = option(pool, field.parent_message().options(), "google.api.resource");
    match referred {
        Some(kind) => resources(pool)
            .into_iter()
            .filter(|resource| text_of(resource, "type").as_ref() == Some(&kind))
            .flat_map(|resource| patterns_of(&resource))
            .collect(),
        None => own.as_ref().map(patterns_of).unwrap_or_default(),
    }
}

/// All resources that are declared: by messages, and by files.
fn resources(pool: &DescriptorPool) -> Vec<Field> {
    let by_message =
        pool.all_messages().filter_map(|m| option(pool, m.options(), "google.api.resource"));
    let by_file = pool
        .files()
        .filter_map(|file| option(pool, file.options(), "google.api.resource_definition"));
    let listed = by_file.flat_map(|list| list.as_list().unwrap_or_default().to_vec());
    by_message.chain(listed).collect()
}

/// The value of an option that is an extension.
fn option(
    pool: &DescriptorPool,
    options: prost_reflect::DynamicMessage,
    name: &str,
) -> Option<Field> {
    let extension = pool.get_extension_by_name(name)?;
    options.has_extension(&extension).then(|| options.get_extension(&extension).into_owned())
}

fn text_of(resource: &Field, name: &str) -> Option<String> {
    let value = resource.as_message()?.get_field_by_name(name)?;
    value.as_str().map(str::to_owned)
}

fn patterns_of(resource: &Field) -> Vec<String> {
    let patterns = resource.as_message().and_then(|resource| resource.get_field_by_name("pattern"));
    let patterns = patterns.as_deref().and_then(Field::as_list).unwrap_or_default();
    patterns.iter().filter_map(|pattern| pattern.as_str().map(str::to_owned)).collect()
}
