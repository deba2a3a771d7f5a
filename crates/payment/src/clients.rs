//! The payment provider over HTTP, and what its answers mean for the money.
//!
//! | the provider | a charge | a look-up | a refund |
//! |---|---|---|---|
//! | answers with ours, approved | is taken | was taken | is made |
//! | answers with ours, declined | is refused | was refused | |
//! | cannot be reached; 429, 503 | is not taken by this attempt | says nothing | is to be asked for again |
//! | 400, 422 with its reason | is not taken by this attempt | says nothing | is refused |
//! | 404 with its reason | is not taken by this attempt | there is none | is refused |
//! | any other 4xx, or without a reason, but 408 and 409 | is not taken by this attempt | says nothing | is to be asked for again |
//! | is silent, cuts the connection, answers with anything else | may be taken | says nothing | is to be asked for again |
//!
//! Only what is certain counts as not taken. A refusal under the key of another amount (409) and a
//! request the provider gave up on (408) are not certain.
//!
//! Around it is a circuit breaker: a provider that hangs must not cost every ride its timeout. While
//! it is open nobody is asked, so a charge is not taken, and all else is not known. Only what the
//! provider fails to do opens it: a charge that it declines does not, nor does our own impatience.

#[cfg(test)]
mod tests;

use std::time::Duration;

use platform::breaker::{Breaker, BreakerConfig};
use platform::telemetry::Exchange;
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::measure::Asked;
use crate::ports::{Charge, Provider, Refund, RefundVerdict, Verdict};

const CURRENCY: &str = "KRW";
/// Where the provider is asked, as traces have it.
const CHARGES: &str = "/v1/charges";
const CHARGE: &str = "/v1/charges/{key}";
const REFUNDS: &str = "/v1/charges/{charge}/refunds";
/// Silence for less than this is not held against the provider: we were in a hurry.
const FAIR_PATIENCE: Duration = Duration::from_millis(100);

/// The provider at one address. Its interface is described in `docs/provider-api.md`.
pub struct HttpProvider {
    http: Client,
    charges: String,
    breaker: Breaker,
}

impl HttpProvider {
    /// The provider at this base address.
    pub fn new(url: &str) -> HttpProvider {
        // A redirected POST would become a GET, and its answer nobody's charge.
        let builder = Client::builder().redirect(Policy::none());
        // Nobody's proxy knows our loopback.
        let loopback = ["http://127.0.0.1", "http://localhost", "http://[::1]"];
        let builder = match loopback.iter().any(|start| url.starts_with(start)) {
            true => builder.no_proxy(),
            false => builder,
        };
        HttpProvider {
            http: builder.build().unwrap_or_default(),
            charges: format!("{}/v1/charges", url.trim_end_matches('/')),
            breaker: Breaker::new("provider", BreakerConfig::default()),
        }
    }

    /// Asks, unless the breaker is open, and tells the breaker what came of it.
    async fn ask<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        patience: Duration,
        span: impl FnOnce() -> Exchange,
    ) -> Result<T, Trouble> {
        let permit = self.breaker.admit().map_err(|_open| Trouble::Open)?;
        let answer = exchange(request.timeout(patience), span()).await;
        match &answer {
            Err(trouble) if trouble.is_silence() && patience < FAIR_PATIENCE => drop(permit),
            Err(trouble) if trouble.is_the_providers() => permit.failed(),
            _ => permit.succeeded(),
        }
        answer
    }

    async fn post_charge(&self, charge: &Charge, patience: Duration) -> Result<Verdict, Trouble> {
        let wish = ChargeWish {
            amount: charge.amount.as_won(),
            currency: CURRENCY,
            customer: charge.customer.to_string(),
            driving: charge.driving.to_string(),
        };
        let request =
            self.http.post(&self.charges).header("Idempotency-Key", charge.key.to_string());
        let span = || Exchange::asked(&Method::POST, CHARGES);
        self.ask::<ChargeAnswer>(request.json(&wish), patience, span).await?.verdict(charge)
    }

    async fn get_charge(&self, charge: &Charge, patience: Duration) -> Result<Verdict, Trouble> {
        let request = self.http.get(format!("{}/{}", self.charges, charge.key));
        let span = || Exchange::asked(&Method::GET, CHARGE);
        self.ask::<ChargeAnswer>(request, patience, span).await?.verdict(charge)
    }

    async fn post_refund(&self, refund: &Refund, patience: Duration) -> Result<(), Trouble> {
        let wish = RefundWish { amount: refund.amount.as_won(), currency: CURRENCY };
        let request = self
            .http
            .post(format!("{}/{}/refunds", self.charges, refund.charge))
            .header("Idempotency-Key", refund.key.to_string());
        let span = || Exchange::asked(&Method::POST, REFUNDS);
        self.ask::<RefundAnswer>(request.json(&wish), patience, span).await?.require(refund)
    }
}

