//! Messages with anything in any field, from a seed.

use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey,
    MessageDescriptor, ReflectMessage as _, Value,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

/// How deep messages are nested.
const DEPTH: usize = 3;
/// What an `Any` can have in it: a message, one with a JSON of its own, and a wrapper.
const ANY: [&str; 3] =
    ["library.v1.Shelf", "google.protobuf.Duration", "google.protobuf.Int64Value"];
/// Letters that mean something in a path, a query or JSON, and some of two, three and four bytes.
const LETTERS: [&str; 24] = [
    "a", "B", "0", "_", "-", ".", "/", ":", "%", "&", "=", "+", "?", "#", " ", "\"", "\\", "{",
    "<", "\n", "\u{0}", "é", "서", "😀",
];

/// Makes messages up.
pub(crate) struct Generator {
    pub(crate) random: StdRng,
    pool: DescriptorPool,
}

impl Generator {
    pub(crate) fn new(pool: &DescriptorPool, seed: u64) -> Generator {
        Generator { random: StdRng::seed_from_u64(seed), pool: pool.clone() }
    }

    /// A message. Every one has a JSON.
    pub(crate) fn message(&mut self, descriptor: &MessageDescriptor) -> DynamicMessage {
        self.message_of(descriptor, DEPTH)
    }

