//! What goes back over HTTP: errors and streams.

use std::time::Duration;

use gateway::errors::{self, ErrorResponse};
use gateway::routes::{Route, RouteTable};
use gateway::stream::Format;
use gateway::transcode;
use http::Method;
use kernel::{Failure, Rejection};
use platform::status::{TABLE, status};
use prost::Message as _;
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _, pb};

use crate::protos;

fn table() -> RouteTable {
    RouteTable::new(&protos::library()).expect("good rules")
}

fn error(status: &Status) -> ErrorResponse {
    errors::error(status, &protos::library())
}

fn body(response: &ErrorResponse) -> Value {
    serde_json::from_slice(&response.body).expect("JSON")
}

fn header<'a>(response: &'a ErrorResponse, name: &str) -> Option<&'a str> {
    response.headers.get(name).map(|value| value.to_str().expect("text"))
}

#[test]
fn an_error_is_google_rpc_status() {
    let rejection = Rejection::invalid("page_size", "INVALID_PAGE_SIZE", "must not be negative");
    let response = error(&status(rejection));
    assert_eq!(response.status, 400);
    assert_eq!(header(&response, "content-type"), Some("application/json"));
    assert_eq!(
        body(&response),
        json!({
            "code": 3,
            "message": "must not be negative",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "INVALID_PAGE_SIZE",
                    "domain": "taxi",
                    "metadata": {}
                },
                {
                    "@type": "type.googleapis.com/google.rpc.BadRequest",
                    "fieldViolations": [{
                        "field": "page_size",
                        "description": "must not be negative",
                        "reason": "",
                        "localizedMessage": null
                    }]
                }
            ]
        })
    );
}

#[test]
fn the_http_status_is_that_of_the_table() {
    for (_, code, http) in TABLE {
        assert_eq!(error(&Status::new(code, "")).status, http, "{code:?}");
    }
    assert_eq!(error(&Status::unknown("")).status, 500);
    assert_eq!(error(&Status::cancelled("")).status, 499);
    assert_eq!(error(&Status::unimplemented("")).status, 501);
}

#[test]
fn an_error_of_the_house_is_not_explained() {
    let response = error(&status(Failure::Internal("the key is hunter2".into())));
    assert_eq!(response.status, 500);
    assert!(!String::from_utf8_lossy(&response.body).contains("hunter2"));
}

#[test]
fn retry_info_is_retry_after_rounded_up() {
    for (delay, seconds) in [(0, "0"), (1, "1"), (1000, "1"), (1001, "2"), (30_500, "31")] {
        let delay = Duration::from_millis(delay);
        let response = error(&status(Rejection::exhausted("BUSY", "").retry_after(delay)));
        assert_eq!(
            (response.status.as_u16(), header(&response, "retry-after")),
            (429, Some(seconds))
        );
    }
    let retry = Duration::from_millis(1500);
    let response = error(&status(Rejection::unavailable("AWAY", "").retry_after(retry)));
    let details = body(&response)["details"].clone();
    let retry =
        json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.500s"});
    assert!(details.as_array().expect("details").contains(&retry), "{details}");
    assert_eq!(header(&error(&Status::unavailable("")), "retry-after"), None);
}

#[test]
fn who_is_nobody_learns_how_to_be_somebody() {
    let response = error(&status(Rejection::unauthenticated("TOKEN_MISSING", "no token")));
    assert_eq!(response.status, 401);
    assert_eq!(header(&response, "www-authenticate"), Some("Bearer"));
    let response = error(&status(Rejection::denied("ROLE_NOT_ALLOWED", "no")));
    assert_eq!((response.status.as_u16(), header(&response, "www-authenticate")), (403, None));
}

#[test]
fn a_wrong_method_is_405_with_the_right_ones() {
    let table = table();
    let refusal = table.find(&Method::PUT, "/v1/shelves/1").expect_err("PUT");
    let response = errors::refused(refusal, table.pool());
    assert_eq!(response.status, 405);
    assert_eq!(header(&response, "allow"), Some("DELETE, GET, HEAD"));
    assert_eq!(body(&response)["code"], Code::Unimplemented as i32);
    assert_eq!(body(&response)["details"][0]["reason"], "METHOD_NOT_ALLOWED");
    let nothing = errors::refused(table.find(&Method::GET, "/").expect_err("/"), table.pool());
    assert_eq!((nothing.status.as_u16(), header(&nothing, "allow")), (404, None));
}