#[async_trait::async_trait]
impl Provider for HttpProvider {
    async fn charge(&self, charge: &Charge, patience: Duration) -> Verdict {
        let asked = Asked::now("charge");
        let answer = self.post_charge(charge, patience).await;
        let heard = was_asked(&answer);
        let verdict = answer.unwrap_or_else(|trouble| {
            trouble.log("charge", &charge.key);
            match trouble.has_done_nothing() {
                true => Verdict::NotCharged,
                false => Verdict::Unknown,
            }
        });
        heard.then(|| asked.charged(&verdict));
        verdict
    }

    async fn look_up(&self, charge: &Charge, patience: Duration) -> Verdict {
        let asked = Asked::now("look_up");
        let answer = self.get_charge(charge, patience).await;
        let heard = was_asked(&answer);
        let verdict = match answer {
            Ok(verdict) => verdict,
            Err(Trouble::Status(StatusCode::NOT_FOUND, Some(_))) => Verdict::NotCharged,
            Err(trouble) => {
                trouble.log("look-up", &charge.key);
                Verdict::Unknown
            }
        };
        heard.then(|| asked.charged(&verdict));
        verdict
    }

    async fn refund(&self, refund: &Refund, patience: Duration) -> RefundVerdict {
        let asked = Asked::now("refund");
        let answer = self.post_refund(refund, patience).await;
        let heard = was_asked(&answer);
        let verdict = match answer {
            Ok(()) => RefundVerdict::Refunded,
            // In the provider's own words: a refusal without may be that of somebody on the way, and
            // an earlier request may have been heard.
            Err(Trouble::Status(
                StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::UNPROCESSABLE_ENTITY,
                Some(reason),
            )) => RefundVerdict::Refused { reason },
            Err(trouble) => {
                trouble.log("refund", &refund.key);
                RefundVerdict::Unknown
            }
        };
        heard.then(|| asked.refunded(&verdict));
        verdict
    }
}

/// Whether the provider was asked at all.
fn was_asked<T>(answer: &Result<T, Trouble>) -> bool {
    !matches!(answer, Err(Trouble::Open))
}

/// One request and its whole answer.
async fn exchange<T: DeserializeOwned>(
    request: RequestBuilder,
    mut span: Exchange,
) -> Result<T, Trouble> {
    let response = request.send().await.inspect_err(|error| {
        span.broke(if error.is_timeout() { "timeout" } else { "connection" });
    })?;
    let status = response.status();
    span.answered(status);
    let body = response.bytes().await?;
    match status.is_success() {
        true => Ok(serde_json::from_slice(&body)?),
        false => Err(Trouble::Status(status, reason(&body))),
    }
}

/// Why the provider refuses, in its words, if these are its words.
fn reason(body: &[u8]) -> Option<String> {
    let refusal = serde_json::from_slice::<Refusal>(body).ok()?;
    Some(readable(&refusal.error))
}

/// The charge we ask for.
#[derive(Serialize)]
struct ChargeWish {
    amount: i64,
    currency: &'static str,
    customer: String,
    driving: String,
}

