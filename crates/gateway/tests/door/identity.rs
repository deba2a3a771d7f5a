//! Who calls.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use kernel::Role;
use platform::issuer::Issuer;
use platform::status::reason;
use reqwest::Method;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request};

use crate::client::{Answer, unary};
use crate::house::{House, LONG, Plan};
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
    let issued = Issuer::new("http://issuer.test", "house");
    let house = House::with(Plan { beside: issued.router(), ..Plan::default() }).await;
    let grant = "grant_type=client_credentials&scope=operator";
    let in_the_form = format!("{grant}&client_id=C1&client_secret=dev");
    let by_basic = format!("Basic {}", BASE64_STANDARD.encode("C1:dev"));
    for (form, authorization) in [(in_the_form.as_str(), ""), (grant, &by_basic)] {
        let ask = house.stranger(Method::POST, "/oauth2/token").body(form.to_owned());
        let ask = ask.header("content-type", "application/x-www-form-urlencoded");
        let ask = match authorization {
            "" => ask,
            authorization => ask.header("authorization", authorization),
        };
        let answer = Answer::of(ask).await;
        assert_eq!((answer.status, &answer.json["token_type"]), (200, &"Bearer".into()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_rotated_under_load_and_no_request_fails() {
    let mut plan = Plan::default();
    plan.config.per_principal.per_second = 100_000.try_into().expect("not zero");
    plan.config.per_principal.burst = 100_000.try_into().expect("not zero");
    plan.config.per_address = plan.config.per_principal;
    let house = House::with(plan).await;
    let (url, http) = (house.url("/v1/dishes/1"), reqwest::Client::builder().no_proxy());
    let http = http.build().expect("a client");
    let ask = async |token: String| {
        let answer = http.get(&url).bearer_auth(token).send().await;
        answer.map(|answer| answer.status().as_u16()).map_err(|error| error.to_string())
    };
    let (good, done) = (watch::Sender::new(0), CancellationToken::new());
    let load = async |client: usize| {
        let mut bad = Vec::new();
        for number in 0.. {
            if done.is_cancelled() {
                break;
            }
            // A new subject, so that no token has been seen before.
            match ask(house.token(&format!("{client}-{number}"))).await {
                Ok(200) => good.send_modify(|good| *good += 1),
                other => bad.push((number, other)),
            }
        }
        bad
    };
    // They make us look for keys that there are not, all the time.
    let strangers = async || {
        let mut let_in = Vec::new();
        while !done.is_cancelled() {
            let forged = Issuer::new(house.issuer.url(), "house").sign("C1", Role::Customer);
            match ask(forged).await {
                Ok(401 | 503) => {}
                other => let_in.push(other),
            }
        }
        let_in
    };
    let rotate = async {
        let mut seen = good.subscribe();
        for _ in 0..6 {
            house.issuer.rotate().expect("a new key");
            let enough = *good.borrow() + 20;
            // The requests say for themselves what keeps them.
            timeout(LONG, seen.wait_for(|good| *good >= enough)).await.ok();
        }
        done.cancel();
    };
    let (a, b, c, d, let_in, ()) =
        tokio::join!(load(1), load(2), load(3), load(4), strangers(), rotate);
    let bad = [a, b, c, d].concat();
    assert!(bad.is_empty(), "{bad:?}");
    assert!(let_in.is_empty(), "{let_in:?}");
    assert!(*good.borrow() >= 120, "{} good answers", *good.borrow());
}
