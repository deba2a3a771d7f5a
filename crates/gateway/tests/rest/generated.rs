//! Messages with anything in any field, encoded.

use proptest::prelude::*;
use prost::encoding::{self, WireType};

/// The bytes of a field of `everything.v1.Everything`.
type Field = Vec<u8>;

/// An `everything.v1.Everything`.
pub(crate) fn message() -> impl Strategy<Value = Vec<u8>> {
    fields().prop_recursive(3, 24, 4, |inner| {
        let nested = prop::sample::select(vec![17_u32, 33]);
        (fields(), nested, inner).prop_map(|(mut fields, number, inner)| {
            fields.extend(length_delimited(number, &inner));
            fields
        })
    })
}

fn fields() -> BoxedStrategy<Vec<u8>> {
    proptest::collection::vec(field(), 0..8).prop_map(|fields| fields.concat()).boxed()
}

fn field() -> impl Strategy<Value = Field> {
    prop_oneof![number(), text(), oneof(), list(), map(), well_known(), wrapper(),]
}

fn number() -> BoxedStrategy<Field> {
    let i64s = || prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX), -9..9_i64];
    // prost-reflect takes -0.0 for unset, so there is none.
    let doubles = prop::num::f64::ANY.prop_map(|value| value + 0.0);
    let floats = prop::num::f32::ANY.prop_map(|value| value + 0.0);
    prop_oneof![
        doubles.prop_map(|value| encoded(|buf| encoding::double::encode(1, &value, buf))),
        floats.prop_map(|value| encoded(|buf| encoding::float::encode(2, &value, buf))),
        any::<i32>().prop_map(|value| encoded(|buf| encoding::int32::encode(3, &value, buf))),
        i64s().prop_map(|value| encoded(|buf| encoding::int64::encode(4, &value, buf))),
        any::<u32>().prop_map(|value| encoded(|buf| encoding::uint32::encode(5, &value, buf))),
        any::<u64>().prop_map(|value| encoded(|buf| encoding::uint64::encode(6, &value, buf))),
        any::<i32>().prop_map(|value| encoded(|buf| encoding::sint32::encode(7, &value, buf))),
        i64s().prop_map(|value| encoded(|buf| encoding::sint64::encode(8, &value, buf))),
        any::<u32>().prop_map(|value| encoded(|buf| encoding::fixed32::encode(9, &value, buf))),
        any::<u64>().prop_map(|value| encoded(|buf| encoding::fixed64::encode(10, &value, buf))),
        any::<i32>().prop_map(|value| encoded(|buf| encoding::sfixed32::encode(11, &value, buf))),
        i64s().prop_map(|value| encoded(|buf| encoding::sfixed64::encode(12, &value, buf))),
        any::<bool>().prop_map(|value| encoded(|buf| encoding::bool::encode(13, &value, buf))),
        (-2..9_i32).prop_map(|value| encoded(|buf| encoding::int32::encode(16, &value, buf))),
        (0..2_i32).prop_map(|value| encoded(|buf| encoding::int32::encode(20, &value, buf))),
    ]
    .boxed()
}

fn text() -> BoxedStrategy<Field> {
    prop_oneof![
        (prop::sample::select(vec![14_u32, 18, 21]), any::<String>())
            .prop_map(|(number, text)| length_delimited(number, text.as_bytes())),
        any::<Vec<u8>>().prop_map(|bytes| length_delimited(15, &bytes)),
    ]
    .boxed()
}

fn oneof() -> BoxedStrategy<Field> {
    prop_oneof![
        "[a-z]{0,3}".prop_map(|text| length_delimited(25, text.as_bytes())),
        (-1..2_i32).prop_map(|value| encoded(|buf| encoding::int32::encode(26, &value, buf))),
        Just(length_delimited(27, b"")),
        Just(encoded(|buf| encoding::int32::encode(28, &0, buf))),
    ]
    .boxed()
}

fn list() -> BoxedStrategy<Field> {
    let ints = proptest::collection::vec(any::<i32>(), 0..4);
    let colours = proptest::collection::vec(-2..9_i32, 0..4);
    prop_oneof![
        ints.prop_map(|values| encoded(|buf| encoding::int32::encode_packed(30, &values, buf))),
        colours.prop_map(|values| encoded(|buf| encoding::int32::encode_packed(32, &values, buf))),
        any::<String>().prop_map(|text| length_delimited(31, text.as_bytes())),
        any::<Vec<u8>>().prop_map(|bytes| length_delimited(35, &bytes)),
        timestamp().prop_map(|time| length_delimited(34, &time)),
        value().prop_map(|value| length_delimited(36, &value)),
    ]
    .boxed()
}

