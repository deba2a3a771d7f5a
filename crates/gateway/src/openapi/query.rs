//! The keys of a query: all fields that the path and the body leave, by their names in JSON.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Value, json};

use super::comment::Comment;
use super::example;
use super::schema::{Behaviors, Schemas};
use crate::fields;
use crate::routes::{Route, Target};
use crate::wkt::{self, Form};

/// The parameters of the query of a route.
pub(super) fn parameters(route: &Route, schemas: &mut Schemas) -> Vec<Value> {
    let mut parameters = Vec::new();
    for field in route.query_fields() {
        collect(route, vec![field], &[route.input()], schemas, &mut parameters);
    }
    parameters
}

/// Adds what a field can be given by: itself, or the fields of its message. A message inside itself
/// is left out, and so is what no query can say.
fn collect(
    route: &Route,
    target: Target,
    within: &[MessageDescriptor],
    schemas: &mut Schemas,
    parameters: &mut Vec<Value>,
) {
    let Some(field) = target.last() else { return };
    let taken = route.variables.contains(&target) || field.is_map();
    if taken || Behaviors::of(field).output_only() {
        return;
    }
    let kind = field.kind();
    match &kind {
        Kind::Message(message) => match wkt::form(message) {
            Form::Fields if !field.is_list() && !within.contains(message) => {
                let within = [within, std::slice::from_ref(message)].concat();
                for below in message.fields() {
                    let target = [target.as_slice(), &[below]].concat();
                    collect(route, target, &within, schemas, parameters);
                }
            }
            Form::Fields | Form::Any | Form::Empty => {}
            Form::Json => parameters.push(json_text(&target, field)),
            Form::Wrapper | Form::Text => parameters.push(parameter(&target, field, schemas)),
        },
        _ => parameters.push(parameter(&target, field, schemas)),
    }
}

fn parameter(target: &Target, field: &FieldDescriptor, schemas: &mut Schemas) -> Value {
    let kind = field.kind();
    let kind = match kind.as_message().and_then(wkt::wrapped) {
        Some(inner) if kind.as_message().map(wkt::form) == Some(Form::Wrapper) => inner.kind(),
        _ => kind,
    };
    let mut schema = schemas.value(&kind);
    let mut parameter = head(target, field);
    if field.is_list() {
        schema = json!({ "type": "array", "items": schema });
        parameter["style"] = "form".into();
        parameter["explode"] = true.into();
    }
    parameter["schema"] = schema;
    parameter
}

/// A value that can be anything in JSON is there as JSON.
fn json_text(target: &Target, field: &FieldDescriptor) -> Value {
    let mut parameter = head(target, field);
    parameter["content"] = json!({ "application/json": { "schema": {} } });
    parameter
}

fn head(target: &Target, field: &FieldDescriptor) -> Value {
    let names: Vec<&str> = target.iter().map(FieldDescriptor::json_name).collect();
    let required = target.iter().all(|field| Behaviors::of(field).required());
    let comment = Comment::of(&field.parent_file(), field.path());
    let description = match names.len() {
        1 => comment.text(),
        _ => format!("{}\n\nA part of `{}`.", comment.text(), fields::path(&target[..1])),
    };
    let mut head = json!({
        "name": names.join("."),
        "in": "query",
        "required": required,
        "description": description.trim(),
    });
    if let Some(example) = example::of_field(field) {
        head["example"] = example;
    }
    if field.field_descriptor_proto().options.as_ref().is_some_and(|options| options.deprecated()) {
        head["deprecated"] = true.into();
    }
    head
}
