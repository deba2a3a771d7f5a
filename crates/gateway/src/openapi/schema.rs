//! Messages and enums as JSON Schema: what the transcoder writes, and reads.
//!
//! A message has one schema, whether it is asked with or answered with. `readOnly` is what only the
//! server says. `required` is what a client must send, and in an answer what it can rely upon, which
//! are all fields but the few that are left out when they are not set; `null` is there for a message
//! that is not set. A message that is only asked with refuses what it does not know.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use prost_reflect::{
    EnumDescriptor, EnumValueDescriptor, FieldDescriptor, Kind, MessageDescriptor, Value as Field,
};
use serde_json::{Map, Value, json};

use super::comment::Comment;
use super::example;
use crate::routes::{Body, RouteTable};
use crate::wkt::{self, Form};

/// The schemas so far, by the full names of their types.
pub(super) struct Schemas {
    schemas: BTreeMap<String, Value>,
    asked: HashSet<String>,
    answered: HashSet<String>,
}

impl Schemas {
    pub(super) fn new(table: &RouteTable) -> Schemas {
        let (mut asked, mut answered) = (HashSet::new(), HashSet::new());
        for route in table.routes() {
            reach(&route.output(), &mut answered);
            match &route.body {
                Body::None => {}
                Body::All => reach(&route.input(), &mut asked),
                Body::Field(field) => reach_kind(&field.kind(), &mut asked),
            }
        }
        Schemas { schemas: BTreeMap::new(), asked, answered }
    }

    /// All schemas.
    pub(super) fn finish(self) -> BTreeMap<String, Value> {
        self.schemas
    }

    /// Adds a schema under a name of its own, and refers to it.
    pub(super) fn add(&mut self, name: &str, schema: Value) -> Value {
        self.schemas.insert(name.to_owned(), schema);
        reference(name)
    }

