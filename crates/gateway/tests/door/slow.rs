//! Clients that are slow or too long-winded, and the end of the process.

use std::time::Duration;

use gateway::GatewayConfig;
use reqwest::Method;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{Answer, reason, stream};
use crate::house::{House, LONG, Plan};
use crate::kitchen::{Dish, WatchDishesRequest};

const SOON: Duration = Duration::from_millis(300);

async fn house() -> House {
    let config = GatewayConfig {
        header_timeout: SOON,
        body_timeout: SOON,
        write_timeout: SOON,
        ..Plan::default().config
    };
    House::with(Plan { config, ..Plan::default() }).await
}

/// What the door says to these bytes until it hangs up.
async fn told(house: &House, bytes: &str) -> String {
    let mut stream = TcpStream::connect(house.address).await.expect("a connection");
    stream.write_all(bytes.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    let end = timeout(LONG, stream.read_to_end(&mut answer)).await.expect("it hangs up");
    end.ok();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn who_says_nothing_is_cut() {
    let house = house().await;
    for beginning in ["", "P", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/1.1\r\nHo"] {
        let answer = told(&house, beginning).await;
        assert!(!answer.contains("200 OK"), "{beginning:?}: {answer:?}");
    }
    let answer = told(&house, "GET /v1/nowhere HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "and then nothing more: {answer}");
    assert_eq!(Answer::of(house.get("/v1/dishes/1")).await.status, 200);
}

#[tokio::test]
async fn an_address_has_so_many_connections() {
    let config = GatewayConfig { connections_per_address: 2, ..Plan::default().config };
    let house = House::with(Plan { config, ..Plan::default() }).await;
    let connect = async || TcpStream::connect(house.address).await.expect("a connection");
    let _kept = (connect().await, connect().await);
    assert_eq!(
        timeout(LONG, connect().await.read(&mut [0])).await.expect("closed").unwrap_or(0),
        0
    );
}

#[tokio::test]
async fn who_never_ends_a_body_is_cut() {
    let house = house().await;
    let token = house.token("guest");
    let head = "POST /v1/tables/1/dishes HTTP/1.1\r\nhost: door\r\ncontent-length: 100\r\n";
    let begun = format!("{head}connection: close\r\nauthorization: Bearer {token}\r\n\r\n{{");
    let answer = told(&house, &begun).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("BODY_TIMEOUT"), "{answer}");
}

#[tokio::test]
async fn who_takes_nothing_is_cut() {
    let house = house().await;
    let mut stream = TcpStream::connect(house.address).await.expect("a connection");
    let token = house.token("guest");
    let path = "/v1/dishes:watch?count=2000&size=65536";
    let ask = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.expect("sent");
    testkit::eventually(LONG, || async {
        Some(house.seen.dropped()).filter(|it| *it == 1).ok_or("the call goes on")
    })
    .await;
    assert!(house.seen.sent() < 2000);
}

#[tokio::test]
async fn so_is_who_reads_no_more_of_one_answer() {
    let house = house().await;
    let watch = WatchDishesRequest { count: 2000, size: 65536, ..Default::default() };
    let (grpc, request) = house.grpc(watch);
    let answer = stream::<_, Dish>(grpc, "/door.v1.Kitchen/WatchDishes", request).await;
    let _unread = answer.expect("a stream");
    testkit::eventually(LONG, || async {
        Some(house.seen.dropped()).filter(|it| *it == 1).ok_or("the call goes on")
    })
    .await;
    assert!(house.seen.sent() < 2000);
}

#[tokio::test]
async fn headers_have_a_bound() {
    let house = House::open().await;
    let long = house.get("/v1/dishes/1").header("colour", "x".repeat(40_000));
    assert_eq!(long.send().await.expect("an answer").status(), 431);
    let mut long = house.call(crate::kitchen::GetRequest::default());
    let value = "x".repeat(40_000).parse().expect("ascii");
    long.metadata_mut().insert("colour", value);
    let grpc = tonic::client::Grpc::new(house.channel());
    let path = "/door.v1.Kitchen/GetDish";
    crate::client::unary::<_, crate::kitchen::Dish>(grpc, path, long).await.expect_err("too long");
    assert_eq!(house.seen.calls(), 0);
}

#[tokio::test]
async fn a_deployment_ends_streams_and_finishes_requests() {
    let mut plan = Plan::default();
    plan.server.drain_delay = SOON;
    let house = House::with(plan).await;
    let watch = house.get("/v1/dishes:watch").send().await.expect("a stream");
    let slow = house.get("/v1/dishes/slow").header("grpc-timeout", "1S");
    let slow = tokio::spawn(Answer::of(slow));
    testkit::eventually(LONG, || async {
        Some(()).filter(|()| house.seen.calls() == 2).ok_or(house.seen.calls())
    })
    .await;
    house.shutdown.trigger();
    let answer = Answer::of(house.get("/v1/dishes/1")).await;
    assert_eq!(answer.status, 200, "until load balancers have noticed");
    let text = watch.text().await.expect("a body");
    let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!(reason(&last["error"]), "SHUTTING_DOWN");
    assert_eq!(slow.await.expect("an answer").status, 504, "in its own time");
    timeout(LONG, house.served).await.expect("it ends").expect("well");
    let gone = reqwest::Client::new().request(Method::GET, format!("http://{}", house.address));
    gone.send().await.expect_err("nobody listens");
}
