//! A tree of JSON into a message.

use std::collections::HashMap;

use kernel::Rejection;
use prost::Message as _;
use prost_reflect::{
    DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    ReflectMessage as _, Value,
};
use serde_json::Value as Json;
use serde_json::map::Map;

use crate::fields::other_of_oneof;
use crate::scalar::{self, BYTES, ENUM};
use crate::wkt::{self, Form};

/// How deep messages may be nested: more than this, nobody decodes.
const DEPTH: usize = 100;
/// Below it a double holds each integer, and no other number has become one of them.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// What is wrong with JSON, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The field at fault, from where reading began: `items[2].name`.
    pub(crate) path: String,
    pub(crate) what: What,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// There is no such field.
    Unknown,
    /// The value is none of the field's type.
    Invalid(String),
}

type Read<T> = Result<T, Fault>;

fn invalid<T>(message: impl Into<String>) -> Read<T> {
    Err(Fault { path: String::new(), what: What::Invalid(message.into()) })
}

impl Fault {
    /// The same, seen from one level further up.
    pub(crate) fn within(mut self, name: &str) -> Fault {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{name}{dot}{}", self.path);
        self
    }

    /// What is wrong, without saying where.
    pub(crate) fn message(self) -> String {
        match self.what {
            What::Unknown => format!("has no field {}", self.path),
            What::Invalid(message) => message,
        }
    }

    /// What a caller reads of it. `within` is the field that was read, if it was not all of the
    /// request.
    pub(crate) fn rejection(self, within: Option<&str>) -> Rejection {
        let Fault { path, what } = match within {
            Some(field) => self.within(field),
            None => self,
        };
        match what {
            What::Unknown => {
                Rejection::invalid(&path, "UNKNOWN_FIELD", "the request has no such field")
            }
            What::Invalid(message) => Rejection::invalid(&path, "INVALID_FIELD_VALUE", message),
        }
    }
}

/// Reads a message.
pub(crate) fn message(message: &MessageDescriptor, json: &Json) -> Read<DynamicMessage> {
    read_message(message, json, DEPTH)
}

/// Reads the value of a field; `None` when it is `null`, which leaves most fields as they are.
pub(crate) fn field(field: &FieldDescriptor, json: &Json) -> Read<Option<Value>> {
    read_field(field, json, DEPTH)
}

fn read_message(descriptor: &MessageDescriptor, json: &Json, depth: usize) -> Read<DynamicMessage> {
    let depth = deeper(depth, 1)?;
    let mut message = DynamicMessage::new(descriptor.clone());
    match (wkt::form(descriptor), json) {
        (Form::Fields | Form::Empty, Json::Object(object)) => {
            read_fields(&mut message, object, depth)?;
        }
        (Form::Any, Json::Object(object)) => read_any(&mut message, object, depth)?,
        (Form::Wrapper, json) => {
            let Some(inner) = wkt::wrapped(descriptor) else { return invalid("wraps nothing") };
            message.set_field(&inner, read_single(&inner.kind(), json, depth)?);
        }
        (Form::Text, Json::String(text)) if too_precise(text) => {
            return invalid("has more than nine digits of a second");
        }
        (Form::Text, json) => return read_by_library(descriptor, json),
        (Form::Json, json) => {
            // On the wire: the value, its list or object, and an object's entry.
            deeper(depth, 3 * nesting(json))?;
            return read_by_library(descriptor, json);
        }
        _ => return invalid("must be an object"),
    }
    Ok(message)
}

/// What is left of the depth after so many levels of messages.
fn deeper(depth: usize, levels: usize) -> Read<usize> {
    depth.checked_sub(levels).map_or_else(|| invalid("is nested too deep"), Ok)
}

/// How many levels of lists and objects there are.
fn nesting(json: &Json) -> usize {
    let inner = match json {
        Json::Array(items) => items.iter().map(nesting).max(),
        Json::Object(entries) => entries.values().map(nesting).max(),
        _ => return 0,
    };
    1 + inner.unwrap_or(0)
}

