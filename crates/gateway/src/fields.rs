//! Fields of a request, from the request down.

use prost_reflect::{DynamicMessage, FieldDescriptor, Value};

use crate::scalar::Wanted;

/// Some member of a oneof is set already, and this is another one.
const ONEOF: Wanted = "cannot be set together with another field of its oneof";

/// The names of the fields on the way, as the proto has them: `book.name`.
pub(crate) fn path(target: &[FieldDescriptor]) -> String {
    let names: Vec<&str> = target.iter().map(FieldDescriptor::name).collect();
    names.join(".")
}

/// Does something with the last field of `target` and the message that has it. The messages on the
/// way are made where they are not there yet.
pub(crate) fn at<T>(
    message: &mut DynamicMessage,
    target: &[FieldDescriptor],
    act: impl FnOnce(&mut DynamicMessage, &FieldDescriptor) -> Result<T, Wanted>,
) -> Result<T, Wanted> {
    let (field, below) = target.split_first().ok_or("is no field")?;
    if other_of_oneof(message, field).is_some() {
        return Err(ONEOF);
    }
    if below.is_empty() {
        return act(message, field);
    }
    match message.get_field_mut(field) {
        Value::Message(inner) => at(inner, below, act),
        _ => Err("is no message"),
    }
}

/// Another field of the same oneof that is set already.
pub(crate) fn other_of_oneof(
    message: &DynamicMessage,
    field: &FieldDescriptor,
) -> Option<FieldDescriptor> {
    let oneof = field.containing_oneof()?;
    oneof.fields().find(|other| other != field && message.has_field(other))
}
