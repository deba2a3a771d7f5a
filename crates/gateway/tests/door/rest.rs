//! REST over a connection.

use std::time::Duration;

use axum::routing::get;
use gateway::GatewayConfig;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::eventually;

use crate::client::{Answer, reason};
use crate::house::{House, LONG, Plan};

#[tokio::test]
async fn a_command_reaches_its_service_and_its_answer_comes_back() {
    let house = House::open().await;
    let cook = house.request(Method::POST, "/v1/tables/1/dishes").json(&json!({"dish": "soup"}));
    let cook = cook
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .header("idempotency-key", "k")
        .header("x-forwarded-for", "192.0.2.1")
        .header("cookie", "a=b");
    let answer = Answer::of(cook).await;
    assert_eq!((answer.status, &answer.json["name"]), (200, &json!("tables/1/soup")));
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("x-taxi-consistency-token"), "t1");
    assert_eq!(answer.header("grpc-metadata-colour"), "red");
    let heard = &answer.json["heard"];
    assert!(heard["authorization"].as_str().expect("a token").starts_with("Bearer "));
    let trace = heard["traceparent"].as_str().expect("a trace");
    assert!(trace.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{trace}");
    assert!(!trace.contains("b7ad6b7169203331"), "a span of our own");
    assert_eq!(heard["idempotency-key"], "k");
    assert_eq!(heard["x-forwarded-for"], "127.0.0.1", "a claim of who is no proxy is no hop");
    assert_eq!(heard["x-forwarded-proto"], "http");
    assert_eq!(heard["cookie"], Value::Null);
    let timeout = heard["grpc-timeout"].as_str().expect("a timeout");
    let micros: u64 = timeout.trim_end_matches('u').parse().expect("microseconds");
    assert!((10_000_000..=15_000_000).contains(&micros), "the default less what is over: {micros}");
}

#[tokio::test]
async fn an_error_is_a_google_rpc_status() {
    let house = House::open().await;
    let missing = Answer::of(house.get("/v1/dishes/missing")).await;
    assert_eq!((missing.status, missing.reason()), (404, "DISH_NOT_FOUND"));
    assert_eq!(missing.header("grpc-metadata-colour"), "blue");
    let nowhere = Answer::of(house.get("/v1/nowhere")).await;
    assert_eq!((nowhere.status, nowhere.reason()), (404, "ROUTE_NOT_FOUND"));
    let wrong = Answer::of(house.request(Method::POST, "/v1/dishes/1")).await;
    assert_eq!((wrong.status, wrong.reason()), (405, "METHOD_NOT_ALLOWED"));
    assert_eq!(wrong.header("allow"), "GET, HEAD");
    let cook = house.request(Method::POST, "/v1/tables/1/dishes");
    let malformed = Answer::of(cook.body("{")).await;
    assert_eq!((malformed.status, malformed.reason()), (400, "MALFORMED_JSON"));
    let timeout = Answer::of(house.get("/v1/dishes/1").header("grpc-timeout", "soon")).await;
    assert_eq!((timeout.status, timeout.reason()), (400, "INVALID_TIMEOUT"));
}

#[tokio::test]
async fn a_body_has_a_bound() {
    let house = House::open().await;
    let cook = |size| {
        let cook = house.request(Method::POST, "/v1/tables/1/dishes");
        cook.json(&json!({"dish": "x".repeat(size)}))
    };
    let large = Answer::of(cook(256 * 1024)).await;
    assert_eq!((large.status, large.reason()), (413, "MESSAGE_TOO_LARGE"));
    assert_eq!(large.json["code"], 3);
    assert_eq!(Answer::of(cook(255 * 1024)).await.status, 200);
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let house = House::open().await;
    let full = house.get("/v1/dishes/1").send().await.expect("an answer");
    let full = full.bytes().await.expect("a body");
    let head = house.request(Method::HEAD, "/v1/dishes/1").send().await.expect("an answer");
    assert_eq!(head.status(), 200);
    let length: usize = head.headers()["content-length"].to_str().expect("text").parse().expect("");
    // What the service hears of times and traces has no fixed length.
    assert!(length.abs_diff(full.len()) < 20, "{length} {}", full.len());
    assert!(head.bytes().await.expect("no body").is_empty());
    let watch = house.request(Method::HEAD, "/v1/dishes:watch").send().await.expect("an answer");
    assert_eq!(watch.headers()["content-type"], "application/x-ndjson");
}