/// The charge the provider answers with.
#[derive(Deserialize)]
struct ChargeAnswer {
    id: String,
    idempotency_key: String,
    amount: i64,
    currency: String,
    status: ChargeStatus,
    decline_reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ChargeStatus {
    Approved,
    Declined,
}

impl ChargeAnswer {
    /// What it means, if it is about our charge.
    fn verdict(self, charge: &Charge) -> Result<Verdict, Trouble> {
        let ours = (charge.key.to_string(), charge.amount.as_won(), CURRENCY);
        let theirs = (self.idempotency_key, self.amount, self.currency.as_str());
        if theirs != ours {
            return Err(Trouble::another(&self.id, &theirs.0, self.amount, &self.currency));
        }
        Ok(match self.status {
            ChargeStatus::Approved => Verdict::Approved { reference: readable(&self.id) },
            ChargeStatus::Declined => {
                Verdict::Declined { reason: readable(&self.decline_reason.unwrap_or_default()) }
            }
        })
    }
}

/// The refund we ask for.
#[derive(Serialize)]
struct RefundWish {
    amount: i64,
    currency: &'static str,
}

/// The refund the provider answers with.
#[derive(Deserialize)]
struct RefundAnswer {
    id: String,
    idempotency_key: String,
    charge: String,
    amount: i64,
    currency: String,
}

impl RefundAnswer {
    /// It has to be about our refund.
    fn require(self, refund: &Refund) -> Result<(), Trouble> {
        let ours = (refund.key.to_string(), refund.charge.to_string(), refund.amount.as_won());
        let theirs = (self.idempotency_key, self.charge, self.amount);
        match theirs == ours && self.currency == CURRENCY {
            true => Ok(()),
            false => Err(Trouble::another(&self.id, &theirs.0, self.amount, &self.currency)),
        }
    }
}

/// What every refusal looks like.
#[derive(Deserialize)]
struct Refusal {
    error: String,
}

/// Why there is no answer about what we asked for.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the provider was not asked: it has failed too often of late")]
    Open,
    #[error("the exchange failed")]
    Exchange(#[from] reqwest::Error),
    #[error("the provider answered {0}: {why}", why = .1.as_deref().unwrap_or("without a word"))]
    Status(StatusCode, Option<String>),
    #[error("the provider's answer cannot be read")]
    Unreadable(#[from] serde_json::Error),
    #[error("the provider answered with {0}, which we did not ask for")]
    Another(String),
}

impl Trouble {
    fn another(id: &str, key: &str, amount: i64, currency: &str) -> Trouble {
        Trouble::Another(readable(&format!("{id} of {amount} {currency} under key {key}")))
    }

    /// Whether it is certain that the request has had no effect.
    fn has_done_nothing(&self) -> bool {
        match self {
            Trouble::Open => true,
            // Nothing was sent.
            Trouble::Exchange(error) => error.is_connect() || error.is_builder(),
            Trouble::Status(StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT, _) => false,
            Trouble::Status(status, _) => {
                status.is_client_error() || *status == StatusCode::SERVICE_UNAVAILABLE
            }
            Trouble::Unreadable(_) | Trouble::Another(_) => false,
        }
    }

    /// Whether there was no answer in time.
    fn is_silence(&self) -> bool {
        matches!(self, Trouble::Exchange(error) if error.is_timeout())
    }

    /// Whether the provider has failed: evidence for the breaker.
    fn is_the_providers(&self) -> bool {
        match self {
            Trouble::Exchange(error) => !error.is_builder(),
            Trouble::Status(status, _) => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            Trouble::Open | Trouble::Unreadable(_) | Trouble::Another(_) => false,
        }
    }

    fn log(&self, what: &'static str, key: &kernel::Uuid) {
        let error: &(dyn std::error::Error + 'static) = self;
        match self {
            // Said when it opened.
            Trouble::Open => tracing::debug!(what, %key, error, "no verdict from the provider"),
            _ => tracing::warn!(what, %key, error, "no verdict from the provider"),
        }
    }
}

/// What a provider writes may be anything; what we keep of it is a line that every database takes.
fn readable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
