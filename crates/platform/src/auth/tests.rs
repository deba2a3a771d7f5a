//! Tokens of a real issuer, and what is wrong with others.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::Request as HttpRequest;
use axum::middleware::{Next, from_fn};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use kernel::Clock as _;
use tokio::net::TcpListener;

use super::*;
use crate::clock::SystemClock;
use crate::issuer::{Issuer, LIFETIME};

/// A real issuer on a loopback port, and how often it was asked for anything.
async fn issuer() -> (Issuer, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let issuer = Issuer::new(url, "house");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let counted = from_fn(move |request: HttpRequest, next: Next| {
        count.fetch_add(1, Ordering::SeqCst);
        next.run(request)
    });
    let router = issuer.clone().router().layer(counted);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (issuer, asked)
}

fn verifier(issuer: &Issuer) -> Verifier {
    Verifier::discover(AuthConfig::new(issuer.url(), "house"))
}

async fn refusal(verifier: &Verifier, token: &str) -> &'static str {
    verifier.verify(token).await.expect_err("no good token").reason
}

#[tokio::test]
async fn a_good_token_names_its_bearer_and_asks_the_issuer_once() {
    let (issuer, asked) = issuer().await;
    let verifier = verifier(&issuer);
    let token = issuer.sign("auth0|C1", Role::Operator);
    let expected = Principal { subject: "auth0|C1".to_owned(), roles: vec![Role::Operator] };
    let (one, two) = tokio::join!(verifier.verify(&token), verifier.verify(&token));
    assert_eq!((one, two), (Ok(expected.clone()), Ok(expected)));
    // Discovery and key set, for two tokens at once: single-flight.
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_bad_token_is_refused() {
    let (issuer, _) = issuer().await;
    let verifier = verifier(&issuer);
    let good = issuer.sign("C1", Role::Operator);
    let stranger = Issuer::new(issuer.url(), "house").sign("C1", Role::Operator);
    let (head, signature) = good.rsplit_once('.').expect("three parts");
    let (header, claims) = head.split_once('.').expect("three parts");
    let raised = BASE64_URL_SAFE_NO_PAD.decode(claims).expect("base64");
    let raised = String::from_utf8(raised).expect("UTF-8").replace("C1", "C2");
    let raised = BASE64_URL_SAFE_NO_PAD.encode(raised);
    let none = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    let confused = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    assert_eq!(refusal(&verifier, "").await, "TOKEN_MISSING");
    for token in [
        "nonsense",
        &format!("{header}.{raised}.{signature}"),
        &format!("{none}.{claims}."),
        &format!("{confused}.{claims}.{signature}"),
        &stranger,
        &Issuer::new("http://elsewhere.test", "house").sign("C1", Role::Operator),
    ] {
        assert_eq!(refusal(&verifier, token).await, "TOKEN_INVALID", "{token}");
    }
    let other = Verifier::discover(AuthConfig::new(issuer.url(), "another house"));
    assert_eq!(refusal(&other, &good).await, "TOKEN_INVALID");
    assert!(verifier.verify(&good).await.is_ok());
}

#[tokio::test]
async fn a_token_has_its_time() {
    let (issuer, _) = issuer().await;
    let verifier = verifier(&issuer);
    let second = Duration::from_secs(1);
    let now = SystemClock.now();
    let sign = |at| issuer.sign_at(at, "C1", &[Role::Operator]);
    let expired = sign(now.minus(LIFETIME + LEEWAY + 2 * second));
    assert_eq!(refusal(&verifier, &expired).await, "TOKEN_EXPIRED");
    assert!(verifier.verify(&sign(now.minus(LIFETIME - second))).await.is_ok());
    assert!(verifier.verify(&sign(now.plus(second))).await.is_ok());
    let early = sign(now.plus(LEEWAY + 60 * second));
    assert_eq!(refusal(&verifier, &early).await, "TOKEN_INVALID");
}

#[tokio::test]
async fn a_new_key_is_learnt_and_the_old_one_stays_good() {
    let (issuer, _) = issuer().await;
    let verifier = verifier(&issuer);
    let old = issuer.sign("C1", Role::Operator);
    assert!(verifier.verify(&old).await.is_ok());
    issuer.rotate().expect("in memory");
    let new = issuer.sign("C2", Role::Operator);
    // A moment after the last look: an attacker's tokens must not make us hammer the issuer.
    assert_eq!(refusal(&verifier, &new).await, "TOKEN_INVALID");
    *verifier.0.refresh.lock().await = None;
    assert!(verifier.verify(&new).await.is_ok());
    assert!(verifier.verify(&issuer.sign("C3", Role::Operator)).await.is_ok());
    assert!(verifier.verify(&old).await.is_ok());
}

#[tokio::test]
async fn an_issuer_that_is_away_is_said_to_be_away() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let issuer = Issuer::new(url, "house");
    let token = issuer.sign("C1", Role::Operator);
    assert_eq!(refusal(&verifier(&issuer), &token).await, "ISSUER_UNAVAILABLE");
    let tokens = ServiceTokens::new(issuer.url(), "kitchen", "dev");
    assert_eq!(tokens.token().await.expect_err("away").reason, "ISSUER_UNAVAILABLE");
}

#[tokio::test]
async fn a_service_gets_its_own_token_once() {
    let (issuer, asked) = issuer().await;
    let tokens = ServiceTokens::new(issuer.url(), "kitchen", "dev");
    let (one, two) = tokio::join!(tokens.token(), tokens.token());
    assert_eq!(one, two);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    let principal = verifier(&issuer).verify(&one.expect("a token")).await;
    let expected = Principal { subject: "kitchen".to_owned(), roles: vec![Role::Service] };
    assert_eq!(principal, Ok(expected));
    let refused = ServiceTokens::new(issuer.url(), "kitchen", "wrong").token().await;
    assert_eq!(refused.expect_err("a wrong secret").reason, "ISSUER_UNAVAILABLE");
}

#[test]
fn the_bearer_token_is_found_in_its_header() {
    for (value, token) in
        [("Bearer abc", "abc"), ("bearer  abc ", "abc"), ("Basic abc", ""), ("abc", "")]
    {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().expect("a header value"));
        assert_eq!(bearer(&headers), token, "{value}");
    }
    assert_eq!(bearer(&HeaderMap::new()), "");
}
