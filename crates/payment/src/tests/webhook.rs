//! What the provider says without being asked, over HTTP: only a hint, and only from the provider.

use axum::Router;
use axum::http::{HeaderName, StatusCode};
use kernel::Timestamp;
use platform::webhooks::{Secret, TOLERANCE};
use reqwest::Client;
use serde_json::json;
use tokio::net::TcpListener;

use super::house::{House, Mood, everywhere, fee};
use super::*;
use crate::webhook::{PATH, route};

const OURS: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn secret(text: &str) -> Secret {
    text.parse().expect("a secret")
}

/// Payment's door for webhooks.
struct Door {
    url: String,
    http: Client,
}

impl Door {
    async fn of(house: &House, secret: Option<Secret>) -> Door {
        let answers = route(house.grpc.payments.clone(), secret, house.grpc.clock.clone());
        let router = Router::new().route(PATH, answers);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}{PATH}", listener.local_addr().expect("an address"));
        tokio::spawn(async { axum::serve(listener, router).await });
        Door { url, http: Client::builder().no_proxy().build().expect("a client") }
    }

    async fn send(&self, headers: &[(HeaderName, String)], body: &str) -> StatusCode {
        let request = self.http.post(&self.url).body(body.to_owned());
        let headers = headers.iter();
        let request = headers.fold(request, |it, (name, value)| it.header(name, value));
        request.send().await.expect("an answer").status()
    }

    /// Sends news of a driving, signed like this.
    async fn news_of(&self, driving: &str, signer: &str, now: Timestamp) -> StatusCode {
        let body = json!({"type": "charge.approved", "data": {"driving": driving}}).to_string();
        self.send(&secret(signer).sign("msg_1", now, body.as_bytes()), &body).await
    }
}

#[tokio::test]
async fn a_webhook_makes_us_ask_now_instead_of_later() {
    everywhere(async |house| {
        let door = Door::of(house, Some(secret(OURS))).await;
        house.provider.is([Mood::LosesItsAnswer]);
        let unknown = house.pay(fee(1, 1)).await.expect("an answer");
        assert_eq!(unknown.state(), State::Unknown);
        let now = house.grpc.clock.now();
        for forged in [
            door.news_of(&unknown.driving, OTHER, now).await,
            door.news_of(&unknown.driving, OURS, now.minus(TOLERANCE + SECOND)).await,
            door.send(&[], "{}").await,
        ] {
            assert_eq!(forged, StatusCode::UNAUTHORIZED);
        }
        assert_eq!(house.now(&unknown).await, unknown, "a forgery changes nothing");

        assert_eq!(door.news_of(&unknown.driving, OURS, now).await, StatusCode::NO_CONTENT);
        assert_eq!(house.after(Duration::ZERO).await, 1, "due at once");
        let paid = house.now(&unknown).await;
        assert_eq!(paid.state(), State::Approved);
        assert_eq!(door.news_of(&unknown.driving, OURS, now).await, StatusCode::NO_CONTENT);
        assert_eq!(house.after(Duration::ZERO).await, 0);
        assert_eq!(house.now(&unknown).await, paid, "a duplicate changes nothing");
        assert_eq!(house.provider.counts(), (2, 1));
    })
    .await;
}

#[tokio::test]
async fn only_what_can_be_believed_and_read_is_heard() {
    everywhere(async |house| {
        let door = Door::of(house, Some(secret(OURS))).await;
        let now = house.grpc.clock.now();
        let nobody = kernel::DrivingId(kernel::Uuid::from_u128(99)).to_string();
        assert_eq!(door.news_of(&nobody, OURS, now).await, StatusCode::NO_CONTENT);
        assert_eq!(door.news_of("payments/1", OURS, now).await, StatusCode::BAD_REQUEST);
        let body = r#"{"type": "charge.approved"}"#;
        let signed = secret(OURS).sign("msg_1", now, body.as_bytes());
        assert_eq!(door.send(&signed, body).await, StatusCode::BAD_REQUEST);

        let closed = Door::of(house, None).await;
        assert_eq!(closed.news_of(&nobody, OURS, now).await, StatusCode::NOT_FOUND);
    })
    .await;
}