    /// One value that is neither a list nor a map.
    pub(super) fn value(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Double => json!({ "type": "number", "format": "double" }),
            Kind::Float => json!({ "type": "number", "format": "float" }),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                json!({ "type": "integer", "format": "int32" })
            }
            Kind::Uint32 | Kind::Fixed32 => {
                json!({ "type": "integer", "format": "int64", "minimum": 0, "maximum": u32::MAX })
            }
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                json!({ "type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$" })
            }
            Kind::Uint64 | Kind::Fixed64 => {
                json!({ "type": "string", "format": "uint64", "pattern": "^[0-9]{1,20}$" })
            }
            Kind::Bool => json!({ "type": "boolean" }),
            Kind::String => json!({ "type": "string" }),
            Kind::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
            Kind::Enum(kind) if kind.full_name() == "google.protobuf.NullValue" => {
                json!({ "type": "null" })
            }
            Kind::Enum(kind) => self.enumeration(kind),
            Kind::Message(message) => self.message(message),
        }
    }

    /// A message, as a reference unless its JSON is that of a well-known type.
    pub(super) fn message(&mut self, message: &MessageDescriptor) -> Value {
        match wkt::form(message) {
            Form::Fields => {
                if !self.schemas.contains_key(message.full_name()) {
                    // There before it is known, for messages inside themselves.
                    self.schemas.insert(message.full_name().to_owned(), Value::Null);
                    let schema = self.object(message, &BTreeSet::new());
                    self.schemas.insert(message.full_name().to_owned(), schema);
                }
                reference(message.full_name())
            }
            Form::Any => json!({
                "type": "object",
                "description": "Any message: `@type` says of which type, the other fields are its own.",
                "properties": { "@type": { "type": "string" } },
            }),
            Form::Wrapper => match wkt::wrapped(message) {
                Some(inner) => self.value(&inner.kind()),
                None => json!({}),
            },
            Form::Text => text(message.name()),
            Form::Json => match message.name() {
                "Struct" => json!({ "type": "object" }),
                "ListValue" => json!({ "type": "array", "items": {} }),
                _ => json!({}),
            },
            Form::Empty => json!({ "type": "object", "additionalProperties": false }),
        }
    }

    /// An object of the fields of a message, but for some.
    pub(super) fn object(&mut self, message: &MessageDescriptor, but: &BTreeSet<String>) -> Value {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for field in message.fields().filter(|field| !but.contains(field.name())) {
            if self.is_required(&field) {
                required.push(field.json_name().to_owned());
            }
            properties.insert(field.json_name().to_owned(), self.property(&field));
        }
        let comment = Comment::of(&message.parent_file(), message.path());
        let mut object = json!({
            "type": "object",
            "title": message.name(),
            "description": comment.text(),
            "properties": properties,
        });
        if !required.is_empty() {
            object["required"] = required.into();
        }
        if !self.answered.contains(message.full_name()) {
            object["additionalProperties"] = false.into();
        }
        object
    }

    /// A field of a message.
    pub(super) fn property(&mut self, field: &FieldDescriptor) -> Value {
        let behaviors = Behaviors::of(field);
        let mut property = self.field(field);
        if self.is_null(field) {
            property = nullable(property);
        }
        let comment = Comment::of(&field.parent_file(), field.path());
        let description = description(field, &comment, behaviors);
        if !description.is_empty() {
            property["description"] = description.into();
        }
        if let Some(example) = example::of_field(field) {
            property["examples"] = json!([example]);
        }
        if behaviors.output_only() {
            property["readOnly"] = true.into();
        }
        if behaviors.input_only() {
            property["writeOnly"] = true.into();
        }
        let options = &field.field_descriptor_proto().options;
        if options.as_ref().is_some_and(|options| options.deprecated()) {
            property["deprecated"] = true.into();
        }
        property
    }

    /// The type of a field.
    fn field(&mut self, field: &FieldDescriptor) -> Value {
        let kind = field.kind();
        match &kind {
            Kind::Message(entry) if field.is_map() => {
                let mut map = json!({
                    "type": "object",
                    "additionalProperties": self.value(&entry.map_entry_value_field().kind()),
                });
                if let Some(pattern) = key_pattern(&entry.map_entry_key_field().kind()) {
                    map["propertyNames"] = json!({ "pattern": pattern });
                }
                map
            }
            kind if field.is_list() => json!({ "type": "array", "items": self.value(kind) }),
            kind => self.value(kind),
        }
    }

    fn is_required(&self, field: &FieldDescriptor) -> bool {
        let behaviors = Behaviors::of(field);
        let message = field.parent_message();
        let relied_upon = self.answered.contains(message.full_name()) && is_always_there(field);
        let only_answered = !self.asked.contains(message.full_name()) || behaviors.output_only();
        behaviors.required() || relied_upon && only_answered
    }

    /// Whether an answer can have `null` in its place.
    fn is_null(&self, field: &FieldDescriptor) -> bool {
        let answered = self.answered.contains(field.parent_message().full_name());
        let message = field.kind().as_message().is_some() && !field.is_list() && !field.is_map();
        answered && message && is_always_there(field) && !Behaviors::of(field).required()
    }

    fn enumeration(&mut self, kind: &EnumDescriptor) -> Value {
        let comment = Comment::of(&kind.parent_file(), kind.path()).text();
        // As they are declared, not by their numbers.
        let mut values: Vec<EnumValueDescriptor> = kind.values().collect();
        values.sort_by(|one, other| one.path().cmp(other.path()));
        let line = |value: &EnumValueDescriptor| {
            let comment = Comment::of(&value.parent_file(), value.path()).text();
            format!("- `{}`: {comment}", value.name()).trim_end_matches(": ").to_owned()
        };
        let lines: Vec<String> = values.iter().map(line).collect();
        let description = format!("{comment}\n\n{}", lines.join("\n"));
        let names: Vec<&str> = values.iter().map(EnumValueDescriptor::name).collect();
        self.add(
            kind.full_name(),
            json!({
                "type": "string",
                "title": kind.name(),
                "description": description.trim(),
                "enum": names,
            }),
        )
    }
}

