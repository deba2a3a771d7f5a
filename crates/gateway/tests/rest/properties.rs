//! What holds for all requests and messages, tried on generated ones.

use std::net::{IpAddr, Ipv4Addr};

use gateway::headers::Peer;
use gateway::routes::{Route, RouteTable};
use gateway::template::{Segment, Template};
use gateway::transcode::{self, Request};
use http::{HeaderMap, Method};
use proptest::prelude::*;
use prost_reflect::DynamicMessage;

use crate::{generated, protos};

/// Texts with all that means something in a path, a query or JSON.
const TEXT: &str = r#"[a-z0-9/:%&=+?.*{}\[\]" é€\x00-]{0,24}"#;
/// Paths that begin well.
const PATH: &str = r#"/v1/(shelves|odd|files|typed|track|bodies)[a-z0-9/:%.*é-]{0,24}"#;
/// Queries that look like one.
const QUERY: &str = "[a-z_.]{1,12}=[^&]{0,8}(&[a-z_.]{1,9}=.{0,5}){0,3}";
/// Keys that lead somewhere, and then perhaps nowhere.
const KEY: &str = "(nested|one_message|list|time|any|struct|values|maybe_text|numbers)\
                   (\\.[a-z_]{1,9}){0,2}";

fn asked<'r>(
    table: &'r RouteTable,
    method: &Method,
    path: &str,
    query: Option<&str>,
    body: &[u8],
) -> Option<transcode::Call<'r>> {
    let peer = Peer { address: IpAddr::V4(Ipv4Addr::LOCALHOST), tls: false };
    let request = Request { method, path, query, headers: &HeaderMap::new(), body, peer };
    transcode::call(table, &request).ok()
}

fn route<'r>(table: &'r RouteTable, rpc: &str) -> &'r Route {
    table.routes().iter().find(|route| route.rpc.name() == rpc).expect("a route")
}

thread_local! {
    static TABLE: RouteTable = RouteTable::new(&protos::library()).expect("good rules");
}

proptest! {
    /// A client expands a template as http.proto says; the door reads the same value again.
    #[test]
    fn what_is_expanded_is_matched(template in template(), values in values()) {
        let proto = format!(
            "syntax = 'proto3';
             import 'google/api/annotations.proto';
             service S {{
                 rpc Do(M) returns (M) {{ option (google.api.http) = {{get: '{template}'}}; }}
             }}
             message M {{ string a = 1; string b = 2; }}"
        );
        let table = RouteTable::new(&protos::written(&proto)).expect("a good rule");
        let parsed = Template::parse(&template).expect("a good template");
        let (path, expected) = expand(&parsed, &values);
        let found = table.find(&Method::GET, &path).expect("a route");
        let found: Vec<_> =
            found.captures.iter().map(|capture| (capture.name, &*capture.value)).collect();
        let expected: Vec<_> =
            expected.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        prop_assert_eq!(found, expected, "{} by {}", path, template);
    }

    /// JSON of a message is that message again, also after its way over the wire.
    #[test]
    fn json_is_the_message_again(bytes in generated::message()) {
        TABLE.with(|table| {
            let route = route(table, "Say");
            let json = transcode::response(route, &bytes).expect("JSON");
            let call = asked(table, &Method::POST, "/v1/say", None, &json);
            let call = call.unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&json)));
            let decoded = |bytes: &[u8]| {
                let message = DynamicMessage::decode(route.input(), bytes).expect("a message");
                serde_json::to_string(&serde_json::to_value(&message).expect("JSON"))
            };
            prop_assert_eq!(decoded(&call.message).ok(), decoded(&bytes).ok());
            let again = transcode::response(route, &call.message).expect("JSON");
            prop_assert_eq!(String::from_utf8(again).ok(), String::from_utf8(json).ok());
            Ok(())
        })?;
    }

    /// Our JSON is JSON to others: prost-reflect reads the same message from it.
    #[test]
    fn json_is_what_others_read(bytes in generated::message()) {
        TABLE.with(|table| {
            let route = route(table, "Say");
            let json = transcode::response(route, &bytes).expect("JSON");
            let mut deserializer = serde_json::Deserializer::from_slice(&json);
            let read = DynamicMessage::deserialize(route.input(), &mut deserializer);
            let read = read.expect("a message");
            let sent = DynamicMessage::decode(route.input(), bytes.as_slice()).expect("a message");
            let shown = |message: &DynamicMessage| serde_json::to_value(message).expect("JSON");
            prop_assert_eq!(shown(&read), shown(&sent));
            Ok(())
        })?;
    }

    /// Whatever comes, there is an answer.
    #[test]
    fn nothing_panics(
        method in "GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS|X",
        path in prop_oneof![TEXT, PATH, ".*"],
        query in proptest::option::of(prop_oneof![TEXT, QUERY]),
        body in prop_oneof![TEXT.prop_map(String::into_bytes), any::<Vec<u8>>()],
    ) {
        TABLE.with(|table| {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            asked(table, &method, &path, query.as_deref(), &body);
        });
    }

    /// Neither does a body that is nearly a message, or a query that is nearly one.
    #[test]
    fn near_misses_do_not_panic(
        bytes in generated::message(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        key in KEY,
        value in TEXT,
    ) {
        TABLE.with(|table| {
            let mut json = transcode::response(route(table, "Say"), &bytes).expect("JSON");
            let at = at.index(json.len());
            json[at] = byte;
            asked(table, &Method::POST, "/v1/say", None, &json);
            asked(table, &Method::GET, "/v1/ask", Some(&format!("{key}={value}")), b"");
            let _ = transcode::response(route(table, "Say"), &json);
        });
    }
}

