//! Tokens of a real issuer, and what is wrong with others.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures::FutureExt as _;
use futures::future::join_all;
use jsonwebtoken::{EncodingKey, Header};
use kernel::Clock as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{advance, pause, resume, sleep};

use super::*;
use crate::clock::SystemClock;
use crate::issuer::{Issuer, LIFETIME};

/// A real issuer on a loopback port: how often it was asked for anything, and whether it is away or
/// does not answer.
#[derive(Clone, Default)]
struct Watched {
    asked: Arc<AtomicUsize>,
    away: Arc<AtomicBool>,
    hangs: watch::Sender<bool>,
}

impl Watched {
    async fn answer(State(watched): State<Watched>, request: Request, next: Next) -> Response {
        watched.asked.fetch_add(1, Ordering::SeqCst);
        watched.hangs.subscribe().wait_for(|hangs| !hangs).await.expect("it is ours");
        match watched.away.load(Ordering::SeqCst) {
            true => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            false => next.run(request).await,
        }
    }

    /// How often it was asked for its keys: once for where they are, and once for them.
    fn fetches(&self) -> usize {
        self.asked.load(Ordering::SeqCst) / 2
    }
}

async fn issuer() -> (Issuer, Watched) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let issuer = Issuer::new(url, "house");
    let watched = Watched::default();
    let layer = from_fn_with_state(watched.clone(), Watched::answer);
    let router = issuer.clone().router().layer(layer);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (issuer, watched)
}

fn verifier(issuer: &Issuer) -> Verifier {
    Verifier::discover(AuthConfig::new(issuer.url(), "house"))
}

async fn refusal(verifier: &Verifier, token: &str) -> &'static str {
    verifier.verify(token).await.expect_err("no good token").reason
}

#[tokio::test]
async fn a_good_token_names_its_bearer_and_asks_the_issuer_once() {
    let (issuer, watched) = issuer().await;
    let verifier = verifier(&issuer);
    let token = issuer.sign("auth0|C1", Role::Operator);
    let expected = Principal { subject: "auth0|C1".to_owned(), roles: vec![Role::Operator] };
    let (one, two) = tokio::join!(verifier.verify(&token), verifier.verify(&token));
    assert_eq!((one, two), (Ok(expected.clone()), Ok(expected)));
    // Discovery and key set, for two tokens at once: single-flight.
    assert_eq!(watched.asked.load(Ordering::SeqCst), 2);
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

/// A token of a stranger, who says that the issuer has made it.
fn forged(issuer: &Issuer) -> String {
    Issuer::new(issuer.url(), "house").sign("C1", Role::Operator)
}

#[tokio::test]
async fn a_new_key_is_learnt_at_once_and_the_old_one_stays_good() {
    let (issuer, watched) = issuer().await;
    let verifier = verifier(&issuer);
    let old = issuer.sign("C1", Role::Operator);
    assert!(verifier.verify(&old).await.is_ok());
    issuer.rotate().expect("in memory");
    let new: Vec<String> =
        (0..100).map(|number| issuer.sign(&format!("C{number}"), Role::Operator)).collect();
    let verified = join_all(new.iter().map(|token| verifier.verify(token))).await;
    assert!(verified.iter().all(Result::is_ok), "{verified:?}");
    // Those who came while a fetch was under way may need another one.
    assert!(watched.fetches() <= 3, "{} fetches", watched.fetches());
    assert!(verifier.verify(&old).await.is_ok());
}

#[tokio::test]
async fn strangers_neither_hammer_the_issuer_nor_keep_new_keys_out() {
    let (issuer, watched) = issuer().await;
    let verifier = verifier(&issuer);
    let start = Instant::now();
    assert!(verifier.verify(&issuer.sign("C1", Role::Operator)).await.is_ok());
    let strangers = async {
        loop {
            let tokens: Vec<String> = (0..10).map(|_| forged(&issuer)).collect();
            let refused = join_all(tokens.iter().map(|token| verifier.verify(token))).await;
            assert!(refused.iter().all(Result::is_err));
        }
    };
    let rotations = async {
        for number in 0..8 {
            issuer.rotate().expect("in memory");
            let token = issuer.sign(&format!("C{number}"), Role::Operator);
            assert!(verifier.verify(&token).await.is_ok(), "rotation {number}");
        }
    };
    tokio::select! {
        () = strangers => unreachable!("they go on for ever"),
        () = rotations => {}
    }
    let allowed = 6 + start.elapsed().as_secs() as usize;
    assert!(watched.fetches() <= allowed, "{} fetches, not {allowed}", watched.fetches());
}

#[tokio::test]
async fn the_same_strange_key_is_looked_for_once() {
    let (issuer, watched) = issuer().await;
    let (verifier, start) = (verifier(&issuer), Instant::now());
    let token = forged(&issuer);
    for _ in 0..100 {
        assert_eq!(refusal(&verifier, &token).await, "TOKEN_INVALID");
    }
    let allowed = 1 + start.elapsed().as_secs() as usize;
    assert!(watched.fetches() <= allowed, "{} fetches, not {allowed}", watched.fetches());
}

#[tokio::test]
async fn while_the_issuer_is_away_its_last_keys_are_good_and_nobody_is_a_stranger() {
    let (issuer, watched) = issuer().await;
    let config = AuthConfig::new(issuer.url(), "house");
    let verifier = Verifier::discover(AuthConfig { jwks_refresh: Duration::ZERO, ..config });
    assert!(verifier.verify(&issuer.sign("C1", Role::Operator)).await.is_ok());
    watched.away.store(true, Ordering::SeqCst);
    let old = issuer.sign("C2", Role::Operator);
    issuer.rotate().expect("in memory");
    let new = issuer.sign("C3", Role::Operator);
    assert!(verifier.verify(&old).await.is_ok());
    let refused = verifier.verify(&new).await.expect_err("nobody knows");
    assert_eq!(refused.reason, "ISSUER_UNAVAILABLE");
    assert!(refused.retry_after.is_some());
    watched.away.store(false, Ordering::SeqCst);
    assert!(verifier.verify(&new).await.is_ok());
}

#[tokio::test]
async fn the_key_says_which_algorithm_it_is_for() {
    let (issuer, _) = issuer().await;
    let verifier = verifier(&issuer);
    let good = issuer.sign("C1", Role::Operator);
    assert!(verifier.verify(&good).await.is_ok());
    let id = jsonwebtoken::decode_header(&good).expect("a header").kid;
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let keys = http.get(format!("{}/jwks.json", issuer.url())).send().await.expect("an answer");
    let keys: serde_json::Value = keys.json().await.expect("JSON");
    // What everybody knows, taken for a secret.
    let public = keys["keys"][0]["x"].as_str().expect("a public key");
    let claims = good.split('.').nth(1).expect("three parts");
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).expect("base64");
    let claims: serde_json::Value = serde_json::from_slice(&claims).expect("JSON");
    let secret = EncodingKey::from_secret(public.as_bytes());
    let header = Header { kid: id.clone(), ..Header::new(Algorithm::HS256) };
    let confused = jsonwebtoken::encode(&header, &claims, &secret).expect("a token");
    assert_eq!(refusal(&verifier, &confused).await, "TOKEN_INVALID");
    let (_, rest) = good.split_once('.').expect("three parts");
    for algorithm in ["HS256", "RS256", "ES256", "none"] {
        let header = serde_json::json!({"typ": "JWT", "alg": algorithm, "kid": id});
        let header = BASE64_URL_SAFE_NO_PAD.encode(header.to_string());
        assert_eq!(refusal(&verifier, &format!("{header}.{rest}")).await, "TOKEN_INVALID");
    }
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
    let (issuer, watched) = issuer().await;
    let tokens = ServiceTokens::new(issuer.url(), "kitchen", "dev");
    let (one, two) = tokio::join!(tokens.token(), tokens.token());
    assert_eq!(one, two);
    assert_eq!(watched.asked.load(Ordering::SeqCst), 2);
    let principal = verifier(&issuer).verify(&one.expect("a token")).await;
    let expected = Principal { subject: "kitchen".to_owned(), roles: vec![Role::Service] };
    assert_eq!(principal, Ok(expected));
    let refused = ServiceTokens::new(issuer.url(), "kitchen", "wrong").token().await;
    assert_eq!(refused.expect_err("a wrong secret").reason, "ISSUER_UNAVAILABLE");
}