fn map() -> BoxedStrategy<Field> {
    let entry = |key: Vec<u8>, value: Vec<u8>| [key, value].concat();
    prop_oneof![
        (any::<String>(), any::<String>()).prop_map(move |(key, value)| {
            let value = length_delimited(2, value.as_bytes());
            length_delimited(40, &entry(length_delimited(1, key.as_bytes()), value))
        }),
        (any::<i32>(), "[a-z]{0,3}").prop_map(move |(key, value)| {
            let key = encoded(|buf| encoding::int32::encode(1, &key, buf));
            length_delimited(41, &entry(key, length_delimited(2, value.as_bytes())))
        }),
        (any::<bool>(), 0..9_i32).prop_map(move |(key, value)| {
            let key = encoded(|buf| encoding::bool::encode(1, &key, buf));
            let value = encoded(|buf| encoding::int32::encode(2, &value, buf));
            length_delimited(42, &entry(key, value))
        }),
    ]
    .boxed()
}

fn well_known() -> BoxedStrategy<Field> {
    prop_oneof![
        timestamp().prop_map(|time| length_delimited(50, &time)),
        duration().prop_map(|duration| length_delimited(51, &duration)),
        proptest::collection::vec("[a-z]{1,3}(_[a-z]{1,3}){0,2}(\\.[a-z]{1,3}){0,2}", 0..3)
            .prop_map(|paths| {
                let paths = paths.iter().map(|path| length_delimited(1, path.as_bytes()));
                length_delimited(52, &paths.collect::<Vec<_>>().concat())
            }),
        ("[a-z]{0,3}", value()).prop_map(|(name, value)| {
            let entry = [length_delimited(1, name.as_bytes()), length_delimited(2, &value)];
            length_delimited(53, &length_delimited(1, &entry.concat()))
        }),
        value().prop_map(|value| length_delimited(54, &value)),
        value().prop_map(|value| length_delimited(55, &length_delimited(1, &value))),
        (
            prop::sample::select(vec!["library.v1.Shelf", "google.protobuf.StringValue"]),
            "[a-z]{0,3}"
        )
            .prop_map(|(name, text)| {
                let url = length_delimited(1, format!("type.googleapis.com/{name}").as_bytes());
                let payload = length_delimited(2, &length_delimited(1, text.as_bytes()));
                length_delimited(56, &[url, payload].concat())
            }),
        Just(length_delimited(57, b"")),
    ]
    .boxed()
}

fn wrapper() -> BoxedStrategy<Field> {
    prop_oneof![
        prop::num::f64::NORMAL.prop_map(|value| {
            length_delimited(60, &encoded(|buf| encoding::double::encode(1, &value, buf)))
        }),
        any::<i64>().prop_map(|value| {
            length_delimited(62, &encoded(|buf| encoding::int64::encode(1, &value, buf)))
        }),
        any::<u64>().prop_map(|value| {
            length_delimited(63, &encoded(|buf| encoding::uint64::encode(1, &value, buf)))
        }),
        any::<bool>().prop_map(|value| {
            length_delimited(66, &encoded(|buf| encoding::bool::encode(1, &value, buf)))
        }),
        any::<String>()
            .prop_map(|value| length_delimited(67, &length_delimited(1, value.as_bytes()))),
        any::<Vec<u8>>().prop_map(|value| length_delimited(68, &length_delimited(1, &value))),
        Just(length_delimited(64, b"")),
    ]
    .boxed()
}

/// A `Timestamp` from the year 1 to the year 9999.
fn timestamp() -> impl Strategy<Value = Vec<u8>> {
    (-62_135_596_800..253_402_300_800_i64, nanos()).prop_map(|(s, n)| seconds_and_nanos(s, n))
}

/// A `Duration` of up to ten thousand years, either way.
fn duration() -> impl Strategy<Value = Vec<u8>> {
    (0..315_576_000_000_i64, nanos(), any::<bool>()).prop_map(|(seconds, nanos, back)| {
        if back { seconds_and_nanos(-seconds, -nanos) } else { seconds_and_nanos(seconds, nanos) }
    })
}

fn nanos() -> impl Strategy<Value = i32> {
    prop_oneof![Just(0), (0..1000).prop_map(|ms| ms * 1_000_000), 0..1_000_000_000]
}

fn seconds_and_nanos(seconds: i64, nanos: i32) -> Vec<u8> {
    encoded(|buf| {
        encoding::int64::encode(1, &seconds, buf);
        encoding::int32::encode(2, &nanos, buf);
    })
}

/// A `Value` that is no list and no object.
fn value() -> BoxedStrategy<Vec<u8>> {
    prop_oneof![
        Just(encoded(|buf| encoding::int32::encode(1, &0, buf))),
        (-1e6..1e6_f64).prop_map(|value| encoded(|buf| encoding::double::encode(2, &value, buf))),
        any::<String>().prop_map(|value| length_delimited(3, value.as_bytes())),
        any::<bool>().prop_map(|value| encoded(|buf| encoding::bool::encode(4, &value, buf))),
    ]
    .boxed()
}

fn encoded(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes);
    bytes
}

fn length_delimited(number: u32, bytes: &[u8]) -> Vec<u8> {
    encoded(|buf| {
        encoding::encode_key(number, WireType::LengthDelimited, buf);
        encoding::encode_varint(bytes.len() as u64, buf);
        buf.extend_from_slice(bytes);
    })
}