#[test]
fn details_of_any_type_are_shown() {
    let any = |type_url: &str, value: &[u8]| prost_types::Any {
        type_url: format!("type.googleapis.com/{type_url}"),
        value: value.to_vec(),
    };
    let details = vec![
        any("library.v1.Shelf", b"\x0a\x01s"),
        any("google.protobuf.Duration", b"\x08\x05"),
        any("no.such.Type", b"\xff\xfe"),
        any("google.rpc.ErrorInfo", b"\xff"),
    ];
    let rpc = pb::Status { code: 5, message: "gone".to_owned(), details };
    let status = Status::with_details(Code::NotFound, "gone", rpc.encode_to_vec().into());
    assert_eq!(
        body(&error(&status))["details"],
        json!([
            {"@type": "type.googleapis.com/library.v1.Shelf", "name": "s", "theme": ""},
            {"@type": "type.googleapis.com/google.protobuf.Duration", "value": "5s"},
            {"@type": "type.googleapis.com/no.such.Type", "value": "//4="},
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "value": "/w=="}
        ])
    );
    let broken = Status::with_details(Code::NotFound, "gone", b"\xff".as_slice().into());
    assert_eq!(body(&error(&broken)), json!({"code": 5, "message": "gone", "details": []}));
}

#[test]
fn an_answer_that_cannot_be_shown_is_a_defect() {
    let table = table();
    let route = route(&table, "GetShelf");
    let status = transcode::response(route, b"\xff").expect_err("no message");
    assert_eq!((status.code(), status.message()), (Code::Internal, "internal error"));
    let info = status.get_error_details();
    assert_eq!(info.error_info().map(|info| info.reason.as_str()), Some("INTERNAL"));

    // An Any of a type that nobody knows.
    let answer = b"\x0a\x0a\x0a\x08x/no.Such";
    let status = transcode::response(self::route(&table, "Wrapped"), answer).expect_err("a type");
    assert_eq!(status.code(), Code::Internal);
}

fn route<'a>(table: &'a RouteTable, rpc: &str) -> &'a Route {
    table.routes().iter().find(|route| route.rpc.name() == rpc).expect("a route")
}

fn element(route: &Route, json: &str) -> Vec<u8> {
    let mut json = serde_json::Deserializer::from_str(json);
    let message = DynamicMessage::deserialize(route.output(), &mut json).expect("a message");
    message.encode_to_vec()
}

#[test]
fn a_stream_is_lines_of_json() {
    let table = table();
    let route = route(&table, "WatchBooks");
    let frame = |json| {
        let frame = Format::Ndjson.element(route, &element(route, json)).expect("a frame");
        String::from_utf8(frame).expect("UTF-8")
    };
    let frame = frame(r#"{"resumeToken": "t\nu"}"#);
    assert_eq!(frame, "{\"result\":{\"book\":null,\"resumeToken\":\"t\\nu\"}}\n");

    let error = Format::Ndjson.error(&Status::aborted("no"), table.pool());
    let error: Value = serde_json::from_slice(&error).expect("one line of JSON");
    assert_eq!(error, json!({"error": {"code": 10, "message": "no", "details": []}}));
    assert_eq!(Format::Ndjson.end(), b"");
}

#[test]
fn a_stream_is_events_that_can_be_carried_on() {
    let table = table();
    let route = route(&table, "WatchBooks");
    let frame = |json| {
        let frame = Format::Sse.element(route, &element(route, json)).expect("a frame");
        String::from_utf8(frame).expect("UTF-8")
    };
    assert_eq!(
        frame(r#"{"resumeToken": "t"}"#),
        "id: t\ndata: {\"book\":null,\"resumeToken\":\"t\"}\n\n"
    );
    assert_eq!(frame("{}"), "data: {\"book\":null,\"resumeToken\":\"\"}\n\n");
    // A token that would break the frame is none.
    assert!(frame(r#"{"resumeToken": "t\nevent: x"}"#).starts_with("data: {"));

    let error = String::from_utf8(Format::Sse.error(&Status::aborted("no"), table.pool()));
    let error = error.expect("UTF-8");
    let json = error.strip_prefix("event: error\ndata: ").and_then(|e| e.strip_suffix("\n\n"));
    let json: Value = serde_json::from_str(json.expect("an event")).expect("JSON");
    assert_eq!(json["code"], 10);
    assert_eq!(Format::Sse.end(), b"event: end\ndata: {}\n\n");
}

#[test]
fn events_are_for_who_asks_for_them() {
    for (accept, format) in [
        (None, Format::Ndjson),
        (Some("*/*"), Format::Ndjson),
        (Some("application/json"), Format::Ndjson),
        (Some("text/event-stream"), Format::Sse),
        (Some("application/json, Text/Event-Stream;q=0.5"), Format::Sse),
        (Some("text/event-stream;q=0"), Format::Ndjson),
    ] {
        assert_eq!(Format::accepted(accept), format, "{accept:?}");
    }
}

#[test]
fn a_reason_from_elsewhere_is_kept() {
    let details = ErrorDetails::with_error_info("ALREADY_ACCEPTED", "taxi", []);
    let status = Status::with_error_details(Code::FailedPrecondition, "too late", details);
    let response = error(&status);
    assert_eq!(response.status, 400);
    assert_eq!(body(&response)["details"][0]["reason"], "ALREADY_ACCEPTED");
}