/// Whether a `Timestamp` or a `Duration` says more than a nanosecond can hold. No path of a
/// `FieldMask` begins with a digit.
fn too_precise(text: &str) -> bool {
    let digits = text.split_once('.').map_or("", |(_, fraction)| fraction);
    digits.bytes().take_while(u8::is_ascii_digit).count() > 9
}

fn read_by_library(descriptor: &MessageDescriptor, json: &Json) -> Read<DynamicMessage> {
    let options = DeserializeOptions::new();
    DynamicMessage::deserialize_with_options(descriptor.clone(), json, &options)
        .or_else(|error| invalid(error.to_string()))
}

fn read_fields(message: &mut DynamicMessage, object: &Map<String, Json>, depth: usize) -> Read<()> {
    let descriptor = message.descriptor();
    let mut seen = Vec::with_capacity(object.len());
    for (name, json) in object {
        let by_json_name = descriptor.get_field_by_json_name(name);
        let Some(field) = by_json_name.or_else(|| descriptor.get_field_by_name(name)) else {
            return Err(Fault { path: name.clone(), what: What::Unknown });
        };
        let at_field = |fault: Fault| fault.within(field.name());
        if seen.contains(&field.number()) {
            return invalid("is there twice, under both of its names").map_err(at_field);
        }
        seen.push(field.number());
        let Some(value) = read_field(&field, json, depth).map_err(at_field)? else { continue };
        if let Some(other) = other_of_oneof(message, &field) {
            let why = format!("cannot be set together with {}: they are a oneof", other.name());
            return invalid(why).map_err(at_field);
        }
        message.set_field(&field, value);
    }
    Ok(())
}

fn read_field(field: &FieldDescriptor, json: &Json, depth: usize) -> Read<Option<Value>> {
    let kind = field.kind();
    match json {
        Json::Null if field.is_list() || field.is_map() => Ok(None),
        Json::Null => Ok(wkt::null(&kind)),
        Json::Array(items) if field.is_list() => {
            let item = |(at, json)| {
                read_single(&kind, json, depth).map_err(|fault: Fault| fault.within(&nth(at)))
            };
            let list: Read<Vec<Value>> = items.iter().enumerate().map(item).collect();
            list.map(|list| Some(Value::List(list)))
        }
        _ if field.is_list() => invalid("must be an array"),
        Json::Object(entries) if field.is_map() => read_map(&kind, entries, depth).map(Some),
        _ if field.is_map() => invalid("must be an object"),
        json => read_single(&kind, json, depth).map(Some),
    }
}

fn nth(index: usize) -> String {
    format!("[{index}]")
}

