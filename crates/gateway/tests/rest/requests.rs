//! What a request is beside its line and its body: headers, and limits.

use std::net::{IpAddr, Ipv4Addr};

use gateway::headers::Peer;
use gateway::routes::{Refusal, RouteTable};
use gateway::transcode::{self, Request};
use http::{HeaderMap, Method};
use kernel::Rejection;
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};

use crate::protos;

const WATCH: &str = "/v1/shelves/1/books:watch";

/// A request, as it is on the wire and then in JSON.
fn asked(
    method: &Method,
    path: &str,
    query: &str,
    headers: &[(&'static str, &str)],
    body: &str,
) -> Result<Value, Rejection> {
    let table = RouteTable::new(&protos::library()).expect("good rules");
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")))
        .collect();
    let peer = Peer { address: IpAddr::V4(Ipv4Addr::LOCALHOST), tls: false };
    let request = Request {
        method,
        path,
        query: Some(query),
        headers: &headers,
        body: body.as_bytes(),
        peer,
    };
    let call = match transcode::call(&table, &request) {
        Ok(call) => call,
        Err(Refusal::Rejected(rejection)) => return Err(rejection),
        Err(refusal) => panic!("{refusal:?}"),
    };
    let message = DynamicMessage::decode(call.route.input(), call.message.as_slice());
    Ok(serde_json::to_value(message.expect("what upstream can decode")).expect("JSON"))
}

#[test]
fn the_last_event_carries_a_stream_on() {
    let last = [("last-event-id", "t")];
    let watched = |query| asked(&Method::GET, WATCH, query, &last, "");
    assert_eq!(watched(""), Ok(json!({"parent": "shelves/1", "resumeToken": "t"})));
    assert_eq!(watched("resumeToken=u"), Ok(json!({"parent": "shelves/1", "resumeToken": "u"})));
    let shelf = asked(&Method::GET, "/v1/shelves/1", "", &last, "");
    assert_eq!(shelf, Ok(json!({"name": "shelves/1"})));
}

#[test]
fn headers_of_the_caller_are_checked() {
    let headers = [("grpc-metadata-key-bin", "!")];
    let rejection = asked(&Method::GET, WATCH, "", &headers, "").expect_err("no base64");
    assert_eq!(rejection.reason, "INVALID_METADATA");
}

#[test]
fn messages_are_nested_as_deep_as_others_can_decode() {
    let nested = |depth: usize, open: &str, close: &str| {
        let body = format!("{}{{}}{}", open.repeat(depth), close.repeat(depth));
        let answer = asked(&Method::POST, "/v1/say", "", &[], &body);
        answer.map_err(|rejection| rejection.reason).map(drop)
    };
    for (deepest, open, close) in [
        (99, r#"{"inner":"#, "}"),
        (99, r#"{"list":[{}],"inner":"#, "}"),
        (49, r#"{"byName":{"k":"#, "}}"),
    ] {
        assert_eq!(nested(deepest, open, close), Ok(()), "{open}");
        assert_eq!(nested(deepest + 1, open, close), Err("INVALID_FIELD_VALUE"), "{open}");
    }
    assert_eq!(nested(200, r#"{"inner":"#, "}"), Err("MALFORMED_JSON"));

    let values = |above: usize, depth: usize| {
        let open = r#"{"inner":"#.repeat(above) + r#"{"struct":"# + &r#"{"k":"#.repeat(depth);
        nested(1, &open, &"}".repeat(above + 1 + depth))
    };
    assert_eq!(values(0, 31), Ok(()));
    assert_eq!(values(0, 33), Err("INVALID_FIELD_VALUE"));
    assert_eq!(values(90, 1), Ok(()));
    assert_eq!(values(90, 10), Err("INVALID_FIELD_VALUE"));
}

#[test]
fn a_key_of_a_query_goes_as_deep_as_anybody_means() {
    let nested = |depth: usize| {
        let query = format!("{}text=x", "inner.".repeat(depth));
        asked(&Method::GET, "/v1/ask", &query, &[], "")
    };
    assert!(nested(31).is_ok());
    assert_eq!(nested(32).expect_err("too deep").reason, "INVALID_QUERY_PARAMETER");
    assert_eq!(nested(10_000).expect_err("too deep").reason, "INVALID_QUERY_PARAMETER");
}