#[tokio::test]
async fn nobody_waits_longer_than_they_asked_to() {
    let house = House::open().await;
    let slow = Answer::of(house.get("/v1/dishes/slow").header("grpc-timeout", "100m")).await;
    assert_eq!((slow.status, slow.reason()), (504, "DEADLINE_EXCEEDED"));
    let dropped = || async { Some(house.seen.dropped()).filter(|it| *it == 1).ok_or(()) };
    eventually(LONG, dropped).await;
}

#[tokio::test]
async fn nor_longer_than_the_door_or_the_server_allow() {
    for (timeout, most, asked) in [(100, 30_000, None), (15_000, 100, Some("20S"))] {
        let mut plan = Plan::default();
        plan.config.timeout = Duration::from_millis(timeout);
        plan.server.request_timeout = Duration::from_millis(most);
        let house = House::with(plan).await;
        let slow = house.get("/v1/dishes/slow");
        let slow = asked.into_iter().fold(slow, |slow, asked| slow.header("grpc-timeout", asked));
        let answer = tokio::time::timeout(LONG / 4, Answer::of(slow)).await.expect("in time");
        assert_eq!((answer.status, answer.reason()), (504, "DEADLINE_EXCEEDED"));
    }
}

#[tokio::test]
async fn a_stream_is_json_lines() {
    let house = House::open().await;
    let watch = house.get("/v1/dishes:watch?count=2&fail=true").send().await.expect("an answer");
    assert_eq!(watch.headers()["content-type"], "application/x-ndjson");
    let text = watch.text().await.expect("a body");
    let lines: Vec<Value> = text.lines().map(|it| serde_json::from_str(it).expect(it)).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[1]["result"]["resumeToken"], "2");
    assert_eq!(reason(&lines[2]["error"]), "KITCHEN_CLOSED");
}

#[tokio::test]
async fn an_event_source_carries_on_where_it_was() {
    let house = House::open().await;
    let events = async |last: Option<&str>| {
        let watch = house.get("/v1/dishes:watch?count=3").header("accept", "text/event-stream");
        let watch = last.into_iter().fold(watch, |it, last| it.header("last-event-id", last));
        let watch = watch.send().await.expect("an answer");
        assert_eq!(watch.headers()["content-type"], "text/event-stream");
        assert_eq!(watch.headers()["cache-control"], "no-cache");
        watch.text().await.expect("a body")
    };
    let ids = |text: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.strip_prefix("id: ")).map(str::to_owned).collect()
    };
    let all = events(None).await;
    assert_eq!(ids(&all), ["1", "2", "3"]);
    assert!(all.ends_with("event: end\ndata: {}\n\n"), "{all}");
    assert_eq!(ids(&events(Some("2")).await), ["3"]);
}

#[tokio::test]
async fn a_stream_ends_when_the_caller_said_so() {
    let house = House::open().await;
    let watch = house.get("/v1/dishes:watch").header("grpc-timeout", "300m");
    let text = watch.send().await.expect("an answer").text().await.expect("a body");
    let lines: Vec<Value> = text.lines().map(|it| serde_json::from_str(it).expect(it)).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert_eq!(lines[1]["error"]["code"], 4);
}

#[tokio::test]
async fn a_defect_costs_one_request_and_tells_nothing() {
    async fn broken() {
        panic!("a secret")
    }
    let beside = axum::Router::new().route("/broken", get(broken)).route("/", get(async || "hi"));
    let house = House::with(Plan { beside, ..Plan::default() }).await;
    let broken = Answer::of(house.stranger(Method::GET, "/broken")).await;
    assert_eq!((broken.status, broken.reason()), (500, "INTERNAL"));
    assert_eq!(broken.json["message"], "internal error");
    assert_eq!(Answer::of(house.stranger(Method::GET, "/")).await.status, 200);
}

#[tokio::test]
async fn a_gateway_that_cannot_work_is_none() {
    use std::sync::Arc;

    use gateway::routes::RouteTable;
    use gateway::{Gateway, Upstreams};
    use platform::auth::{AuthConfig, Verifier};
    use platform::server::ServerConfig;

    let table = Arc::new(RouteTable::new(&crate::house::protos()).expect("good rules"));
    let verifier = Verifier::discover(AuthConfig::new("http://issuer.test", "house"));
    let refused = |config: GatewayConfig| {
        let server = ServerConfig::default();
        let gateway =
            Gateway::new(table.clone(), Upstreams::new(), verifier.clone(), config, server);
        gateway.err().expect("no gateway").to_string()
    };
    assert_eq!(refused(GatewayConfig::default()), "no upstream answers for door.v1.Kitchen");
    let cors_origins = vec!["example.com".to_owned()];
    let refusal = refused(GatewayConfig { cors_origins, ..GatewayConfig::default() });
    assert!(refusal.contains("example.com"), "{refusal}");
}
