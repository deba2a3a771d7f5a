//! The provider over real HTTP, on its own and as payment's adapter sees it.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use kernel::{Clock as _, CustomerId, DrivingId, Money};
use payment::clients::HttpProvider;
use payment::ports::{self, Provider as _, RefundVerdict, Verdict};
use platform::clock::SystemClock;
use platform::webhooks::Secret;
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_millis(300);
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A provider that listens.
struct House {
    url: String,
    http: Client,
    server: JoinHandle<()>,
    dir: TempDir,
}

async fn listen(router: Router) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    (url, tokio::spawn(async { axum::serve(listener, router).await.expect("serves") }))
}

impl House {
    async fn open() -> House {
        House::in_dir(tempfile::tempdir().expect("a directory"), None).await
    }

    async fn in_dir(dir: TempDir, webhooks: Option<Webhooks>) -> House {
        let provider = Provider::open(&dir.path().join("provider.db"), 1, webhooks).await;
        let (url, server) = listen(provider.expect("opens").router()).await;
        let http = Client::builder().no_proxy().build().expect("a client");
        House { url, http, server, dir }
    }

    /// It dies, and another one comes up on what it leaves.
    async fn killed(self) -> House {
        self.server.abort();
        House::in_dir(self.dir, None).await
    }

    fn adapter(&self) -> HttpProvider {
        HttpProvider::new(&self.url)
    }

    async fn charge(&self, n: u128) -> Verdict {
        self.adapter().charge(&charge(n), PATIENCE).await
    }

    async fn look_up(&self, n: u128) -> Verdict {
        self.adapter().look_up(&charge(n), PATIENCE).await
    }

    async fn refund(&self, n: u128, of: u128, won: i64) -> RefundVerdict {
        let refund = refund(n, of, won);
        self.adapter().refund(&refund, PATIENCE).await
    }

    async fn call(&self, method: Method, path: &str, body: &str) -> Response {
        let request = self.http.request(method, format!("{}{path}", self.url));
        request.body(body.to_owned()).send().await.expect("an answer")
    }

    async fn set(&self, fault: &str, value: &str) {
        let answer = self.call(Method::PUT, &format!("/v1/faults/{fault}"), value).await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT, "{fault}={value}");
    }

    async fn read(&self, path: &str) -> Value {
        self.call(Method::GET, path, "").await.json().await.expect("JSON")
    }

    /// How many requests, charges and refunds there are.
    async fn counts(&self) -> (usize, usize, usize) {
        let count = async |what: &str| {
            self.read(&format!("/v1/{what}")).await[what].as_array().map_or(0, Vec::len)
        };
        (count("requests").await, count("charges").await, count("refunds").await)
    }
}

fn charge(n: u128) -> ports::Charge {
    charge_of(n, "C1")
}

fn charge_of(n: u128, customer: &str) -> ports::Charge {
    ports::Charge {
        key: Uuid::from_u128(n),
        amount: Money::won(3000),
        customer: CustomerId::from_subject(customer),
        driving: DrivingId(Uuid::from_u128(n << 8)),
    }
}

fn refund(n: u128, of: u128, won: i64) -> ports::Refund {
    ports::Refund { key: Uuid::from_u128(n), charge: charge(of).key, amount: Money::won(won) }
}

#[tokio::test]
async fn a_key_is_charged_once_for_ever() {
    let house = House::open().await;
    assert_eq!(house.look_up(1).await, Verdict::NotCharged);
    let (one, two) = tokio::join!(house.charge(1), house.charge(1));
    let Verdict::Approved { reference } = &one else { panic!("{one:?}") };
    assert!(reference.starts_with("ch_"));
    assert_eq!((&one, house.look_up(1).await), (&two, two.clone()));

    let house = house.killed().await;
    assert_eq!((house.charge(1).await, house.look_up(1).await), (one.clone(), one));
    let other = ports::Charge { amount: Money::won(2000), ..charge(1) };
    assert_eq!(house.adapter().charge(&other, PATIENCE).await, Verdict::Unknown);
    let log = house.read("/v1/charges").await;
    assert_eq!(log["charges"][0]["amount"], 3000);
    assert_eq!(house.counts().await, (7, 1, 0), "each request is on record");
}

#[tokio::test]
async fn who_has_no_money_is_declined() {
    let house = House::open().await;
    let poor = charge_of(1, "declined-joe");
    let declined = Verdict::Declined { reason: "insufficient_funds".to_owned() };
    assert_eq!(house.adapter().charge(&poor, PATIENCE).await, declined);
    assert_eq!(house.adapter().look_up(&poor, PATIENCE).await, declined);
}

