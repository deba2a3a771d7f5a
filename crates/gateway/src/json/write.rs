//! A message into JSON.
//!
//! Fields that are not set are written too, as grpc-gateway does (`EmitUnpopulated`): a client finds
//! every key in every answer, `0`, `""`, `[]`, `{}`, `false`, the first name of an enum, or `null`
//! for a message, and needs no defaults of its own. Left out are only those where silence is the
//! value: the fields of a oneof that are not chosen, `optional` ones that are not set, and an unset
//! `google.protobuf.Value`, of which `null` would be a value.

use std::borrow::Cow;

use base64::display::Base64Display;
use base64::prelude::BASE64_STANDARD;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage,
    SerializeOptions, Value,
};
use serde::ser::{Error, Serialize, SerializeMap, Serializer};

use crate::wkt::{self, Form};

/// A message as JSON.
pub(crate) struct Json<'a>(pub(crate) &'a DynamicMessage);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let message = self.0;
        let descriptor = message.descriptor();
        match wkt::form(&descriptor) {
            Form::Fields => {
                let mut map = serializer.serialize_map(None)?;
                write_fields(&mut map, message)?;
                map.end()
            }
            Form::Any => write_any(message, serializer),
            Form::Wrapper => match wkt::wrapped(&descriptor) {
                Some(inner) => FieldJson { message, field: &inner }.serialize(serializer),
                None => Err(S::Error::custom("a wrapper that wraps nothing")),
            },
            Form::Text | Form::Json | Form::Empty => {
                message.serialize_with_options(serializer, &SerializeOptions::new())
            }
        }
    }
}

fn write_fields<M: SerializeMap>(map: &mut M, message: &DynamicMessage) -> Result<(), M::Error> {
    for field in message.descriptor().fields() {
        if message.has_field(&field) || is_written_unset(&field) {
            map.serialize_entry(field.json_name(), &FieldJson { message, field: &field })?;
        }
    }
    Ok(())
}

fn is_written_unset(field: &FieldDescriptor) -> bool {
    let silent = match field.kind() {
        Kind::Message(message) => !field.is_list() && !field.is_map() && wkt::is_value(&message),
        _ => false,
    };
    field.containing_oneof().is_none() && !silent
}

/// One field of a message as JSON, `null` when it is a message that is not set.
pub(crate) struct FieldJson<'a> {
    pub(crate) message: &'a DynamicMessage,
    pub(crate) field: &'a FieldDescriptor,
}

impl Serialize for FieldJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.field.supports_presence() && !self.message.has_field(self.field) {
            return serializer.serialize_none();
        }
        let value = self.message.get_field(self.field);
        ValueJson { value: &value, kind: &self.field.kind() }.serialize(serializer)
    }
}

struct ValueJson<'a> {
    value: &'a Value,
    kind: &'a Kind,
}

impl Serialize for ValueJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kind = self.kind;
        match self.value {
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::I32(value) => serializer.serialize_i32(*value),
            Value::U32(value) => serializer.serialize_u32(*value),
            // JavaScript's numbers cannot hold these.
            Value::I64(value) => serializer.collect_str(value),
            Value::U64(value) => serializer.collect_str(value),
            Value::F32(value) if value.is_finite() => serializer.serialize_f32(*value),
            Value::F32(value) => serializer.serialize_str(not_finite(f64::from(*value))),
            Value::F64(value) if value.is_finite() => serializer.serialize_f64(*value),
            Value::F64(value) => serializer.serialize_str(not_finite(*value)),
            Value::String(value) => serializer.serialize_str(value),
            Value::Bytes(value) => {
                serializer.collect_str(&Base64Display::new(value, &BASE64_STANDARD))
            }
            Value::EnumNumber(number) => write_enum(kind, *number, serializer),
            Value::Message(message) => Json(message).serialize(serializer),
            Value::List(items) => {
                serializer.collect_seq(items.iter().map(|value| ValueJson { value, kind }))
            }
            Value::Map(entries) => {
                let entry = kind.as_message().filter(|message| message.is_map_entry());
                let entry = entry.ok_or_else(|| S::Error::custom("a map whose type is no map"))?;
                let kind = &entry.map_entry_value_field().kind();
                // Sorted, so that the same message is the same text.
                let mut entries: Vec<_> = entries.iter().collect();
                entries.sort_by(|one, other| one.0.cmp(other.0));
                let json = |(name, value)| (key(name), ValueJson { value, kind });
                serializer.collect_map(entries.into_iter().map(json))
            }
        }
    }
}

fn not_finite(value: f64) -> &'static str {
    match value {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    }
}

/// The name of a value, or its number when it is from a later version of the enum.
fn write_enum<S: Serializer>(kind: &Kind, number: i32, serializer: S) -> Result<S::Ok, S::Error> {
    match kind {
        Kind::Enum(kind) if kind.full_name() == "google.protobuf.NullValue" => {
            serializer.serialize_none()
        }
        Kind::Enum(kind) => match kind.get_value(number) {
            Some(value) => serializer.serialize_str(value.name()),
            None => serializer.serialize_i32(number),
        },
        _ => serializer.serialize_i32(number),
    }
}

fn key(key: &MapKey) -> Cow<'_, str> {
    match key {
        MapKey::Bool(key) => key.to_string().into(),
        MapKey::I32(key) => key.to_string().into(),
        MapKey::I64(key) => key.to_string().into(),
        MapKey::U32(key) => key.to_string().into(),
        MapKey::U64(key) => key.to_string().into(),
        MapKey::String(key) => key.into(),
    }
}

fn write_any<S: Serializer>(any: &DynamicMessage, serializer: S) -> Result<S::Ok, S::Error> {
    let url = any.get_field_by_number(1);
    let payload = any.get_field_by_number(2);
    let url = url.as_deref().and_then(Value::as_str).unwrap_or_default();
    let payload = payload.as_deref().and_then(Value::as_bytes).map_or(&[][..], |bytes| bytes);
    if url.is_empty() && payload.is_empty() {
        return serializer.collect_map(std::iter::empty::<((), ())>());
    }
    let any = AnyJson::of(any.descriptor().parent_pool(), url, payload);
    any.map_err(S::Error::custom)?.serialize(serializer)
}

/// A message with its type, as JSON.
pub(crate) struct AnyJson<'a> {
    url: &'a str,
    payload: DynamicMessage,
}

impl<'a> AnyJson<'a> {
    /// Decodes it by a descriptor of the pool.
    pub(crate) fn of(
        pool: &DescriptorPool,
        url: &'a str,
        payload: &[u8],
    ) -> Result<AnyJson<'a>, String> {
        let name = url.rsplit('/').next().unwrap_or_default();
        let descriptor = pool.get_message_by_name(name);
        let descriptor = descriptor.ok_or_else(|| format!("the type {url:?} is not known"))?;
        let payload = DynamicMessage::decode(descriptor, payload);
        let payload = payload.map_err(|error| format!("it is no {name}: {error}"))?;
        Ok(AnyJson { url, payload })
    }
}

impl Serialize for AnyJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("@type", self.url)?;
        match wkt::form(&self.payload.descriptor()) {
            Form::Fields => write_fields(&mut map, &self.payload)?,
            _ => map.serialize_entry("value", &Json(&self.payload))?,
        }
        map.end()
    }
}