fn read_map(entry: &Kind, entries: &Map<String, Json>, depth: usize) -> Read<Value> {
    let Kind::Message(entry) = entry else { return invalid("is no map") };
    // An entry is a message on the wire.
    let depth = deeper(depth, 1)?;
    let (key_kind, value_kind) =
        (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
    let mut map = HashMap::with_capacity(entries.len());
    for (name, json) in entries {
        let at_entry = |fault: Fault| fault.within(&format!("[{name:?}]"));
        let key = read_key(&key_kind, name).map_err(at_entry)?;
        let value = read_single(&value_kind, json, depth).map_err(at_entry)?;
        if map.insert(key, value).is_some() {
            return invalid("is there twice, in two spellings").map_err(at_entry);
        }
    }
    Ok(Value::Map(map))
}

fn read_key(kind: &Kind, name: &str) -> Read<MapKey> {
    let value = scalar::parse(kind, name).or_else(|why| invalid(format!("the key {why}")))?;
    match value.into_map_key() {
        Some(key) => Ok(key),
        None => invalid("is no key"),
    }
}

/// One value that is neither a list nor a map.
fn read_single(kind: &Kind, json: &Json, depth: usize) -> Read<Value> {
    if json.is_null() {
        return wkt::null(kind).map_or_else(|| invalid("cannot be null here"), Ok);
    }
    match (kind, json) {
        (Kind::Message(descriptor), json) => {
            read_message(descriptor, json, depth).map(Value::Message)
        }
        (Kind::Bool, Json::Bool(value)) => Ok(Value::Bool(*value)),
        (Kind::Bool, _) => invalid("must be true or false"),
        (Kind::String, Json::String(text)) => Ok(Value::String(text.clone())),
        (Kind::String, _) => invalid("must be a string"),
        (Kind::Bytes, Json::String(text)) => match scalar::base64(text) {
            Some(bytes) => Ok(Value::Bytes(bytes.into())),
            None => invalid(BYTES),
        },
        (Kind::Bytes, _) => invalid(BYTES),
        (Kind::Enum(kind), Json::String(name)) => match kind.get_value_by_name(name) {
            Some(value) => Ok(Value::EnumNumber(value.number())),
            None => invalid(ENUM),
        },
        // A number that has no name is from a later version of the enum.
        (Kind::Enum(_), Json::Number(number)) => {
            let number = exact(number).and_then(|number| i32::try_from(number).ok());
            number.map_or_else(|| invalid(ENUM), |number| Ok(Value::EnumNumber(number)))
        }
        (Kind::Enum(_), _) => invalid(ENUM),
        (kind, Json::String(text)) => scalar::parse_number(kind, text).or_else(invalid),
        (kind, Json::Number(number)) => read_number(kind, number),
        // Neither a text nor a number: no more a number than an empty text is.
        (kind, _) => scalar::parse_number(kind, "").or_else(invalid),
    }
}

fn read_number(kind: &Kind, number: &serde_json::Number) -> Read<Value> {
    match kind {
        Kind::Double => match number.as_f64() {
            Some(value) => Ok(Value::F64(value)),
            None => invalid(scalar::DOUBLE),
        },
        #[expect(clippy::cast_possible_truncation, reason = "what does not fit becomes infinite")]
        Kind::Float => match number.as_f64().map(|value| value as f32) {
            Some(value) if value.is_finite() => Ok(Value::F32(value)),
            _ => invalid(scalar::FLOAT),
        },
        kind => scalar::from_integer(kind, exact(number)).or_else(invalid),
    }
}

/// The integer that a number is. One with a fraction or an exponent has been through a double, and
/// counts only where that cannot have changed it.
fn exact(number: &serde_json::Number) -> Option<i128> {
    if let Some(integer) = number.as_i64() {
        return Some(integer.into());
    }
    if let Some(integer) = number.as_u64() {
        return Some(integer.into());
    }
    let double = number.as_f64().filter(|double| double.fract() == 0.0 && double.abs() < EXACT)?;
    #[expect(clippy::cast_possible_truncation, reason = "it is an integer of 53 bits")]
    Some(double as i128)
}

/// `{"@type": .., fields}`, or `{"@type": .., "value": ..}` for a type with a JSON of its own.
fn read_any(any: &mut DynamicMessage, object: &Map<String, Json>, depth: usize) -> Read<()> {
    if object.is_empty() {
        return Ok(());
    }
    let at_type = |fault: Fault| fault.within("@type");
    let Some(Json::String(url)) = object.get("@type") else {
        return invalid("must be the URL of a type").map_err(at_type);
    };
    let pool = any.descriptor().parent_pool().clone();
    let name = url.rsplit_once('/').map(|(_, name)| name);
    let Some(descriptor) = name.and_then(|name| pool.get_message_by_name(name)) else {
        return invalid("is no type that is known here").map_err(at_type);
    };
    let mut fields = object.clone();
    fields.remove("@type");
    let payload = match wkt::form(&descriptor) {
        Form::Fields => read_message(&descriptor, &Json::Object(fields), depth)?,
        // Some write an empty message as one with fields, some as one with a JSON of its own.
        Form::Empty if fields.is_empty() => DynamicMessage::new(descriptor),
        _ => {
            let value = fields.remove("value").unwrap_or(Json::Null);
            if let Some(other) = fields.keys().next() {
                return Err(Fault { path: other.clone(), what: What::Unknown });
            }
            let at_value = |fault: Fault| fault.within("value");
            let value = read_single(&Kind::Message(descriptor), &value, depth).map_err(at_value)?;
            let Value::Message(payload) = value else { return invalid("is no message") };
            payload
        }
    };
    any.set_field_by_number(1, Value::String(url.clone()));
    any.set_field_by_number(2, Value::Bytes(payload.encode_to_vec().into()));
    Ok(())
}
