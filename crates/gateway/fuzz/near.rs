//! JSON that is nearly that of a message.

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use serde_json::Value;

/// Texts of JSON that some field takes and others do not.
const VALUES: [&str; 62] = [
    "null",
    "true",
    "false",
    "0",
    "-0",
    "1",
    "-1",
    "1.0",
    "1.5",
    "-1.0",
    "1e2",
    "1e-2",
    "1e30",
    "2147483647",
    "2147483648",
    "-2147483649",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e400",
    "0.1",
    "3.5e38",
    "\"\"",
    "\"0\"",
    "\"1\"",
    "\"-1\"",
    "\"1.0\"",
    "\"1.5\"",
    "\"1e2\"",
    "\" 1\"",
    "\"1 \"",
    "\"+1\"",
    "\"01\"",
    "\"0x1\"",
    "\"1_0\"",
    "\"NaN\"",
    "\"Infinity\"",
    "\"-Infinity\"",
    "\"nan\"",
    "\"inf\"",
    "\"true\"",
    "\"false\"",
    "\"COLOUR_RED\"",
    "\"colour_red\"",
    "\"AQ==\"",
    "\"AQ\"",
    "\"-_8\"",
    "\"!\"",
    "\"2020-01-02T03:04:05Z\"",
    "\"2020-01-02T03:04:05.123456789+09:00\"",
    "\"2020-01-02 03:04:05Z\"",
    "\"1.5s\"",
    "\"-0.000000001s\"",
    "\"1\\u0000\"",
    "\"a_b,c\"",
    "\"aB.c\"",
    "[]",
    "{}",
    "[null]",
];

/// Changes one place of some JSON, mostly a value, sometimes a name. With what is there now.
pub(crate) fn changed(random: &mut StdRng, json: &Value) -> (String, Value) {
    let mut json = json.clone();
    let places = count(&json);
    let mut at = random.random_range(0..places);
    let mut put = Value::Null;
    if let Some(place) = nth(&mut json, &mut at) {
        change(random, place);
        put = place.clone();
    }
    (json.to_string(), put)
}

fn change(random: &mut StdRng, place: &mut Value) {
    let some = VALUES.choose(random).and_then(|text| serde_json::from_str(text).ok());
    match place {
        Value::Object(entries) if !entries.is_empty() && random.random_bool(0.5) => {
            let names: Vec<String> = entries.keys().cloned().collect();
            let Some(name) = names.choose(random) else { return };
            let Some(value) = entries.remove(name) else { return };
            let renamed = match random.random_range(0..5) {
                0 => name.to_uppercase(),
                1 => format!("{name}x"),
                2 => format!(" {name}"),
                3 => snake(name),
                _ => String::new(),
            };
            entries.insert(renamed, value);
        }
        Value::Array(items) if random.random_bool(0.5) => items.extend(some),
        place => *place = some.unwrap_or(Value::Null),
    }
}

fn snake(name: &str) -> String {
    let letter = |letter: char| match letter.is_ascii_uppercase() {
        true => format!("_{}", letter.to_ascii_lowercase()),
        false => letter.to_string(),
    };
    name.chars().map(letter).collect()
}

/// How many values there are in some JSON, itself among them.
fn count(json: &Value) -> usize {
    1 + match json {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(entries) => entries.values().map(count).sum::<usize>(),
        _ => 0,
    }
}

/// The value that comes after `at` others.
fn nth<'v>(json: &'v mut Value, at: &mut usize) -> Option<&'v mut Value> {
    if *at == 0 {
        return Some(json);
    }
    *at -= 1;
    match json {
        Value::Array(items) => items.iter_mut().find_map(|item| nth(item, at)),
        Value::Object(entries) => entries.values_mut().find_map(|value| nth(value, at)),
        _ => None,
    }
}
