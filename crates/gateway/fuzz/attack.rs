//! One try after the other at the door, and what must hold of each.
//!
//! Whatever comes, there is an answer: a call, or a refusal that is the caller's fault. What the door
//! takes, it can write, and what it has written it takes again. What an rpc answers has a JSON, or, if
//! it is no message, an error.

use std::net::{IpAddr, Ipv4Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};

use gateway::errors::refused;
use gateway::headers::Peer;
use gateway::openapi::{self, Info};
use gateway::routes::{Route, RouteTable};
use gateway::stream::Format;
use gateway::transcode::{self, Request};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind};
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use serde_json::Value;

use super::messages::Generator;
use super::{echo, near};

const METHODS: [Method; 7] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::HEAD,
    Method::OPTIONS,
];
/// What means something in a URL, and what is no UTF-8 when it is decoded.
const PIECES: [&str; 22] = [
    "/",
    "//",
    ":",
    "%",
    "%2F",
    "%2f",
    "%3A",
    "%00",
    "%ff",
    "%c3%28",
    "%E2%82%AC",
    "*",
    "**",
    "{",
    "}",
    "?",
    "&",
    "=",
    "+",
    ".",
    "é",
    ":cancel",
];
const HEADERS: [&str; 8] = [
    "accept",
    "authorization",
    "grpc-metadata-a",
    "grpc-metadata-key-bin",
    "grpc-timeout",
    "idempotency-key",
    "last-event-id",
    "x-forwarded-for",
];

/// How often what was tried, and what was found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) tries: u64,
    pub(crate) taken: u64,
    pub(crate) refused: u64,
    pub(crate) answers: u64,
    pub(crate) findings: Vec<String>,
}

/// The doors that are tried: taxi's own, and those of all messages.
pub(crate) struct Attack {
    tables: Vec<RouteTable>,
    generators: Vec<Generator>,
    report: Report,
}

/// What is sent.
#[derive(Debug)]
struct Sent {
    method: Method,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Attack {
    /// Everything follows from the seed.
    pub(crate) fn new(seed: u64) -> Attack {
        let taxi = prost_reflect::DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET);
        let taxi = RouteTable::new(&taxi.expect("our protos")).expect("good rules");
        let tables = vec![taxi, echo::table()];
        for table in &tables {
            openapi::document(table, &Info::default());
        }
        let generators = tables.iter().map(|table| Generator::new(table.pool(), seed)).collect();
        Attack { tables, generators, report: Report::default() }
    }

    /// What has been seen so far.
    pub(crate) fn report(&self) -> &Report {
        &self.report
    }

    /// One try at each of the doors.
    pub(crate) fn step(&mut self) {
        for (table, generator) in self.tables.iter().zip(&mut self.generators) {
            let report = &mut self.report;
            let sent = request(table, generator);
            report.tries += 1;
            let outcome = catch_unwind(AssertUnwindSafe(|| asked(table, &sent)));
            match outcome {
                Ok(Ok(true)) => report.taken += 1,
                Ok(Ok(false)) => report.refused += 1,
                Ok(Err(why)) => report.findings.push(format!("{why}: {sent:?}")),
                Err(_) => report.findings.push(format!("a panic: {sent:?}")),
            }
            let route = table.routes().choose(&mut generator.random).expect("a route");
            let bytes = answer(route, generator);
            report.answers += 1;
            if catch_unwind(AssertUnwindSafe(|| answered(route, &bytes))).is_err() {
                let rpc = route.rpc.full_name();
                report.findings.push(format!("a panic at an answer of {rpc}: {bytes:?}"));
            }
        }
    }
}

/// Whether a request is taken; why not as it should be.
fn asked(table: &RouteTable, sent: &Sent) -> Result<bool, String> {
    let peer = Peer { address: IpAddr::V4(Ipv4Addr::LOCALHOST), tls: false };
    let request = Request {
        method: &sent.method,
        path: &sent.path,
        query: sent.query.as_deref(),
        headers: &sent.headers,
        body: &sent.body,
        peer,
    };
    match transcode::call(table, &request) {
        Ok(call) => again(table, call.route, &call.message).map(|()| true),
        Err(refusal) => {
            let response = refused(refusal, table.pool());
            let error: Value = serde_json::from_slice(&response.body)
                .map_err(|error| format!("an error that is no JSON, {error}"))?;
            let reason = error.pointer("/details/0/reason").and_then(Value::as_str);
            match response.status.is_client_error()
                && reason.is_some_and(|reason| !reason.is_empty())
            {
                true => Ok(false),
                false => Err(format!("an error of the house, {error}")),
            }
        }
    }
}

/// What was taken is a message that can be written, and taken again from what was written.
fn again(table: &RouteTable, route: &Route, message: &[u8]) -> Result<(), String> {
    DynamicMessage::decode(route.input(), message).map_err(|error| error.to_string())?;
    let path = echo::path(&route.input());
    let Ok(found) = table.find(&Method::POST, &path) else { return Ok(()) };
    let written = transcode::response(found.route, message)
        .map_err(|status| format!("taken, but it has no JSON, {status:?}"))?;
    let read = transcode::message(&found, None, &HeaderMap::new(), &written)
        .map_err(|rejection| format!("written, but not taken, {rejection:?}"))?;
    let rewritten = transcode::response(found.route, &read.encode_to_vec());
    match rewritten.is_ok_and(|rewritten| rewritten == written) {
        true => Ok(()),
        false => Err(format!("not the same again, {}", String::from_utf8_lossy(&written))),
    }
}

