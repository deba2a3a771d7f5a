//! Who calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kernel::Role;
use platform::status::reason;
use reqwest::Method;
use tokio::time::{Instant, sleep};
use tonic::{Code, Request};

use crate::client::{Answer, unary};
use crate::house::{House, Plan};
use crate::kitchen::{Dish, GetRequest};

const GET: &str = "/door.v1.Kitchen/GetDish";

#[tokio::test]
async fn who_has_no_good_token_is_told_so_at_the_door() {
    let house = House::open().await;
    let missing = Answer::of(house.stranger(Method::GET, "/v1/dishes/1")).await;
    assert_eq!((missing.status, missing.reason()), (401, "TOKEN_MISSING"));
    assert_eq!(missing.header("www-authenticate"), "Bearer");
    let invalid = house.stranger(Method::GET, "/v1/dishes/1").bearer_auth("no.token.here");
    let invalid = Answer::of(invalid).await;
    assert_eq!((invalid.status, invalid.reason()), (401, "TOKEN_INVALID"));
    let (grpc, _) = house.grpc(());
    let refused = unary::<_, Dish>(grpc, GET, Request::new(GetRequest::default())).await;
    let refused = refused.expect_err("no token");
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(reason(&refused).as_deref(), Some("TOKEN_MISSING"));
    assert_eq!(house.seen.calls(), 0);
}

#[tokio::test]
async fn what_is_beside_needs_no_token() {
    let issued = platform::issuer::Issuer::new("http://issuer.test", "house");
    let house = House::with(Plan { beside: issued.router(), ..Plan::default() }).await;
    let form = "grant_type=client_credentials&client_id=C1&client_secret=dev&scope=operator";
    let ask = house.stranger(Method::POST, "/oauth2/token").body(form);
    let ask = ask.header("content-type", "application/x-www-form-urlencoded");
    let answer = Answer::of(ask).await;
    assert_eq!((answer.status, &answer.json["token_type"]), (200, &"Bearer".into()));
}

/// For how long an issuer is not asked again for keys that it has just been asked for.
const REFRESH_INTERVAL: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_rotated_under_load_and_no_request_fails() {
    let mut plan = Plan::default();
    plan.config.per_principal.per_second = 100_000.try_into().expect("not zero");
    plan.config.per_principal.burst = 100_000.try_into().expect("not zero");
    plan.config.per_address = plan.config.per_principal;
    let house = House::with(plan).await;
    let (good, start) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let rotation = REFRESH_INTERVAL + Duration::from_millis(300);
    let load = |client: usize| {
        let (issuer, url, good) = (house.issuer.clone(), house.url("/v1/dishes/1"), good.clone());
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        async move {
            let mut bad = Vec::new();
            let mut number = 0;
            while start.elapsed() < rotation + Duration::from_secs(3) {
                number += 1;
                // A new subject, so that no token has been seen before.
                let token = issuer.sign(&format!("{client}-{number}"), Role::Customer);
                let answer = http.get(&url).bearer_auth(token).send().await;
                match answer.map(|answer| answer.status().as_u16()) {
                    Ok(200) => drop(good.fetch_add(1, Ordering::SeqCst)),
                    other => bad.push((start.elapsed(), format!("{other:?}"))),
                }
                sleep(Duration::from_millis(5)).await;
            }
            bad
        }
    };
    let rotate = async {
        sleep(rotation).await;
        house.issuer.rotate().expect("a new key");
        good.load(Ordering::SeqCst)
    };
    let (a, b, c, d, before) = tokio::join!(load(1), load(2), load(3), load(4), rotate);
    let (bad, after) = ([a, b, c, d].concat(), good.load(Ordering::SeqCst) - before);
    assert!(bad.is_empty(), "{bad:?}");
    assert!(before > 10 && after > 10, "{before} before the rotation, {after} after");
}
