//! What the documents say, one fact a line: where, and what is there.

use serde_json::Value;

use crate::{library, taxi};

#[test]
fn of_taxi() {
    hold(&taxi().1, include_str!("taxi.facts"));
}

#[test]
fn of_the_library() {
    hold(&library().1, include_str!("library.facts"));
}

/// Checks all facts of a table, and names all that do not hold.
///
/// A place is a path of names: `paths /v1/things get parameters 0 name`. A name that begins with `@`
/// is that of the item of a list: `parameters @pageSize schema`. What is there is JSON, or `-` for
/// nothing.
fn hold(document: &Value, table: &str) {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (number, line) in table.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (place, expected) = line.split_once(" => ").expect("place => JSON");
        let found = place.split(' ').try_fold(document, |value, name| step(value, name));
        let same = match expected {
            "-" => found.is_none(),
            json => found == Some(&serde_json::from_str(json).expect("JSON")),
        };
        count += 1;
        if !same {
            let found = found.map_or_else(|| "-".to_owned(), Value::to_string);
            wrong.push(format!("line {}: {line}\n  but it is {found}", number + 1));
        }
    }
    println!("{count} facts");
    assert!(wrong.is_empty(), "{} of {count} do not hold:\n{}", wrong.len(), wrong.join("\n"));
}

fn step<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    match (value, name.strip_prefix('@')) {
        (Value::Array(items), Some(name)) => items.iter().find(|item| item["name"] == name),
        (Value::Array(items), None) => items.get(name.parse::<usize>().ok()?),
        (value, _) => value.get(name),
    }
}
