//! What the adapter makes of answers, each made by hand. What it makes of the simulated provider is
//! tested beside that one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::Request;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use kernel::{CustomerId, DrivingId, Money, Uuid};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_millis(50);
const KEY: Uuid = Uuid::from_u128(7);
const REFUND_KEY: Uuid = Uuid::from_u128(8);

fn charge() -> Charge {
    Charge {
        key: KEY,
        amount: Money::won(3000),
        customer: CustomerId::from_subject("C1"),
        driving: DrivingId(Uuid::from_u128(2)),
    }
}

fn refund() -> Refund {
    Refund { key: REFUND_KEY, charge: KEY, amount: Money::won(1000) }
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, format!("http://{address}"))
}

/// A provider made by hand, and the adapter that asks it.
struct House {
    adapter: HttpProvider,
    server: JoinHandle<()>,
}

impl House {
    async fn of(provider: Router) -> House {
        let (listener, url) = listener().await;
        let server = tokio::spawn(async { axum::serve(listener, provider).await.expect("serves") });
        House { adapter: HttpProvider::new(&url), server }
    }

    /// Answers everything with this.
    async fn answering(answer: impl IntoResponse + Clone + Send + Sync + 'static) -> House {
        House::of(Router::new().fallback(any(async move || answer))).await
    }

    /// Never answers.
    async fn silent() -> House {
        let never = async |_: Request| std::future::pending::<StatusCode>().await;
        House::of(Router::new().fallback(never)).await
    }

    async fn charge(&self) -> Verdict {
        self.adapter.charge(&charge(), PATIENCE).await
    }

    async fn look_up(&self) -> Verdict {
        self.adapter.look_up(&charge(), PATIENCE).await
    }

