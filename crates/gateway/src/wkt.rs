//! The well-known types whose JSON is not an object of their fields.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor, Value};

/// How a message looks in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// An object of its fields.
    Fields,
    /// `google.protobuf.Any`: an object with its type.
    Any,
    /// The value that a wrapper wraps.
    Wrapper,
    /// A text: `Timestamp`, `Duration`, `FieldMask`.
    Text,
    /// Any JSON, an object or an array: `Value`, `Struct`, `ListValue`.
    Json,
    /// `google.protobuf.Empty`: an empty object.
    Empty,
}

/// How messages of this type look in JSON.
pub(crate) fn form(message: &MessageDescriptor) -> Form {
    let Some(name) = message.full_name().strip_prefix("google.protobuf.") else {
        return Form::Fields;
    };
    match name {
        "Any" => Form::Any,
        "DoubleValue" | "FloatValue" | "Int64Value" | "UInt64Value" | "Int32Value"
        | "UInt32Value" | "BoolValue" | "StringValue" | "BytesValue" => Form::Wrapper,
        "Timestamp" | "Duration" | "FieldMask" => Form::Text,
        "Value" | "Struct" | "ListValue" => Form::Json,
        "Empty" => Form::Empty,
        _ => Form::Fields,
    }
}

/// What a wrapper wraps.
pub(crate) fn wrapped(wrapper: &MessageDescriptor) -> Option<FieldDescriptor> {
    wrapper.get_field(1)
}

/// What `null` means where a value of this kind is wanted; mostly nothing.
pub(crate) fn null(kind: &Kind) -> Option<Value> {
    match kind {
        Kind::Enum(kind) if kind.full_name() == "google.protobuf.NullValue" => {
            Some(Value::EnumNumber(0))
        }
        Kind::Message(message) if is_value(message) => {
            let mut value = prost_reflect::DynamicMessage::new(message.clone());
            value.try_set_field_by_number(1, Value::EnumNumber(0)).ok()?;
            Some(Value::Message(value))
        }
        _ => None,
    }
}

/// Whether it is `google.protobuf.Value`, the one message of which `null` is a value.
pub(crate) fn is_value(message: &MessageDescriptor) -> bool {
    message.full_name() == "google.protobuf.Value"
}