/// A template with up to two variables, and perhaps a verb.
fn template() -> impl Strategy<Value = String> {
    let segment = || prop_oneof!["[a-z]{1,4}", Just("*".to_owned()), Just("%C3%A9".to_owned())];
    let inner = || proptest::collection::vec(segment(), 1..4).prop_map(|parts| parts.join("/"));
    let variable = move |name: &'static str| {
        prop_oneof![
            Just(format!("{{{name}}}")),
            inner().prop_map(move |inner| format!("{{{name}={inner}}}")),
        ]
    };
    let last = prop_oneof![Just(String::new()), Just("/{b=**}".to_owned()), Just("/**".to_owned())];
    let verb = prop_oneof![Just(String::new()), "[a-z]{1,4}".prop_map(|verb| format!(":{verb}"))];
    (inner(), variable("a"), inner(), last, verb).prop_map(
        |(before, variable, after, last, verb)| format!("/{before}/{variable}/{after}{last}{verb}"),
    )
}

/// What stands in the place of each `*`, in order, and of a `**`.
fn values() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(r#"[a-zA-Z0-9:%&?#. é€{}+-]{1,6}"#, 12)
}

/// The path that a client makes of a template, and the values of its variables.
fn expand(template: &Template, values: &[String]) -> (String, Vec<(String, String)>) {
    let mut values = values.iter();
    let mut value = || values.next().expect("enough values").clone();
    let mut texts = Vec::new();
    for segment in &template.segments {
        texts.push(match segment {
            Segment::Literal(text) => text.clone(),
            Segment::One => value(),
            Segment::Rest => [value(), value()].join("/"),
        });
    }
    let named = template
        .variables
        .iter()
        .map(|variable| (variable.field_path.clone(), texts[variable.segments.clone()].join("/")));
    let named = named.collect();
    let path: Vec<String> = texts.iter().map(|text| encode(text)).collect();
    let verb = template.verb.as_ref().map(|verb| format!(":{verb}")).unwrap_or_default();
    (format!("/{}{verb}", path.join("/")), named)
}

/// All but `[-_.~/0-9a-zA-Z]` is percent-encoded.
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'-' | b'_' | b'.' | b'~' | b'/' => char::from(byte).to_string(),
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}
