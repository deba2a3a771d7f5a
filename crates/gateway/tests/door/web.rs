//! gRPC-Web by hand, and what a browser asks before.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::StreamExt as _;
use prost::Message as _;
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};

use crate::house::{House, Plan};
use crate::kitchen::{Dish, GetRequest, WatchDishesRequest};

const GET: &str = "/door.v1.Kitchen/GetDish";
const BINARY: &str = "application/grpc-web+proto";
const TEXT: &str = "application/grpc-web-text+proto";
const PAGE: &str = "https://app.example.com";

async fn house() -> House {
    let mut plan = Plan::default();
    plan.config.cors_origins = vec![PAGE.to_owned()];
    House::with(plan).await
}

/// A message with the prefix that gRPC gives it.
fn framed(message: &impl prost::Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    [&[0][..], &u32::try_from(message.len()).expect("short").to_be_bytes(), &message].concat()
}

/// The frames of an answer: the flags and what they hold.
fn frames(mut body: &[u8]) -> Vec<(u8, Bytes)> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = body.split_at_checked(5) {
        let length = u32::from_be_bytes(head[1..].try_into().expect("four bytes")) as usize;
        frames.push((head[0], Bytes::copy_from_slice(&rest[..length])));
        body = &rest[length..];
    }
    frames
}

/// Base64, of which each chunk may end with padding.
fn decoded(text: &[u8]) -> Vec<u8> {
    text.chunks(4).flat_map(|quad| BASE64_STANDARD.decode(quad).expect("base64")).collect()
}

fn call(request: RequestBuilder, kind: &str, message: &impl prost::Message) -> RequestBuilder {
    let body = framed(message);
    let body = if kind == TEXT { BASE64_STANDARD.encode(body).into_bytes() } else { body };
    request.header("content-type", kind).header("accept", kind).header("origin", PAGE).body(body)
}

async fn answer(request: RequestBuilder, kind: &str) -> (HeaderMap, Vec<(u8, Bytes)>) {
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), 200);
    let headers = response.headers().clone();
    assert_eq!(headers["content-type"], kind);
    let body = response.bytes().await.expect("a body");
    (headers, frames(&if kind == TEXT { decoded(&body) } else { body.to_vec() }))
}

#[tokio::test]
async fn a_page_calls_in_binary_and_in_text() {
    let house = house().await;
    for kind in [BINARY, TEXT] {
        let message = GetRequest { name: "dishes/1".to_owned() };
        let request = call(house.request(Method::POST, GET), kind, &message);
        let (headers, frames) = answer(request, kind).await;
        assert_eq!(headers["access-control-allow-origin"], PAGE);
        let exposed = headers["access-control-expose-headers"].to_str().expect("text");
        assert!(exposed.contains("grpc-status") && exposed.contains("grpc-message"), "{exposed}");
        let dish = Dish::decode(frames[0].1.clone()).expect("a dish");
        assert_eq!((frames[0].0, dish.name.as_str()), (0, "dishes/1"));
        let trailers = String::from_utf8(frames[1].1.to_vec()).expect("text");
        assert_eq!((frames[1].0, trailers.contains("grpc-status:0")), (0x80, true), "{trailers}");
    }
}

#[tokio::test]
async fn a_page_watches() {
    let house = house().await;
    for kind in [BINARY, TEXT] {
        let path = "/door.v1.Kitchen/WatchDishes";
        let all = WatchDishesRequest { count: 3, fail: true, ..Default::default() };
        let request = call(house.request(Method::POST, path), kind, &all);
        let (_, frames) = answer(request, kind).await;
        assert_eq!(frames.len(), 4);
        let trailers = String::from_utf8(frames[3].1.to_vec()).expect("text");
        assert!(trailers.contains("grpc-status:9"), "{trailers}");
        // The first one comes while the stream goes on.
        let endless = WatchDishesRequest::default();
        let request = call(house.request(Method::POST, path), kind, &endless);
        let mut body = request.send().await.expect("an answer").bytes_stream();
        assert!(!body.next().await.expect("a chunk").expect("a dish").is_empty());
    }
}

#[tokio::test]
async fn a_refusal_is_grpc_web_too() {
    let house = house().await;
    for (request, code) in [
        (house.stranger(Method::POST, GET), "16"),
        (house.request(Method::POST, "/door.v1.Kitchen/Burn"), "12"),
    ] {
        let request = call(request, BINARY, &GetRequest::default());
        let (headers, frames) = answer(request, BINARY).await;
        assert!(frames.is_empty());
        assert_eq!(headers["grpc-status"], code);
        assert_eq!(headers["access-control-allow-origin"], PAGE);
    }
}

#[tokio::test]
async fn a_browser_is_told_what_it_may_send() {
    let house = house().await;
    let ask = async |origin: &str| {
        let ask = house.stranger(Method::OPTIONS, GET);
        let ask = ask.header("origin", origin).header("access-control-request-method", "POST");
        let headers = "authorization,content-type,x-grpc-web,x-user-agent,grpc-timeout";
        let ask = ask.header("access-control-request-headers", headers);
        let answer = ask.send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        answer.headers().clone()
    };
    let told = ask(PAGE).await;
    assert_eq!(told["access-control-allow-origin"], PAGE);
    assert!(told["access-control-allow-methods"].to_str().expect("text").contains("PATCH"));
    let may = told["access-control-allow-headers"].to_str().expect("text");
    assert!(may.contains("authorization") && may.contains("x-grpc-web"), "{may}");
    assert_eq!(told["access-control-max-age"], "3600");
    assert!(!ask("https://evil.example.com").await.contains_key("access-control-allow-origin"));
    assert_eq!(house.seen.calls(), 0);
}

#[tokio::test]
async fn grpc_itself_needs_http_2() {
    let house = house().await;
    let request =
        call(house.request(Method::POST, GET), "application/grpc", &GetRequest::default());
    assert_eq!(request.send().await.expect("an answer").status(), 505);
}
