//! The fact tables in `tests/facts`: one line, one fact about what the door makes of a request or of
//! an answer. What is expected is read by prost-reflect's own JSON, not by ours.

use std::net::{IpAddr, Ipv4Addr};

use gateway::errors::refused;
use gateway::headers::Peer;
use gateway::routes::RouteTable;
use gateway::transcode::{self, Request};
use http::header::ALLOW;
use http::{HeaderMap, Method};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde_json::Value;

use crate::protos;

#[test]
fn paths() {
    hold(&protos::library(), include_str!("../facts/paths.facts"), asked);
}

#[test]
fn queries() {
    hold(&protos::library(), include_str!("../facts/query.facts"), asked);
}

#[test]
fn bodies() {
    hold(&protos::library(), include_str!("../facts/bodies.facts"), asked);
}

#[test]
fn json() {
    hold(&protos::library(), include_str!("../facts/json.facts"), asked);
}

#[test]
fn answers() {
    hold(&protos::library(), include_str!("../facts/answers.facts"), answered);
}

#[test]
fn taxi() {
    let pool = DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).expect("our protos");
    hold(&pool, include_str!("../facts/taxi.facts"), asked);
}

/// Checks all facts of a table, and names all that do not hold.
fn hold(pool: &DescriptorPool, table: &str, fact: fn(&RouteTable, &str, &str) -> Option<String>) {
    let routes = RouteTable::new(pool).expect("good rules");
    let mut wrong = Vec::new();
    let mut count = 0;
    for (number, line) in table.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (given, expected) = line.split_once(" => ").expect("given => expected");
        count += 1;
        if let Some(instead) = fact(&routes, given, expected) {
            wrong.push(format!("line {}: {line}\n  but {instead}", number + 1));
        }
    }
    println!("{count} facts");
    assert!(wrong.is_empty(), "{} of {count} do not hold:\n{}", wrong.len(), wrong.join("\n"));
}

/// What the door makes of a request, if it is not as expected.
fn asked(routes: &RouteTable, given: &str, expected: &str) -> Option<String> {
    let mut words = given.splitn(3, ' ');
    let (method, target) = (words.next()?, words.next()?);
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let request = Request {
        method: &Method::from_bytes(method.as_bytes()).expect("a method"),
        path,
        query,
        headers: &HeaderMap::new(),
        body: words.next().unwrap_or_default().as_bytes(),
        peer: Peer { address: IpAddr::V4(Ipv4Addr::LOCALHOST), tls: false },
    };
    let (outcome, message) = expected.split_once(' ').expect("an outcome, and more");
    match transcode::call(routes, &request) {
        Ok(call) => {
            let rpc = &call.route.rpc;
            let name = format!("{}.{}", rpc.parent_service().name(), rpc.name());
            let got = DynamicMessage::decode(rpc.input(), call.message.as_slice());
            let got = canonical(&got.expect("what we encoded"));
            let same = name == outcome && got == canonical(&read(&rpc.input(), message));
            (!same).then(|| format!("it is {name} {got}"))
        }
        Err(refusal) => {
            let response = refused(refusal, routes.pool());
            let error: Value = serde_json::from_slice(&response.body).expect("JSON");
            let detail = |key: &str| find(&error["details"], key);
            let about = match response.headers.get(ALLOW) {
                Some(allow) => allow.to_str().expect("text").to_owned(),
                None => detail("field"),
            };
            let got = format!("{} {} {about}", response.status.as_u16(), detail("reason"));
            let same = got.trim_end() == expected;
            (!same).then(|| format!("it is {got}: {}", error["message"]))
        }
    }
}

/// The text under a key, somewhere in the details of an error.
fn find(json: &Value, key: &str) -> String {
    let deeper = |values: &mut dyn Iterator<Item = &Value>| {
        values.map(|value| find(value, key)).find(|text| !text.is_empty()).unwrap_or_default()
    };
    match json {
        Value::Object(object) => match object.get(key).and_then(Value::as_str) {
            Some(text) => text.to_owned(),
            None => deeper(&mut object.values()),
        },
        Value::Array(items) => deeper(&mut items.iter()),
        _ => String::new(),
    }
}

/// The body of a response, if it is not as expected.
fn answered(routes: &RouteTable, given: &str, expected: &str) -> Option<String> {
    let (name, message) = given.split_once(' ').expect("Service.Method ANSWER");
    let named = |route: &&gateway::routes::Route| {
        format!("{}.{}", route.rpc.parent_service().name(), route.rpc.name()) == name
    };
    let route = routes.routes().iter().find(named).expect("a route");
    let answer = read(&route.output(), message);
    let got = transcode::response(route, &answer.encode_to_vec()).expect("a body");
    let got = String::from_utf8(got).expect("UTF-8");
    let same = serde_json::from_str::<Value>(&got).expect("JSON")
        == serde_json::from_str::<Value>(expected).expect("JSON");
    (!same).then(|| format!("it is {got}"))
}

fn read(message: &MessageDescriptor, json: &str) -> DynamicMessage {
    let mut json = serde_json::Deserializer::from_str(json);
    DynamicMessage::deserialize(message.clone(), &mut json).expect("a message")
}

/// A message as prost-reflect writes it, to compare: NaN is not equal to itself, its text is.
fn canonical(message: &DynamicMessage) -> Value {
    serde_json::to_value(message).expect("JSON")
}