    fn message_of(&mut self, descriptor: &MessageDescriptor, depth: usize) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        match descriptor.full_name() {
            "google.protobuf.Timestamp" => {
                let seconds = self.random.random_range(-62_135_596_800..253_402_300_800_i64);
                self.seconds_and_nanos(&mut message, seconds, 1);
            }
            "google.protobuf.Duration" => {
                let sign = if self.random.random() { 1 } else { -1 };
                let seconds = self.random.random_range(0..315_576_000_000_i64);
                self.seconds_and_nanos(&mut message, seconds * i64::from(sign), sign);
            }
            "google.protobuf.FieldMask" => {
                let paths = (0..self.random.random_range(0..3)).map(|_| self.mask_path()).collect();
                message.set_field_by_number(1, Value::List(paths));
            }
            "google.protobuf.Value" => self.json_value(&mut message, depth),
            "google.protobuf.Any" => self.any(&mut message, depth),
            _ => {
                for field in descriptor.fields() {
                    self.fill(&mut message, &field, depth);
                }
            }
        }
        message
    }

    fn fill(&mut self, message: &mut DynamicMessage, field: &FieldDescriptor, depth: usize) {
        let wrapped = is_wrapper(&message.descriptor());
        if !wrapped && self.random.random_bool(0.6) {
            return;
        }
        let kind = field.kind();
        let nested = field.is_map() || matches!(kind, Kind::Message(_));
        if nested && depth == 0 {
            return;
        }
        let value = if field.is_map() {
            let Kind::Message(entry) = &kind else { return };
            let (keys, values) = (entry.map_entry_key_field(), entry.map_entry_value_field());
            let entries = (0..self.random.random_range(0..3))
                .map(|_| (self.key(&keys.kind()), self.value(&values.kind(), depth - 1)));
            Value::Map(entries.collect())
        } else if field.is_list() {
            let count = self.random.random_range(0..4);
            Value::List((0..count).map(|_| self.value(&kind, depth.saturating_sub(1))).collect())
        } else {
            self.value(&kind, depth.saturating_sub(1))
        };
        message.set_field(field, value);
    }

    /// One value that is neither a list nor a map.
    pub(crate) fn value(&mut self, kind: &Kind, depth: usize) -> Value {
        match kind {
            Kind::Double => Value::F64(self.double()),
            #[expect(clippy::cast_possible_truncation, reason = "any float will do")]
            Kind::Float => Value::F32(self.double() as f32 + 0.0),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(self.number()),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(self.long()),
            Kind::Uint32 | Kind::Fixed32 => Value::U32(self.number().cast_unsigned()),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(self.long().cast_unsigned()),
            Kind::Bool => Value::Bool(self.random.random()),
            Kind::String => Value::String(self.text()),
            Kind::Bytes => {
                let length = self.random.random_range(0..6);
                let bytes: Vec<u8> = (0..length).map(|_| self.random.random()).collect();
                Value::Bytes(bytes.into())
            }
            Kind::Enum(kind) => Value::EnumNumber(self.enum_number(kind)),
            Kind::Message(message) => Value::Message(self.message_of(message, depth)),
        }
    }

    fn key(&mut self, kind: &Kind) -> MapKey {
        let value = self.value(kind, 0);
        value.into_map_key().unwrap_or(MapKey::Bool(false))
    }

    fn seconds_and_nanos(&mut self, message: &mut DynamicMessage, seconds: i64, sign: i32) {
        let unit = *[1, 1000, 1_000_000, 1_000_000_000].choose(&mut self.random).unwrap_or(&1);
        let nanos = self.random.random_range(0..1_000_000_000 / unit) * unit;
        message.set_field_by_number(1, Value::I64(seconds));
        message.set_field_by_number(2, Value::I32(nanos * sign));
    }

    fn mask_path(&mut self) -> Value {
        let names = ["name", "display_name", "book.given_name", "a_b_c", "x"];
        Value::String((*names.choose(&mut self.random).unwrap_or(&"x")).to_owned())
    }

    /// A `google.protobuf.Value`: one of the six kinds of JSON, and never none.
    fn json_value(&mut self, message: &mut DynamicMessage, depth: usize) {
        let kinds = if depth == 0 { 4 } else { 6 };
        let number = self.random.random_range(1..=kinds);
        let Some(field) = message.descriptor().get_field(number) else { return };
        let value = match number {
            2 => Value::F64(f64::from(self.number()) / 8.0),
            _ => self.value(&field.kind(), depth.saturating_sub(1)),
        };
        message.set_field(&field, if number == 1 { Value::EnumNumber(0) } else { value });
    }

    fn any(&mut self, message: &mut DynamicMessage, depth: usize) {
        let name = ANY.choose(&mut self.random).unwrap_or(&ANY[0]);
        let Some(descriptor) = self.pool.get_message_by_name(name) else { return };
        let payload = self.message_of(&descriptor, depth.saturating_sub(1)).encode_to_vec();
        message.set_field_by_number(1, Value::String(format!("type.googleapis.com/{name}")));
        message.set_field_by_number(2, Value::Bytes(payload.into()));
    }

    /// Never -0.0, which prost-reflect takes for unset, and of the many `NaN`s always the same.
    fn double(&mut self) -> f64 {
        let special = [0.0, 1.0, -1.5, 1e21, 5e-324, f64::MAX, 0.1, 1e-7];
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        match self.random.random_range(0..10) {
            0 => *odd.choose(&mut self.random).unwrap_or(&0.0),
            1..4 => *special.choose(&mut self.random).unwrap_or(&0.0),
            4..7 => f64::from(self.random.random::<f32>()),
            _ => Some(f64::from_bits(self.random.random()))
                .filter(|value| !value.is_nan())
                .unwrap_or(1e300),
        }
    }

    fn number(&mut self) -> i32 {
        match self.random.random_range(0..4) {
            0 => *[0, 1, -1, i32::MIN, i32::MAX].choose(&mut self.random).unwrap_or(&0),
            1 => self.random.random_range(-100..100),
            _ => self.random.random(),
        }
    }

    fn long(&mut self) -> i64 {
        let edges = [0, 1, -1, i64::MIN, i64::MAX, 9_007_199_254_740_993, -9_007_199_254_740_993];
        match self.random.random_range(0..4) {
            0 => *edges.choose(&mut self.random).unwrap_or(&0),
            1 => self.random.random_range(-100..100),
            _ => self.random.random(),
        }
    }

    /// A text of up to eight letters.
    pub(crate) fn text(&mut self) -> String {
        let length = self.random.random_range(0..8);
        (0..length).filter_map(|_| LETTERS.choose(&mut self.random).copied()).collect()
    }

    /// A number with a name, or sometimes one of a later version.
    fn enum_number(&mut self, kind: &EnumDescriptor) -> i32 {
        let later = kind.full_name() != "google.protobuf.NullValue" && self.random.random_bool(0.1);
        let numbers: Vec<i32> = kind.values().map(|value| value.number()).collect();
        match later {
            true => self.random.random_range(50..60),
            false => *numbers.choose(&mut self.random).unwrap_or(&0),
        }
    }
}

fn is_wrapper(message: &MessageDescriptor) -> bool {
    message.full_name().starts_with("google.protobuf.") && message.name().ends_with("Value")
}