    async fn refund(&self) -> RefundVerdict {
        self.adapter.refund(&refund(), PATIENCE).await
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn approved() -> Value {
    json!({
        "id": "ch_1", "idempotency_key": KEY.to_string(), "amount": 3000, "currency": "KRW",
        "status": "approved", "decline_reason": null,
    })
}

fn refunded() -> Value {
    json!({
        "id": "re_1", "idempotency_key": REFUND_KEY.to_string(), "charge": KEY.to_string(),
        "amount": 1000, "currency": "KRW", "status": "succeeded",
    })
}

fn with(mut answer: Value, field: &str, value: Value) -> Json<Value> {
    answer[field] = value;
    Json(answer)
}

#[tokio::test]
async fn a_charge_is_asked_for_under_its_key_and_taken() {
    async fn charges(headers: HeaderMap, Json(wish): Json<Value>) -> Response {
        let key = headers.get("idempotency-key").expect("a key").to_str().expect("text");
        let driving = DrivingId(Uuid::from_u128(2)).to_string();
        let fee = json!({
            "amount": 3000, "currency": "KRW", "customer": "customers/C1", "driving": driving,
        });
        assert_eq!((key, wish), (KEY.to_string().as_str(), fee));
        Json(approved()).into_response()
    }
    let house = House::of(Router::new().route("/v1/charges", post(charges))).await;
    assert_eq!(house.charge().await, Verdict::Approved { reference: "ch_1".to_owned() });
}

#[tokio::test]
async fn a_charge_is_looked_up_by_its_key() {
    let path = format!("/v1/charges/{KEY}");
    let house = House::of(Router::new().route(&path, get(async || Json(approved())))).await;
    assert_eq!(house.look_up().await, Verdict::Approved { reference: "ch_1".to_owned() });
}

#[tokio::test]
async fn a_refund_is_asked_for_under_its_own_key() {
    async fn refunds(headers: HeaderMap, Json(wish): Json<Value>) -> Response {
        let key = headers.get("idempotency-key").expect("a key").to_str().expect("text");
        let sum = json!({"amount": 1000, "currency": "KRW"});
        assert_eq!((key, wish), (REFUND_KEY.to_string().as_str(), sum));
        Json(refunded()).into_response()
    }
    let path = format!("/v1/charges/{KEY}/refunds");
    let house = House::of(Router::new().route(&path, post(refunds))).await;
    assert_eq!(house.refund().await, RefundVerdict::Refunded);
}

#[tokio::test]
async fn a_declined_charge_is_refused() {
    let mut answer = approved();
    answer["status"] = "declined".into();
    answer["decline_reason"] = "insufficient_funds\n".into();
    let house = House::answering(Json(answer)).await;
    let declined = Verdict::Declined { reason: "insufficient_funds".to_owned() };
    assert_eq!((house.charge().await, house.look_up().await), (declined.clone(), declined));
    let house = House::answering(with(approved(), "status", "declined".into())).await;
    assert_eq!(house.charge().await, Verdict::Declined { reason: String::new() });
}

#[tokio::test]
async fn a_status_says_whether_it_is_certain() {
    use Verdict::{NotCharged, Unknown};
    let refused = || RefundVerdict::Refused { reason: "no".to_owned() };
    let again = || RefundVerdict::Unknown;
    for (status, charge, look_up, refund) in [
        (429, NotCharged, Unknown, again()),
        (503, NotCharged, Unknown, again()),
        (400, NotCharged, Unknown, refused()),
        (401, NotCharged, Unknown, again()),
        (404, NotCharged, NotCharged, refused()),
        (422, NotCharged, Unknown, refused()),
        (408, Unknown, Unknown, again()),
        (409, Unknown, Unknown, again()),
        (500, Unknown, Unknown, again()),
        (502, Unknown, Unknown, again()),
        (504, Unknown, Unknown, again()),
        (302, Unknown, Unknown, again()),
    ] {
        let answer = StatusCode::from_u16(status).expect("a status");
        let house = House::answering((answer, Json(json!({"error": "no"})))).await;
        assert_eq!(house.charge().await, charge, "{status}");
        assert_eq!(house.look_up().await, look_up, "{status}");
        assert_eq!(house.refund().await, refund, "{status}");
    }
}

#[tokio::test]
async fn a_refusal_by_somebody_on_the_way_is_not_the_providers() {
    for status in [StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND, StatusCode::UNPROCESSABLE_ENTITY]
    {
        let bare = House::answering((status, "<html>")).await;
        assert_eq!(bare.refund().await, RefundVerdict::Unknown, "{status}");
        assert_eq!(bare.look_up().await, Verdict::Unknown, "{status}");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_about_what_we_asked_says_nothing() {
    for answer in [
        with(approved(), "amount", 3001.into()),
        with(approved(), "currency", "USD".into()),
        with(approved(), "idempotency_key", Uuid::nil().to_string().into()),
        with(approved(), "status", "pending".into()),
        with(approved(), "id", Value::Null),
    ] {
        let house = House::answering(answer.clone()).await;
        assert_eq!(house.charge().await, Verdict::Unknown, "{}", answer.0);
        assert_eq!(house.look_up().await, Verdict::Unknown, "{}", answer.0);
    }
    for answer in [
        with(refunded(), "amount", 1001.into()),
        with(refunded(), "currency", "USD".into()),
        with(refunded(), "idempotency_key", KEY.to_string().into()),
        with(refunded(), "charge", REFUND_KEY.to_string().into()),
    ] {
        let house = House::answering(answer.clone()).await;
        assert_eq!(house.refund().await, RefundVerdict::Unknown, "{}", answer.0);
    }
    let house = House::answering("approved").await;
    assert_eq!(house.charge().await, Verdict::Unknown);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let provider = Router::new()
        .route("/v1/charges", post(async || Redirect::to("/elsewhere")))
        .route("/elsewhere", get(async || Json(approved())));
    assert_eq!(House::of(provider).await.charge().await, Verdict::Unknown);
}

#[tokio::test]
async fn silence_is_no_answer() {
    let House { adapter, .. } = &House::silent().await;
    assert_eq!(adapter.charge(&charge(), SOON).await, Verdict::Unknown);
    assert_eq!(adapter.look_up(&charge(), SOON).await, Verdict::Unknown);
    assert_eq!(adapter.refund(&refund(), SOON).await, RefundVerdict::Unknown);
}

#[tokio::test]
async fn a_connection_cut_after_sending_is_no_answer() {
    let (listener, url) = listener().await;
    let cut = async {
        let (mut connection, _) = listener.accept().await.expect("a connection");
        connection.read_exact(&mut [0; 16]).await.expect("a request");
    };
    let (provider, charge) = (HttpProvider::new(&url), charge());
    let (verdict, ()) = tokio::join!(provider.charge(&charge, PATIENCE), cut);
    assert_eq!(verdict, Verdict::Unknown);
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_has_not_charged() {
    let (listener, url) = listener().await;
    drop(listener);
    for url in [url.as_str(), ""] {
        let provider = HttpProvider::new(url);
        assert_eq!(provider.charge(&charge(), PATIENCE).await, Verdict::NotCharged, "{url}");
        assert_eq!(provider.look_up(&charge(), PATIENCE).await, Verdict::Unknown, "{url}");
        assert_eq!(provider.refund(&refund(), PATIENCE).await, RefundVerdict::Unknown, "{url}");
    }
}

/// A provider that counts how often it is asked.
async fn counting(answer: impl IntoResponse + Clone + Send + Sync + 'static) -> (House, Count) {
    let count = Count::default();
    let counted = count.clone();
    let answers = any(async move || {
        counted.0.fetch_add(1, Ordering::SeqCst);
        answer
    });
    (House::of(Router::new().fallback(answers)).await, count)
}

#[derive(Clone, Default)]
struct Count(Arc<AtomicUsize>);

impl Count {
    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// More failures than any breaker bears.
const MANY: usize = 30;

#[tokio::test]
async fn a_provider_that_fails_is_left_alone_and_nothing_is_claimed() {
    for status in [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::SERVICE_UNAVAILABLE] {
        let (house, asked) = counting(status).await;
        for _ in 0..MANY {
            house.charge().await;
        }
        let before = asked.get();
        assert!(before < MANY, "{before} requests");
        assert_eq!(house.charge().await, Verdict::NotCharged);
        assert_eq!(house.look_up().await, Verdict::Unknown);
        assert_eq!(house.refund().await, RefundVerdict::Unknown);
        assert_eq!(asked.get(), before);
    }
}

#[tokio::test]
async fn a_provider_that_hangs_does_not_cost_every_ride_its_timeout() {
    let house = House::silent().await;
    let mut unknown = 0;
    for _ in 0..MANY {
        let verdict = house.adapter.charge(&charge(), FAIR_PATIENCE).await;
        unknown += usize::from(verdict == Verdict::Unknown);
    }
    assert!((1..MANY).contains(&unknown), "{unknown} waited");
    assert_eq!(house.charge().await, Verdict::NotCharged, "at once, whatever the patience");
}

#[tokio::test]
async fn what_is_not_the_providers_failure_is_not_held_against_it() {
    let (house, asked) = counting(with(approved(), "status", "declined".into())).await;
    for _ in 0..MANY {
        assert_eq!(house.charge().await, Verdict::Declined { reason: String::new() });
    }
    assert_eq!(asked.get(), MANY);
    let (house, asked) = counting((StatusCode::NOT_FOUND, Json(json!({"error": "no"})))).await;
    for _ in 0..MANY {
        assert_eq!(house.look_up().await, Verdict::NotCharged);
    }
    assert_eq!(asked.get(), MANY);
    let hasty = House::silent().await;
    for _ in 0..MANY {
        let verdict = hasty.adapter.charge(&charge(), Duration::from_millis(1)).await;
        assert_eq!(verdict, Verdict::Unknown);
    }
}