/// The bytes of an answer: a message, perhaps broken.
fn answer(route: &Route, generator: &mut Generator) -> Vec<u8> {
    let mut bytes = generator.message(&route.output()).encode_to_vec();
    if generator.random.random() {
        damage(&mut generator.random, &mut bytes);
    }
    bytes
}

fn answered(route: &Route, bytes: &[u8]) {
    drop(transcode::response(route, bytes));
    for format in [Format::Ndjson, Format::Sse] {
        if let Ok(frame) = format.element(route, bytes) {
            let text = String::from_utf8(frame).expect("a frame is a text");
            let end = text.trim_end_matches('\n');
            let lines = if format == Format::Sse { 2 } else { 1 };
            assert!(end.lines().count() <= lines, "a frame is not broken by what is in it");
        }
    }
}

/// A request that is right in most places.
fn request(table: &RouteTable, generator: &mut Generator) -> Sent {
    let route = table.routes().choose(&mut generator.random).expect("a route").clone();
    let message = generator.message(&route.input());
    let mut body = body(&route, generator, &message);
    let random = &mut generator.random;
    let method = route.method.clone().filter(|_| random.random_bool(0.95));
    let method = method.or_else(|| METHODS.choose(random).cloned()).unwrap_or(Method::GET);
    let mut path = path(random, &route);
    if random.random_bool(0.1) {
        insert(random, &mut path);
    }
    if random.random_bool(0.1) {
        damage(random, &mut body);
    }
    let query = random.random_bool(0.7).then(|| query(generator, &route));
    let headers = headers(&mut generator.random);
    Sent { method, path, query, headers, body }
}

fn body(route: &Route, generator: &mut Generator, message: &DynamicMessage) -> Vec<u8> {
    use gateway::routes::Body;
    let json = || serde_json::to_value(message).unwrap_or_default();
    let json = match &route.body {
        Body::None => return Vec::new(),
        Body::All => json(),
        Body::Field(field) => json().get(field.json_name()).cloned().unwrap_or_default(),
    };
    match generator.random.random_range(0..4) {
        0 => Vec::new(),
        1 => json.to_string().into_bytes(),
        _ => near::changed(&mut generator.random, &json).0.into_bytes(),
    }
}

/// A path of the route's shape.
fn path(random: &mut StdRng, route: &Route) -> String {
    use gateway::template::Segment;
    let mut segments = Vec::new();
    for segment in &route.template.segments {
        segments.push(match segment {
            Segment::Literal(text) => text.clone(),
            Segment::One | Segment::Rest => match random.random_range(0..3) {
                0 => "1".to_owned(),
                1 => format!("a{}", PIECES.choose(random).expect("a piece")),
                _ => format!("{}-b", random.random::<u32>()),
            },
        });
    }
    let verb = route.template.verb.as_ref().map(|verb| format!(":{verb}")).unwrap_or_default();
    format!("/{}{verb}", segments.join("/"))
}

/// A query of fields that there are, with values that may be theirs.
fn query(generator: &mut Generator, route: &Route) -> String {
    let count = generator.random.random_range(0..4);
    let mut pairs = Vec::new();
    for _ in 0..count {
        let mut names = Vec::new();
        let mut message = Some(route.input());
        let mut last = None;
        while let Some(parent) = message.take() {
            let fields: Vec<FieldDescriptor> = parent.fields().collect();
            let Some(field) = fields.choose(&mut generator.random) else { break };
            let json = generator.random.random();
            names.push(if json { field.json_name() } else { field.name() }.to_owned());
            if let Kind::Message(below) = field.kind()
                && generator.random.random_bool(0.8)
                && names.len() < 40
            {
                message = Some(below);
            }
            last = Some(field.kind());
        }
        let value = match last {
            Some(Kind::Message(_)) | None => "1.5s".to_owned(),
            Some(kind) => text(&generator.value(&kind, 0)),
        };
        pairs.push(format!("{}={}", names.join("."), encoded(&value)));
    }
    let mut query = pairs.join("&");
    if generator.random.random_bool(0.2) {
        insert(&mut generator.random, &mut query);
    }
    query
}

fn text(value: &prost_reflect::Value) -> String {
    use prost_reflect::Value;
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(value) => value.to_string(),
        Value::I32(value) | Value::EnumNumber(value) => value.to_string(),
        Value::I64(value) => value.to_string(),
        Value::U32(value) => value.to_string(),
        Value::U64(value) => value.to_string(),
        Value::F32(value) => value.to_string(),
        Value::F64(value) => value.to_string(),
        other => format!("{other:?}"),
    }
}

fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

fn headers(random: &mut StdRng) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for _ in 0..random.random_range(0..3) {
        let name = HeaderName::from_static(HEADERS.choose(random).expect("a name"));
        let length = random.random_range(0..8);
        let bytes: Vec<u8> = (0..length).map(|_| random.random()).collect();
        if let Ok(value) = HeaderValue::from_bytes(&bytes) {
            headers.append(name, value);
        }
    }
    headers
}

/// Puts a piece of a URL somewhere into a text.
fn insert(random: &mut StdRng, text: &mut String) {
    let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let at = places.choose(random).copied().unwrap_or_default();
    text.insert_str(at, PIECES.choose(random).expect("a piece"));
}

/// Changes, cuts or doubles some bytes.
fn damage(random: &mut StdRng, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return bytes.push(random.random());
    }
    let at = random.random_range(0..bytes.len());
    match random.random_range(0..4) {
        0 => bytes.truncate(at),
        1 => bytes[at] = random.random(),
        2 => bytes[at] ^= 1 << random.random_range(0..8),
        _ => bytes.extend_from_within(at..),
    }
}