#[tokio::test]
async fn what_was_taken_is_given_back_once_and_never_more() {
    let house = House::open().await;
    house.charge(1).await;
    assert_eq!(house.refund(11, 1, 1000).await, RefundVerdict::Refunded);
    assert_eq!(house.refund(11, 1, 1000).await, RefundVerdict::Refunded);
    assert_eq!(house.refund(11, 1, 999).await, RefundVerdict::Unknown, "another under its key");
    let (two, three) = tokio::join!(house.refund(12, 1, 2000), house.refund(13, 1, 2000));
    assert!([&two, &three].contains(&&RefundVerdict::Refunded), "{two:?}, {three:?}");
    let too_much = RefundVerdict::Refused {
        reason: "more than is left of what the charge has taken".to_owned(),
    };
    assert!([&two, &three].contains(&&too_much), "{two:?}, {three:?}");
    assert_eq!(house.refund(14, 1, 1).await, too_much);

    let unknown = house.refund(15, 2, 1).await;
    let reason = "there is no charge with this idempotency key".to_owned();
    assert_eq!(unknown, RefundVerdict::Refused { reason });
    house.adapter().charge(&charge_of(3, "declined-joe"), PATIENCE).await;
    assert_eq!(house.refund(16, 3, 1).await, too_much, "nothing was taken");

    let log = house.read("/v1/refunds").await;
    let sum: i64 = log["refunds"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| it["amount"].as_i64().expect("won"))
        .sum();
    assert_eq!(sum, 3000);
    assert_eq!(log["refunds"][0]["driving"], charge(1).driving.to_string());
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_refused_with_a_sentence() {
    let house = House::open().await;
    let wish = json!({"amount": 3000, "currency": "KRW", "customer": "c", "driving": "d"});
    let post = async |path: &str, key: &str, wish: &Value| {
        let request = house.http.post(format!("{}{path}", house.url)).json(wish);
        let answer = request.header("Idempotency-Key", key).send().await.expect("an answer");
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.expect("JSON")["error"].clone())
    };
    let key = Uuid::from_u128(1).to_string();
    let no_key = (400, json!("send Idempotency-Key: <uuid>"));
    assert_eq!(post("/v1/charges", "", &wish).await, no_key);
    assert_eq!(post("/v1/charges", &key, &json!({})).await.0, 400);
    for (field, value) in [("amount", json!(0)), ("currency", json!("USD"))] {
        let mut wish = wish.clone();
        wish[field] = value;
        assert_eq!(post("/v1/charges", &key, &wish).await.0, 400, "{field}");
    }
    assert_eq!(post("/v1/charges/nonsense/refunds", &key, &wish).await.0, 404);
    assert_eq!(house.counts().await, (0, 0, 0));
}

#[tokio::test]
async fn an_answer_that_is_lost_leaves_one_charge() {
    let house = House::open().await;
    house.set("provider.lose_answers", "1").await;
    for n in 1..=8 {
        assert_eq!(house.charge(n).await, Verdict::Unknown, "cut or bad gateway");
        assert!(matches!(house.look_up(n).await, Verdict::Approved { .. }));
    }
    assert_eq!(house.refund(20, 1, 3000).await, RefundVerdict::Unknown);
    assert_eq!(house.charge(1).await, Verdict::Unknown);
    house.call(Method::DELETE, "/v1/faults", "").await;
    assert!(matches!(house.charge(1).await, Verdict::Approved { .. }));
    assert_eq!(house.refund(20, 1, 3000).await, RefundVerdict::Refunded);
    assert_eq!(house.counts().await, (20, 8, 1));
}

#[tokio::test]
async fn what_is_in_the_way_is_met_before_anything_happens() {
    let house = House::open().await;
    for (fault, value, verdict) in [
        ("provider.down", "true", Verdict::NotCharged),
        ("provider.down", "close", Verdict::Unknown),
        ("provider.error_rate", "1", Verdict::Unknown),
    ] {
        house.set(fault, value).await;
        assert_eq!(house.charge(1).await, verdict, "{fault}={value}");
        assert_eq!(house.look_up(1).await, Verdict::Unknown, "{fault}={value}");
        assert_eq!(house.refund(2, 1, 1).await, RefundVerdict::Unknown, "{fault}={value}");
        house.call(Method::DELETE, &format!("/v1/faults/{fault}"), "").await;
    }
    house.set("provider.hang", "true").await;
    assert_eq!(house.adapter().charge(&charge(1), SOON).await, Verdict::Unknown);
    assert_eq!(house.counts().await, (10, 0, 0), "they asked, and nothing came of it");
}