/// Nobody waits meanwhile.
async fn later(time: Duration) {
    pause();
    advance(time).await;
    resume();
}

#[tokio::test]
async fn a_token_that_is_still_good_is_used_while_the_issuer_hangs() {
    let (issuer, watched) = issuer().await;
    let tokens = ServiceTokens::new(issuer.url(), "kitchen", "dev");
    let old = tokens.token().await.expect("a token");
    watched.hangs.send_replace(true);
    later(LIFETIME.mul_f32(0.9)).await;
    let at_once = || tokens.token().now_or_never().expect("at once").expect("a good token");
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while watched.asked.load(Ordering::SeqCst) < 3 {
        assert!(std::time::Instant::now() < end, "nobody asks for a new one");
        assert_eq!(at_once(), old);
        sleep(Duration::from_millis(1)).await;
    }
    watched.hangs.send_replace(false);
    while at_once() == old {
        assert!(std::time::Instant::now() < end, "the new one is not used");
        sleep(Duration::from_millis(1)).await;
    }
    // One asked in everybody's name: discovery and token, twice.
    assert_eq!(watched.asked.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn without_a_good_token_nobody_waits_for_ever_for_an_issuer_that_hangs() {
    let (issuer, watched) = issuer().await;
    let tokens = ServiceTokens::new(issuer.url(), "kitchen", "dev");
    let old = tokens.token().await.expect("a token");
    watched.hangs.send_replace(true);
    later(LIFETIME).await;
    pause();
    let start = Instant::now();
    assert_eq!(tokens.token().await.expect_err("it hangs").reason, "ISSUER_UNAVAILABLE");
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    resume();
    watched.hangs.send_replace(false);
    let end = Instant::now() + Duration::from_secs(20);
    let new = loop {
        match tokens.token().await {
            Ok(new) => break new,
            Err(away) => assert!(Instant::now() < end, "{away:?}"),
        }
        sleep(Duration::from_millis(10)).await;
    };
    assert_ne!(new, old);
}

#[tokio::test]
async fn an_issuer_that_does_not_say_how_is_told_by_basic() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let terse = serde_json::json!({
        "issuer": url,
        "jwks_uri": format!("{url}/jwks.json"),
        "token_endpoint": format!("{url}/oauth2/token"),
    });
    let router = Router::new()
        .route("/.well-known/openid-configuration", get(async move || Json(terse)))
        .fallback_service(Issuer::new(&url, "house").router());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let token = ServiceTokens::new(&url, "a kitchen: 100%", "dev").token().await.expect("a token");
    let principal = Verifier::discover(AuthConfig::new(&url, "house")).verify(&token).await;
    assert_eq!(principal.expect("a principal").subject, "a kitchen: 100%");
}
