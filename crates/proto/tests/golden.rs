//! Events are for ever: what was once published has to be understood by every later version.
//!
//! `golden/events.golden` has every event with every field set, as bytes and as what they mean;
//! `golden/rides.golden` has events of real rides, which are also the examples in `docs/events.md`. A
//! line is never changed or removed; `BLESS=1 cargo test -p proto --test golden` adds one for an event
//! that is new, or has fields that no line has yet.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage as _,
    Value,
};

/// One recorded event.
#[derive(Clone, Debug)]
struct Line {
    /// Its full name.
    kind: String,
    bytes: Vec<u8>,
    /// The same as JSON.
    json: String,
}

impl Line {
    fn read(line: &str) -> Line {
        let mut words = line.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_else(|| panic!("three words, not {line:?}"));
        let (kind, hex, json) = (word().to_owned(), word(), word().to_owned());
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
        Line { kind, bytes: (0..hex.len()).step_by(2).map(byte).collect(), json }
    }

    fn of(event: &DynamicMessage) -> Line {
        Line {
            kind: event.descriptor().full_name().to_owned(),
            bytes: event.encode_to_vec(),
            json: json(event),
        }
    }

    fn written(&self) -> String {
        let mut hex = String::new();
        self.bytes.iter().for_each(|byte| write!(hex, "{byte:02x}").expect("a string grows"));
        format!("{} {hex} {}\n", self.kind, self.json)
    }
}

fn json(message: &DynamicMessage) -> String {
    serde_json::to_string(message).expect("a message is JSON")
}

/// Every event with every field.
const EVENTS: &str = "events.golden";
/// Events of real rides.
const RIDES: &str = "rides.golden";

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn recorded(name: &str) -> Vec<Line> {
    fs::read_to_string(file(name)).unwrap_or_default().lines().map(Line::read).collect()
}

fn events() -> BTreeMap<String, MessageDescriptor> {
    let pool = DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).expect("descriptors");
    let files = pool.files().filter(|file| file.name().ends_with("/events.proto"));
    let events = files.flat_map(|file| file.messages().collect::<Vec<_>>());
    events.map(|event| (event.full_name().to_owned(), event)).collect()
}

/// A message whose every field is set, each to something of its own.
fn filled(message: &MessageDescriptor) -> DynamicMessage {
    let mut filled = DynamicMessage::new(message.clone());
    for field in message.fields() {
        filled.set_field(&field, value(&field));
    }
    filled
}

fn value(field: &FieldDescriptor) -> Value {
    let n = field.number();
    let value = match field.kind() {
        Kind::String => Value::String(format!("{} {n}", field.name())),
        Kind::Bytes => Value::Bytes(vec![n as u8; 3].into()),
        Kind::Bool => Value::Bool(true),
        Kind::Double => Value::F64(f64::from(n) + 0.5),
        Kind::Float => Value::F32(n as f32 + 0.5),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(n as i32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(i64::from(n)),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(n),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(u64::from(n)),
        // The last value: what an enum has at most.
        Kind::Enum(kind) => {
            Value::EnumNumber(kind.values().map(|it| it.number()).max().unwrap_or(0))
        }
        Kind::Message(kind) => Value::Message(filled(&kind)),
    };
    if field.is_list() { Value::List(vec![value]) } else { value }
}

/// The fields that a message sets, by their paths.
fn fields(message: &DynamicMessage, below: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for (field, value) in message.fields() {
        let path = format!("{below}{}", field.number());
        let messages: Vec<&Value> =
            value.as_list().map_or(vec![value], |list| list.iter().collect());
        for message in messages.into_iter().filter_map(Value::as_message) {
            paths.extend(fields(message, &format!("{path}.")));
        }
        paths.insert(path);
    }
    paths
}

fn decode(kind: &MessageDescriptor, bytes: &[u8]) -> DynamicMessage {
    let decoded = DynamicMessage::decode(kind.clone(), bytes);
    decoded.unwrap_or_else(|error| panic!("{}: {error}", kind.full_name()))
}

#[test]
fn what_was_once_published_is_understood() {
    let events = events();
    let recorded: Vec<Line> = [EVENTS, RIDES].map(recorded).into_iter().flatten().collect();
    assert!(recorded.len() >= events.len(), "only {} events are on record", recorded.len());
    for line in &recorded {
        let kind = events.get(&line.kind).unwrap_or_else(|| panic!("{} is gone", line.kind));
        let event = decode(kind, &line.bytes);
        assert_eq!(json(&event), line.json, "{} means something else now", line.kind);
        assert_eq!(event.unknown_fields().count(), 0, "{} has lost a field", line.kind);
        assert_eq!(event.encode_to_vec(), line.bytes, "{} is written otherwise now", line.kind);
    }
}

#[test]
fn every_field_of_every_event_is_on_record() {
    let recorded = recorded(EVENTS);
    let mut missing = Vec::new();
    for (name, kind) in events() {
        let lines = recorded.iter().filter(|line| line.kind == name);
        let known: BTreeSet<String> =
            lines.flat_map(|line| fields(&decode(&kind, &line.bytes), "")).collect();
        let event = filled(&kind);
        if !fields(&event, "").is_subset(&known) {
            missing.push(Line::of(&event));
        }
    }
    if std::env::var_os("BLESS").is_some() {
        let text: String = recorded.iter().chain(&missing).map(Line::written).collect();
        return fs::write(file(EVENTS), text).expect("written");
    }
    let names: Vec<&str> = missing.iter().map(|line| line.kind.as_str()).collect();
    assert!(names.is_empty(), "not on record yet, see above: {names:?}");
}
