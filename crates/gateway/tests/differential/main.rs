//! Our JSON against that of Python's `google.protobuf.json_format`, on made-up messages of all types:
//! each reads what the other one writes, and of JSON that is nearly right both say the same.

#[expect(dead_code, reason = "not all of it is needed here")]
#[path = "../../fuzz/mod.rs"]
mod fuzz;
mod known;
mod python;

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use gateway::headers::Peer;
use gateway::routes::{Refusal, Route, RouteTable};
use gateway::transcode::{self, Request};
use http::{HeaderMap, Method};
use prost::Message as _;
use serde_json::{Number, Value, json};

use fuzz::messages::Generator;
use fuzz::{echo, near};

/// Names another seed.
const SEED: &str = "TAXI_SEED";
/// How many messages there are, and how often the JSON of each one is changed.
const MESSAGES: usize = 2500;
const CHANGES: usize = 4;

/// One message, or JSON that may be one.
struct Case<'r> {
    route: &'r Route,
    wire: Option<Vec<u8>>,
    json: String,
    /// What was put into the JSON.
    put: Value,
}

#[test]
fn python_reads_and_writes_the_same() {
    let Some(python) = python::with("google.protobuf.json_format") else { return };
    let seed = env::var(SEED).ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let table = echo::table();
    let cases = cases(&table, seed);
    let verdicts = asked(&python, &table, &cases);
    assert_eq!(verdicts.len(), cases.len(), "Python answers to each case");

    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (case, verdict) in cases.iter().zip(&verdicts) {
        for (what, difference) in compared(&table, case, verdict) {
            match difference {
                None => *counts.entry(what).or_default() += 1,
                Some(difference) => match known::difference(&difference, &case.put) {
                    Some(reason) => *counts.entry(reason).or_default() += 1,
                    None => wrong.push(format!(
                        "{} {what}: {difference}\n  {}\n  {}\n  {verdict}",
                        case.route.input().full_name(),
                        case.put,
                        case.json
                    )),
                },
            }
        }
    }
    for (what, count) in &counts {
        println!("{count:6} {what}");
    }
    let shown = wrong.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "seed {seed}: {} differences:\n{shown}", wrong.len());
}

/// Messages of all types in turn, and nearly their JSON.
fn cases(table: &RouteTable, seed: u64) -> Vec<Case<'_>> {
    let mut generator = Generator::new(table.pool(), seed);
    let echoes = |route: &&Route| route.template.to_string() == echo::path(&route.input());
    let routes: Vec<&Route> = table.routes().iter().filter(echoes).collect();
    let mut cases = Vec::new();
    for route in routes.iter().cycle().take(MESSAGES) {
        let wire = generator.message(&route.input()).encode_to_vec();
        let text = written(route, &wire);
        let tree: Value = serde_json::from_str(&text).expect("JSON");
        cases.push(Case { route, wire: Some(wire), json: text, put: Value::Null });
        for _ in 0..CHANGES {
            let (json, put) = near::changed(&mut generator.random, &tree);
            cases.push(Case { route, wire: None, json, put });
        }
    }
    cases
}

