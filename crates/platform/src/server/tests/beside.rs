//! Plain HTTP beside gRPC, and faults on purpose.

use axum::body::Bytes;
use axum::routing::post;

use super::*;

const HOOK: &str = "/hooks/kitchen";

/// A house with plain HTTP, which answers with what it is sent, and with a handle for its faults.
async fn with_hook(config: ServerConfig) -> (House, Faults) {
    let faults = Faults::default();
    let handle = faults.clone();
    let house = House::with(config, |kitchen| {
        let Kitchen { waiting, go_on, .. } = kitchen.clone();
        let hook = post(async move |body: Bytes| {
            match &*body {
                b"wait" => {
                    waiting.notify_one();
                    go_on.notified().await;
                }
                b"break" => panic!("on purpose"),
                _ => {}
            }
            body
        });
        Routes::new("kitchen").service(kitchen, ACCESS).http(HOOK, hook).with_faults(handle)
    })
    .await;
    (house, faults)
}

/// Sends this as any HTTP client would.
async fn send(address: &str, path: &str, body: impl Into<reqwest::Body>) -> (u16, String) {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = http.post(format!("http://{address}{path}")).body(body).send();
    let answer = answer.await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("a text"))
}

#[tokio::test]
async fn plain_http_is_answered_beside_grpc_and_needs_no_token() {
    let (house, _) = with_hook(ServerConfig::default()).await;
    assert_eq!(send(&house.address, HOOK, "tea").await, (200, "tea".to_owned()));
    assert_eq!(
        ask(house.neighbour(PATIENCE), "Greet", "tea").await.expect("an answer"),
        "service kitchen tea"
    );
    // What is not plain HTTP stays behind the gate.
    let answer = house.ask("Greet", &[]).await;
    assert_eq!(refused(answer), (Code::Unauthenticated, "TOKEN_MISSING".to_owned()));
}

#[tokio::test]
async fn plain_http_is_refused_as_http_clients_understand_it() {
    let config = ServerConfig { concurrency: 1, ..ServerConfig::default() };
    let (house, _) = with_hook(config).await;
    let large = vec![b'x'; MAX_MESSAGE_BYTES + 1];
    assert_eq!(send(&house.address, HOOK, large).await.0, 413);
    assert_eq!(send(&house.address, HOOK, "break").await.0, 500);
    let first = tokio::spawn({
        let address = house.address.clone();
        async move { send(&address, HOOK, "wait").await }
    });
    house.waiting.notified().await;
    let crowded = (503, "too many requests at once\n".to_owned());
    assert_eq!(send(&house.address, HOOK, "tea").await, crowded);
    house.go_on.notify_one();
    assert_eq!(first.await.expect("no panic").0, 200);

    let request_timeout = Duration::from_millis(50);
    let (house, _) = with_hook(ServerConfig { request_timeout, ..ServerConfig::default() }).await;
    let late = (503, "not done in time\n".to_owned());
    assert_eq!(send(&house.address, HOOK, "wait").await, late);
}

#[tokio::test]
async fn a_drain_lets_plain_http_finish() {
    let (house, _) = with_hook(ServerConfig::default()).await;
    let in_flight = tokio::spawn({
        let address = house.address.clone();
        async move { send(&address, HOOK, "wait").await }
    });
    house.waiting.notified().await;
    house.shutdown.trigger();
    house.go_on.notify_one();
    assert_eq!(in_flight.await.expect("no panic"), (200, "wait".to_owned()));
    house.served.await.expect("no panic").expect("a clean end");
}

#[tokio::test]
async fn a_house_without_plain_http_speaks_grpc_only() {
    let house = House::open(ServerConfig::default()).await;
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = http.post(format!("http://{}{HOOK}", house.address)).send().await;
    assert!(answer.is_err(), "{answer:?}");
}

#[tokio::test]
async fn a_service_is_down_on_purpose_until_it_is_not() {
    let (house, faults) = with_hook(ServerConfig::default()).await;
    faults.set_down(true);
    let bearer = house.bearer(Role::Service);
    let status = house.ask("Greet", &[("authorization", &bearer)]).await.expect_err("down");
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(reason(&status).as_deref(), Some("SERVICE_UNAVAILABLE"));
    assert_eq!(retry_after(&status), None, "nobody is there who could say when");
    assert_eq!(send(&house.address, HOOK, "tea").await.0, 503);
    assert!(health(&house, "").await.is_ok(), "the process is well");
    faults.set_down(false);
    assert!(house.ask("Greet", &[("authorization", &bearer)]).await.is_ok());
    assert_eq!(send(&house.address, HOOK, "tea").await.0, 200);
}

#[tokio::test]
async fn a_service_is_slow_on_purpose_on_its_callers_time() {
    let (house, faults) = with_hook(ServerConfig::default()).await;
    faults.set_latency(Duration::from_millis(100));
    let begin = tokio::time::Instant::now();
    assert!(ask(house.neighbour(PATIENCE), "Greet", "tea").await.is_ok());
    assert_eq!(send(&house.address, HOOK, "tea").await.0, 200);
    assert!(begin.elapsed() >= Duration::from_millis(200));
    let hasty = ask(house.neighbour(Duration::from_millis(20)), "Greet", "tea").await;
    assert_eq!(refused(hasty), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned()));
    faults.set_latency(Duration::ZERO);
    assert!(ask(house.neighbour(PATIENCE), "Greet", "tea").await.is_ok());
}
