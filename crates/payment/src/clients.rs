//! The payment provider over HTTP: `POST /v1/charges`, and what an answer means for the fee.
//!
//! | the provider | the fee |
//! |---|---|
//! | answers with our charge, approved | is taken |
//! | answers with our charge, declined | is refused |
//! | cannot be reached; 429, 503; any other 4xx | is not taken by this attempt |
//! | is silent, cuts the connection, answers with anything else | may have been taken |
//!
//! Only what is certain counts as not taken. A refusal under the key of another amount (409) and a
//! request the provider gave up on (408) are not certain.

use std::error::Error;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use serde::{Deserialize, Serialize};

use crate::ports::{Charge, Provider, Verdict};

const CURRENCY: &str = "KRW";

/// The provider at one address.
pub(crate) struct HttpProvider {
    http: Client,
    charges: String,
}

impl HttpProvider {
    /// The provider at this base address.
    pub(crate) fn new(url: &str) -> HttpProvider {
        // A redirected POST would become a GET, and its answer nobody's charge.
        let builder = Client::builder().redirect(Policy::none());
        // Nobody's proxy knows our loopback.
        let loopback = ["http://127.0.0.1", "http://localhost", "http://[::1]"];
        let builder = match loopback.iter().any(|start| url.starts_with(start)) {
            true => builder.no_proxy(),
            false => builder,
        };
        let charges = format!("{}/v1/charges", url.trim_end_matches('/'));
        HttpProvider { http: builder.build().unwrap_or_default(), charges }
    }

    async fn post(&self, charge: &Charge, patience: Duration) -> Result<Answer, Trouble> {
        let wish = Wish {
            amount: charge.amount.as_won(),
            currency: CURRENCY,
            customer: charge.customer.to_string(),
            driving: charge.driving.to_string(),
        };
        let response = self
            .http
            .post(&self.charges)
            .header("Idempotency-Key", charge.key.to_string())
            .timeout(patience)
            .json(&wish)
            .send()
            .await?;
        match response.status() {
            status if status.is_success() => Ok(response.json().await?),
            status => Err(Trouble::Status(status)),
        }
    }
}