/// What Python says of all cases.
fn asked(python: &std::path::Path, table: &RouteTable, cases: &[Case<'_>]) -> Vec<Value> {
    let directory = tempfile::tempdir().expect("a directory");
    let (descriptors, lines) = (directory.path().join("pool"), directory.path().join("cases"));
    fs::write(&descriptors, table.pool().encode_to_vec()).expect("a file");
    let line = |case: &Case<'_>| {
        let mut line = json!({ "type": case.route.input().full_name(), "json": case.json });
        if let Some(wire) = &case.wire {
            line["wire"] = BASE64_STANDARD.encode(wire).into();
        }
        format!("{line}\n")
    };
    fs::write(&lines, cases.iter().map(line).collect::<String>()).expect("a file");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/differential/peer.py");
    let mut command = Command::new(python);
    command.arg(script).arg(&descriptors).stdin(File::open(&lines).expect("a file"));
    let output = command.output().expect("a Python that starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// What was compared of a case, each with the difference if there is one.
fn compared(
    table: &RouteTable,
    case: &Case<'_>,
    verdict: &Value,
) -> Vec<(&'static str, Option<String>)> {
    let Some(wire) = &case.wire else {
        return vec![both_read(table, case, verdict)];
    };
    let sent = written(case.route, wire);
    let mut compared = Vec::new();
    let same = verdict["same"] == true;
    compared.push(("read by Python", (!same).then(|| "it is another message".to_owned())));

    let theirs = verdict["written"].as_str().unwrap_or_default();
    let ours = without_nulls(&serde_json::from_str(&sent).expect("JSON"));
    let differs = differs(&ours, &without_nulls(&serde_json::from_str(theirs).unwrap_or_default()));
    compared.push(("written as Python does", differs));

    for (what, key) in [("read from Python", "written"), ("read from Python, by names", "by_name")]
    {
        let read = read(table, case.route, verdict[key].as_str().unwrap_or_default());
        let differs = match read {
            Ok(read) if written(case.route, &read) == sent => None,
            Ok(read) => Some(written(case.route, &read)),
            Err(why) => Some(why),
        };
        compared.push((what, differs));
    }
    compared
}

/// Whether both read the same from JSON, be it nothing.
fn both_read(
    table: &RouteTable,
    case: &Case<'_>,
    verdict: &Value,
) -> (&'static str, Option<String>) {
    let theirs = verdict["read"].as_str().and_then(|text| BASE64_STANDARD.decode(text).ok());
    match (read(table, case.route, &case.json), theirs) {
        (Ok(ours), Some(theirs)) => {
            let (ours, theirs) = (written(case.route, &ours), written(case.route, &theirs));
            ("changed, read by both", (ours != theirs).then(|| format!("{ours} is not {theirs}")))
        }
        (Err(_), None) => ("changed, refused by both", None),
        (Ok(_), None) => {
            let why = verdict["refused"].as_str().unwrap_or_default();
            ("changed", Some(format!("only we read it: {why}")))
        }
        (Err(why), Some(_)) => ("changed", Some(format!("only Python reads it: {why}"))),
    }
}

/// The JSON that we write.
fn written(route: &Route, wire: &[u8]) -> String {
    String::from_utf8(transcode::response(route, wire).expect("JSON")).expect("UTF-8")
}

/// The message that we read, or why not.
fn read(table: &RouteTable, route: &Route, json: &str) -> Result<Vec<u8>, String> {
    let path = echo::path(&route.input());
    let peer = Peer { address: IpAddr::V4(Ipv4Addr::LOCALHOST), tls: false };
    let headers = HeaderMap::new();
    let body = json.as_bytes();
    let request =
        Request { method: &Method::POST, path: &path, query: None, headers: &headers, body, peer };
    match transcode::call(table, &request) {
        Ok(call) => Ok(call.message),
        Err(Refusal::Rejected(rejection)) => Err(format!("{rejection:?}")),
        Err(refusal) => Err(format!("{refusal:?}")),
    }
}

/// The same without what we write for a message that is not set, and Python leaves out.
fn without_nulls(json: &Value) -> Value {
    match json {
        Value::Object(entries) => entries
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), without_nulls(value)))
            .collect(),
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

/// Whether two numbers are one. Of a float too small to be normal, Python writes more digits than it
/// has.
fn is_same(one: &Number, other: &Number) -> bool {
    let (one, other) = (one.as_f64().unwrap_or(f64::NAN), other.as_f64().unwrap_or(f64::NAN));
    let tiny = one.abs() < f64::from(f32::MIN_POSITIVE);
    #[expect(clippy::cast_possible_truncation, reason = "floats are what is compared")]
    let floats = (one as f32, other as f32);
    one == other || tiny && floats.0 == floats.1
}

/// Where two texts of JSON differ. `1` and `1.0` are one number.
fn differs(ours: &Value, theirs: &Value) -> Option<String> {
    match (ours, theirs) {
        (Value::Object(one), Value::Object(other)) if one.len() == other.len() => {
            one.iter().find_map(|(name, value)| match other.get(name) {
                Some(other) => differs(value, other).map(|how| format!("{name}: {how}")),
                None => Some(format!("only we have {name}")),
            })
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            one.iter().zip(other).find_map(|(one, other)| differs(one, other))
        }
        (Value::Number(one), Value::Number(other)) if is_same(one, other) => None,
        (one, other) => (one != other).then(|| format!("{one} is not {other}")),
    }
}