/// Whether the transcoder writes a field also when it is not set.
fn is_always_there(field: &FieldDescriptor) -> bool {
    let kind = field.kind();
    let silent =
        !field.is_list() && !field.is_map() && kind.as_message().is_some_and(wkt::is_value);
    field.containing_oneof().is_none() && !silent
}

/// A comment, and what the type does not show.
fn description(field: &FieldDescriptor, comment: &Comment, behaviors: Behaviors) -> String {
    let mut parts = vec![comment.text()];
    if behaviors.immutable() {
        parts.push("It cannot be changed later.".to_owned());
    }
    if let Some(oneof) = field.containing_oneof().filter(|oneof| !oneof.is_synthetic()) {
        let others = oneof.fields().filter(|other| other != field);
        let others: Vec<String> = others.map(|other| format!("`{}`", other.json_name())).collect();
        if !others.is_empty() {
            parts.push(format!("Not together with {}.", others.join(", ")));
        }
    }
    parts.retain(|part| !part.is_empty());
    parts.join("\n\n")
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// The same, or `null`.
fn nullable(schema: Value) -> Value {
    match schema.get("type").and_then(Value::as_str) {
        Some(kind) => {
            let kinds = json!([kind, "null"]);
            let mut schema = schema;
            schema["type"] = kinds;
            schema
        }
        None => json!({ "anyOf": [schema, { "type": "null" }] }),
    }
}

/// The well-known types that are a text.
fn text(name: &str) -> Value {
    match name {
        "Timestamp" => json!({ "type": "string", "format": "date-time" }),
        "Duration" => json!({ "type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$" }),
        _ => json!({ "type": "string", "format": "field-mask" }),
    }
}

fn key_pattern(kind: &Kind) -> Option<&'static str> {
    match kind {
        Kind::String => None,
        Kind::Bool => Some("^(true|false)$"),
        _ => Some("^-?[0-9]+$"),
    }
}

/// The names of all messages that a message leads to, itself among them.
fn reach(message: &MessageDescriptor, reached: &mut HashSet<String>) {
    if reached.insert(message.full_name().to_owned()) {
        message.fields().for_each(|field| reach_kind(&field.kind(), reached));
    }
}

fn reach_kind(kind: &Kind, reached: &mut HashSet<String>) {
    if let Some(message) = kind.as_message() {
        reach(message, reached);
    }
}

/// The `google.api.field_behavior` of a field: a set of its numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Behaviors(u32);

impl Behaviors {
    const REQUIRED: i32 = 2;
    const OUTPUT_ONLY: i32 = 3;
    const INPUT_ONLY: i32 = 4;
    const IMMUTABLE: i32 = 5;
    const IDENTIFIER: i32 = 8;

    /// Those of a field.
    pub fn of(field: &FieldDescriptor) -> Behaviors {
        let extension = field.parent_pool().get_extension_by_name("google.api.field_behavior");
        let Some(extension) = extension else { return Behaviors::default() };
        let options = field.options();
        let behaviors = options.get_extension(&extension);
        let numbers =
            behaviors.as_list().unwrap_or_default().iter().filter_map(Field::as_enum_number);
        Behaviors(numbers.fold(0, |set, number| set | 1 << (number & 31)))
    }

    fn has(self, behavior: i32) -> bool {
        self.0 & 1 << behavior != 0
    }

    /// A client must say it.
    pub fn required(self) -> bool {
        self.has(Self::REQUIRED)
    }

    /// Only the server says it; what a client says does not count.
    pub fn output_only(self) -> bool {
        self.has(Self::OUTPUT_ONLY) || self.has(Self::IDENTIFIER)
    }

    /// It cannot be changed later.
    pub fn immutable(self) -> bool {
        self.has(Self::IMMUTABLE)
    }

    fn input_only(self) -> bool {
        self.has(Self::INPUT_ONLY)
    }
}