#[async_trait::async_trait]
impl Provider for HttpProvider {
    async fn charge(&self, charge: &Charge, patience: Duration) -> Verdict {
        let answer = self.post(charge, patience).await;
        answer.and_then(|answer| answer.verdict(charge)).unwrap_or_else(|trouble| {
            let error: &(dyn Error + 'static) = &trouble;
            tracing::warn!(driving = %charge.driving, error, "no verdict from the provider");
            trouble.verdict()
        })
    }
}

/// What we ask for.
#[derive(Serialize)]
struct Wish {
    amount: i64,
    currency: &'static str,
    customer: String,
    driving: String,
}

/// What the provider answers.
#[derive(Deserialize)]
struct Answer {
    id: String,
    idempotency_key: String,
    amount: i64,
    currency: String,
    status: Status,
    decline_reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Approved,
    Declined,
}

impl Answer {
    /// What it means, if it is about our charge.
    fn verdict(self, charge: &Charge) -> Result<Verdict, Trouble> {
        let Answer { id, idempotency_key: key, amount, currency, .. } = self;
        let ours = (charge.key.to_string(), charge.amount.as_won(), CURRENCY);
        if (key.as_str(), amount, currency.as_str()) != (ours.0.as_str(), ours.1, ours.2) {
            return Err(Trouble::AnotherCharge { id, key, amount, currency });
        }
        Ok(match self.status {
            Status::Approved => Verdict::Approved { reference: readable(&id) },
            Status::Declined => {
                Verdict::Declined { reason: readable(&self.decline_reason.unwrap_or_default()) }
            }
        })
    }
}

/// Why there is no answer about our charge.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the exchange failed")]
    Exchange(#[from] reqwest::Error),
    #[error("the provider answered {0}")]
    Status(StatusCode),
    #[error("the provider answered with charge {id} of {amount} {currency} under key {key}")]
    AnotherCharge { id: String, key: String, amount: i64, currency: String },
}

impl Trouble {
    fn verdict(&self) -> Verdict {
        match self {
            // Nothing was sent.
            Trouble::Exchange(error) if error.is_connect() || error.is_builder() => {
                Verdict::NotCharged
            }
            Trouble::Status(StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT) => Verdict::Unknown,
            Trouble::Status(StatusCode::SERVICE_UNAVAILABLE) => Verdict::NotCharged,
            Trouble::Status(status) if status.is_client_error() => Verdict::NotCharged,
            Trouble::Exchange(_) | Trouble::Status(_) | Trouble::AnotherCharge { .. } => {
                Verdict::Unknown
            }
        }
    }
}

/// What a provider writes may be anything; what we keep of it is a line that every database takes.
fn readable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use axum::extract::Request;
    use axum::http::HeaderMap;
    use axum::response::{IntoResponse, Redirect, Response};
    use axum::routing::{get, post};
    use axum::{Json, Router};
    use kernel::{CustomerId, DrivingId, Money, Uuid};
    use serde_json::{Value, json};
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);
    const SOON: Duration = Duration::from_millis(50);
    const KEY: Uuid = Uuid::from_u128(7);

    fn charge() -> Charge {
        Charge {
            key: KEY,
            amount: Money::won(3000),
            customer: CustomerId::from_subject("C1"),
            driving: DrivingId(Uuid::from_u128(2)),
        }
    }

    async fn listener() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        (listener, format!("http://{address}"))
    }

    /// What a charge comes to at a provider like this.
    async fn charged_at(provider: Router, patience: Duration) -> Verdict {
        let (listener, url) = listener().await;
        let server = tokio::spawn(async { axum::serve(listener, provider).await });
        let verdict = HttpProvider::new(&url).charge(&charge(), patience).await;
        server.abort();
        verdict
    }

    /// What a charge comes to when it is answered with this.
    async fn answered(answer: impl IntoResponse + Clone + Send + Sync + 'static) -> Verdict {
        let charges = post(async move || answer);
        charged_at(Router::new().route("/v1/charges", charges), PATIENCE).await
    }

    fn approved() -> Value {
        json!({
            "id": "ch_1", "idempotency_key": KEY.to_string(), "amount": 3000, "currency": "KRW",
            "status": "approved", "decline_reason": null,
        })
    }

    fn with(field: &str, value: Value) -> Json<Value> {
        let mut answer = approved();
        answer[field] = value;
        Json(answer)
    }

    #[tokio::test]
    async fn an_approved_charge_is_taken() {
        async fn charges(headers: HeaderMap, Json(wish): Json<Value>) -> Response {
            let key = headers.get("idempotency-key").expect("a key").to_str().expect("text");
            let driving = DrivingId(Uuid::from_u128(2)).to_string();
            let fee = json!({
                "amount": 3000, "currency": "KRW", "customer": "customers/C1", "driving": driving,
            });
            assert_eq!((key, wish), (KEY.to_string().as_str(), fee));
            Json(approved()).into_response()
        }
        let provider = Router::new().route("/v1/charges", post(charges));
        let reference = "ch_1".to_owned();
        assert_eq!(charged_at(provider, PATIENCE).await, Verdict::Approved { reference });
    }

    #[tokio::test]
    async fn a_declined_charge_is_refused() {
        let mut answer = approved();
        answer["status"] = "declined".into();
        answer["decline_reason"] = "insufficient_funds".into();
        let reason = "insufficient_funds".to_owned();
        assert_eq!(answered(Json(answer)).await, Verdict::Declined { reason });
        let declined = answered(with("status", "declined".into())).await;
        assert_eq!(declined, Verdict::Declined { reason: String::new() });
    }

    #[tokio::test]
    async fn a_status_says_whether_it_is_certain() {
        for (status, verdict) in [
            (429, Verdict::NotCharged),
            (503, Verdict::NotCharged),
            (400, Verdict::NotCharged),
            (401, Verdict::NotCharged),
            (500, Verdict::Unknown),
            (502, Verdict::Unknown),
            (504, Verdict::Unknown),
            (408, Verdict::Unknown),
            (409, Verdict::Unknown),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(answered(status).await, verdict, "{status}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_not_about_our_charge_says_nothing() {
        for answer in [
            with("amount", 3001.into()),
            with("currency", "USD".into()),
            with("idempotency_key", Uuid::nil().to_string().into()),
            with("status", "pending".into()),
            with("id", Value::Null),
        ] {
            assert_eq!(answered(answer.clone()).await, Verdict::Unknown, "{}", answer.0);
        }
        assert_eq!(answered("approved").await, Verdict::Unknown);
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let provider = Router::new()
            .route("/v1/charges", post(async || Redirect::to("/elsewhere")))
            .route("/elsewhere", get(async || Json(approved())));
        assert_eq!(charged_at(provider, PATIENCE).await, Verdict::Unknown);
    }

    #[tokio::test]
    async fn silence_is_no_answer() {
        let never = post(async |_: Request| std::future::pending::<StatusCode>().await);
        let provider = Router::new().route("/v1/charges", never);
        assert_eq!(charged_at(provider, SOON).await, Verdict::Unknown);
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
            let verdict = HttpProvider::new(url).charge(&charge(), PATIENCE).await;
            assert_eq!(verdict, Verdict::NotCharged, "{url}");
        }
    }
}
