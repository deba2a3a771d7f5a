//! Values to try an rpc with, from comments: "the name of the place, for example `Misa Station`".
//!
//! Swagger UI makes up a value for every field of a body, most of which no service takes. So a body
//! has an example of its own: what is required, and what a comment gives an example of. What makes a
//! request the same one again (`request_id`) should have none.

use std::collections::BTreeSet;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

use super::comment::Comment;
use super::schema::Behaviors;
use crate::wkt::{self, Form};

/// The example that a field's comment gives, as JSON.
pub(super) fn of_field(field: &FieldDescriptor) -> Option<Value> {
    let comment = Comment::of(&field.parent_file(), field.path());
    let text = comment.example()?;
    match is_text(&field.kind()) && !field.is_list() && !field.is_map() {
        true => Some(text.into()),
        false => serde_json::from_str(text).ok(),
    }
}

/// The segment of an example that stands where the `nth` one of `count` does.
pub(super) fn segment(field: &FieldDescriptor, nth: usize, count: usize) -> Option<Value> {
    let example = of_field(field)?;
    let segments: Vec<&str> = example.as_str()?.split('/').collect();
    segments.get(nth).filter(|_| segments.len() == count).map(|segment| (*segment).into())
}

/// The example of a body that is one field; nothing if there is no saying.
pub(super) fn of_body(field: &FieldDescriptor) -> Option<Value> {
    needed(field, &[])
}

/// The example of a body that is a message, but for some of its fields: what is required of a client,
/// and what a comment gives an example of. Nothing if there is no saying what is required.
pub(super) fn of_message(message: &MessageDescriptor, but: &BTreeSet<String>) -> Option<Value> {
    object(message, but, &[])
}

fn needed(field: &FieldDescriptor, within: &[MessageDescriptor]) -> Option<Value> {
    match (of_field(field), field.kind()) {
        (Some(example), _) => Some(example),
        (None, Kind::Message(message)) if is_object(field, &message) => {
            object(&message, &BTreeSet::new(), within)
        }
        _ => None,
    }
}

fn object(
    message: &MessageDescriptor,
    but: &BTreeSet<String>,
    within: &[MessageDescriptor],
) -> Option<Value> {
    // What needs itself has no end.
    if within.contains(message) {
        return None;
    }
    let within = [within, std::slice::from_ref(message)].concat();
    let mut object = Map::new();
    for field in message.fields().filter(|field| !but.contains(field.name())) {
        let behaviors = Behaviors::of(&field);
        if behaviors.output_only() {
            continue;
        }
        let value = match behaviors.required() {
            true => Some(needed(&field, &within)?),
            false => of_field(&field),
        };
        object.extend(value.map(|value| (field.json_name().to_owned(), value)));
    }
    Some(object.into())
}

/// Whether the JSON of a field is an object of the fields of its message.
fn is_object(field: &FieldDescriptor, message: &MessageDescriptor) -> bool {
    let repeated = field.is_list() || field.is_map();
    !repeated && matches!(wkt::form(message), Form::Fields)
}

/// Whether a value of this kind is written as a text.
fn is_text(kind: &Kind) -> bool {
    match kind {
        Kind::String | Kind::Bytes | Kind::Enum(_) => true,
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64 => true,
        Kind::Message(message) => match wkt::form(message) {
            Form::Text => true,
            Form::Wrapper => wkt::wrapped(message).is_some_and(|inner| is_text(&inner.kind())),
            _ => false,
        },
        _ => false,
    }
}