#[tokio::test]
async fn whoever_hangs_up_is_charged_all_the_same() {
    let house = House::open().await;
    house.set("provider.latency", "600ms").await;
    assert_eq!(house.adapter().charge(&charge(1), SOON).await, Verdict::Unknown);
    testkit::eventually(PATIENCE, || async {
        let counts = house.counts().await;
        if counts == (1, 1, 0) { Ok(()) } else { Err(counts) }
    })
    .await;
}

#[tokio::test]
async fn declines_are_for_new_charges_and_stay() {
    let house = House::open().await;
    let approved = house.charge(1).await;
    house.set("provider.declines", "1").await;
    let declined = Verdict::Declined { reason: "card_declined".to_owned() };
    assert_eq!((house.charge(1).await, house.charge(2).await), (approved, declined.clone()));
    let house = house.killed().await;
    assert_eq!(house.charge(2).await, declined);
    assert!(matches!(house.charge(3).await, Verdict::Approved { .. }), "faults are forgotten");
}

#[tokio::test]
async fn faults_are_listed_and_nonsense_is_explained() {
    let house = House::open().await;
    house.set("provider.latency", "2s").await;
    let faults = house.read("/v1/faults").await["faults"].clone();
    assert_eq!(faults.as_array().map(Vec::len), Some(KNOBS.len()));
    assert_eq!(
        (&faults[0]["name"], &faults[0]["value"]),
        (&json!("provider.latency"), &json!("2s"))
    );
    assert_eq!(house.read("/v1/faults/provider.hang").await["value"], Value::Null);
    for (name, value, why) in [
        ("provider.latency", "fast", "provider.latency takes a duration"),
        ("provider.speed", "9", "there is no fault \"provider.speed\": there are provider.latency"),
    ] {
        let answer = house.call(Method::PUT, &format!("/v1/faults/{name}"), value).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        let answer: Value = answer.json().await.expect("JSON");
        assert!(answer["error"].as_str().is_some_and(|it| it.starts_with(why)), "{answer}");
    }
}

/// Somebody who listens to webhooks and hands on those that are believed. The first is not heard.
async fn ear() -> (String, mpsc::UnboundedReceiver<(String, Value)>) {
    let (heard, ear) = mpsc::unbounded_channel();
    let secret: Secret = SECRET.parse().expect("a secret");
    let deaf = std::sync::atomic::AtomicBool::new(true);
    let deaf = std::sync::Arc::new(deaf);
    let hear = post(async move |headers: HeaderMap, body: Bytes| {
        if deaf.swap(false, std::sync::atomic::Ordering::SeqCst) {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        secret.verify(&headers, &body, SystemClock.now()).expect("signed");
        let id = headers["webhook-id"].to_str().expect("ascii").to_owned();
        heard.send((id, serde_json::from_slice(&body).expect("JSON"))).expect("an ear");
        StatusCode::NO_CONTENT
    });
    let (url, _server) = listen(Router::new().route("/hook", hear)).await;
    (format!("{url}/hook"), ear)
}

#[tokio::test]
async fn webhooks_are_signed_and_sent_until_they_are_heard() {
    let (url, mut ear) = ear().await;
    let webhooks = Webhooks::new(url, SECRET.parse().expect("a secret"));
    let dir = tempfile::tempdir().expect("a directory");
    let house = House::in_dir(dir, Some(webhooks)).await;
    let mut next = async || ear.recv().await.expect("a webhook");

    house.charge(1).await;
    let (_, first) = next().await;
    assert_eq!(
        (&first["type"], &first["data"]["status"]),
        (&json!("charge.approved"), &json!("approved"))
    );
    assert_eq!(first["data"]["driving"], charge(1).driving.to_string());
    // What happened before is no news.
    house.charge(1).await;
    house.adapter().charge(&charge_of(2, "declined-joe"), PATIENCE).await;
    assert_eq!(next().await.1["type"], "charge.declined");

    house.set("provider.duplicate_webhooks", "3").await;
    house.refund(3, 1, 1000).await;
    let refunds = [next().await, next().await, next().await];
    assert_eq!(refunds[0].1["type"], "refund.succeeded");
    assert_eq!(refunds[0].1["data"]["driving"], charge(1).driving.to_string());
    assert!(refunds.iter().all(|refund| *refund == refunds[0]), "the same, under one id");
}
