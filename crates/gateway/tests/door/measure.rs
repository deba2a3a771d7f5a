//! What passes through the door is counted. All doors of this process share the counts, so a test
//! says only what they grow by at least.

use std::sync::Arc;

use axum::body::to_bytes;
use platform::backlog::Backlogs;
use platform::clock::SystemClock;
use platform::server::scrape;
use reqwest::Method;
use testkit::eventually;

use crate::client::Answer;
use crate::house::{House, LONG, Plan};
use crate::kitchen::{Dish, GetRequest};

/// The value of a series, by its name and its labels in the order of the alphabet.
async fn value(series: &str) -> f64 {
    let text = scrape(&Backlogs::new(Arc::new(SystemClock))).await.into_body();
    let text = to_bytes(text, usize::MAX).await.expect("a body");
    let text = String::from_utf8(text.to_vec()).expect("text");
    let value = text.lines().find_map(|line| line.strip_prefix(series));
    value.map_or(0.0, |value| value.trim().parse().expect("a number"))
}

/// The series of the requests of a method that ended like this.
fn requests(method: &str, protocol: &str, code: &str) -> String {
    format!(
        "taxi_gateway_request_duration_seconds_count{{protocol=\"{protocol}\",\
         rpc_method=\"{method}\",rpc_response_status_code=\"{code}\"}}"
    )
}

/// That this makes a series grow.
async fn grows(series: &str, act: impl AsyncFnOnce()) {
    let before = value(series).await;
    act().await;
    eventually(LONG, || async {
        let after = value(series).await;
        (after > before).then_some(()).ok_or(format!("{series}: {before}, then {after}"))
    })
    .await;
}

#[tokio::test]
async fn each_protocol_counts_for_itself() {
    let house = House::open().await;
    let get = "door.v1.Kitchen/GetDish";
    grows(&requests(get, "rest", "OK"), async || {
        Answer::of(house.get("/v1/dishes/1")).await;
    })
    .await;
    grows(&requests(get, "rest", "NOT_FOUND"), async || {
        Answer::of(house.get("/v1/dishes/missing")).await;
    })
    .await;
    let dish = || GetRequest { name: "dishes/1".to_owned() };
    grows(&requests(get, "grpc", "OK"), async || {
        house.unary::<_, Dish>("/door.v1.Kitchen/GetDish", dish()).await.expect("a dish");
    })
    .await;
    grows(&requests(get, "grpc-web", "OK"), async || {
        let message = prost::Message::encode_to_vec(&dish());
        let frame = [&[0, 0, 0, 0, message.len() as u8][..], &message].concat();
        let call = house.request(Method::POST, "/door.v1.Kitchen/GetDish").body(frame);
        Answer::of(call.header("content-type", "application/grpc-web+proto")).await;
    })
    .await;
}

#[tokio::test]
async fn a_stream_counts_as_what_it_came_to() {
    let house = House::open().await;
    let watch = |code| requests("door.v1.Kitchen/WatchDishes", "rest", code);
    grows(&watch("OK"), async || {
        Answer::of(house.get("/v1/dishes:watch?count=2")).await;
    })
    .await;
    grows(&watch("FAILED_PRECONDITION"), async || {
        Answer::of(house.get("/v1/dishes:watch?count=2&fail=true")).await;
    })
    .await;
    grows(&watch("CANCELLED"), async || {
        drop(house.get("/v1/dishes:watch").send().await.expect("a stream"));
    })
    .await;
}

#[tokio::test]
async fn strangers_make_up_no_methods() {
    let house = House::open().await;
    grows(&requests("_OTHER", "rest", "NOT_FOUND"), async || {
        Answer::of(house.get("/v1/nowhere")).await;
    })
    .await;
    grows(&requests("_OTHER", "grpc", "UNIMPLEMENTED"), async || {
        let dish = GetRequest { name: "dishes/1".to_owned() };
        house.unary::<_, Dish>("/door.v1.Kitchen/Nothing", dish).await.expect_err("no method");
    })
    .await;
}

#[tokio::test]
async fn who_is_refused_counts_by_the_limit() {
    let mut plan = Plan::default();
    plan.config.streams_per_principal = 1;
    let house = House::with(plan).await;
    let one = house.get("/v1/dishes:watch").send().await.expect("a stream");
    assert!(value("taxi_gateway_streams ").await >= 1.0);
    assert!(value("taxi_gateway_connections ").await >= 1.0);
    grows("taxi_gateway_refused_total{limit=\"streams\"}", async || {
        Answer::of(house.get("/v1/dishes:watch")).await;
    })
    .await;
    drop(one);
}

#[tokio::test]
async fn calls_to_a_service_count_too() {
    let house = House::open().await;
    let calls = "rpc_client_call_duration_seconds_count{rpc_method=\"door.v1.Cellar/GetWine\",\
                 rpc_response_status_code=\"OK\",rpc_system_name=\"grpc\"}";
    grows(calls, async || {
        Answer::of(house.get("/v1/wines/1")).await;
    })
    .await;
}
