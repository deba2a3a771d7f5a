//! The mask of an update, from the body that it came with.
//!
//! `PATCH` with a message for a body and an unset `update_mask` means the fields that the body names,
//! also those that it sets to nothing.

use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage as _, Value,
};
use serde_json::Value as Json;

use crate::fields;
use crate::routes::{Body, Route};
use crate::wkt::{self, Form};

const FIELD_MASK: &str = "google.protobuf.FieldMask";

/// The mask of a request, if it has one.
pub(crate) fn field(request: &MessageDescriptor) -> Option<FieldDescriptor> {
    let field = request.get_field_by_name("update_mask")?;
    let kind = field.kind();
    let mask = kind.as_message().is_some_and(|kind| kind.full_name() == FIELD_MASK);
    (mask && !field.is_list()).then_some(field)
}

/// The fields that a body names, down to those that are no plain message.
pub(crate) fn paths(body: &DynamicMessage, json: &Json) -> Vec<String> {
    let mut paths = Vec::new();
    collect(&body.descriptor(), json, "", &mut paths);
    paths.sort();
    paths
}

fn collect(message: &MessageDescriptor, json: &Json, prefix: &str, paths: &mut Vec<String>) {
    for (name, json) in json.as_object().into_iter().flatten() {
        let by_json_name = message.get_field_by_json_name(name);
        let Some(field) = by_json_name.or_else(|| message.get_field_by_name(name)) else {
            continue;
        };
        let path = format!("{prefix}{}", field.name());
        match field.kind() {
            Kind::Message(inner) if goes_deeper(&field, &inner, json) => {
                collect(&inner, json, &format!("{path}."), paths);
            }
            _ => paths.push(path),
        }
    }
}

/// A list, a map and a message with a JSON of its own are set as a whole, and so is a message that
/// is `null` or has nothing in it.
fn goes_deeper(field: &FieldDescriptor, inner: &MessageDescriptor, json: &Json) -> bool {
    let plain = !field.is_list() && !field.is_map() && wkt::form(inner) == Form::Fields;
    plain && json.as_object().is_some_and(|object| !object.is_empty())
}

/// Sets the mask where it is unset. What the path says is who is updated, not what.
pub(crate) fn fill(request: &mut DynamicMessage, route: &Route, paths: Vec<String>) {
    let Some(mask) = field(&route.input()) else { return };
    let Body::Field(body) = &route.body else { return };
    let in_path = |path: &String| {
        let path = format!("{}.{path}", body.name());
        route.variables.iter().any(|target| fields::path(target) == path)
    };
    let paths: Vec<Value> =
        paths.into_iter().filter(|path| !in_path(path)).map(Value::String).collect();
    if paths.is_empty() {
        return;
    }
    if let Value::Message(mask) = request.get_field_mut(&mask)
        && !mask.has_field_by_number(1)
    {
        mask.set_field_by_number(1, Value::List(paths));
    }
}
