//! How much one caller gets.

use std::num::NonZeroU32;
use std::time::Duration;

use gateway::{GatewayConfig, Rate};
use platform::status::{reason, retry_after};
use reqwest::Method;
use testkit::eventually;
use tonic::Code;

use crate::client::{Answer, stream};
use crate::house::{House, LONG, Plan};
use crate::kitchen::{Dish, GetRequest, WatchDishesRequest};

/// One each minute would be too slow to write as a rate: a burst, and hardly more.
fn rate(burst: u32) -> Rate {
    Rate { per_second: NonZeroU32::MIN, burst: burst.try_into().expect("not zero") }
}

async fn house(change: impl FnOnce(&mut GatewayConfig)) -> House {
    let mut plan = Plan::default();
    change(&mut plan.config);
    House::with(plan).await
}

#[tokio::test]
async fn a_principal_has_a_rate() {
    let house = house(|config| config.per_principal = rate(2)).await;
    let (mut served, mut refused) = (0, Vec::new());
    for _ in 0..10 {
        let answer = Answer::of(house.get("/v1/dishes/1")).await;
        if answer.status == 200 { served += 1 } else { refused.push(answer) }
    }
    assert!((2..10).contains(&served), "{served}");
    let refusal = &refused[0];
    assert_eq!((refusal.status, refusal.reason()), (429, "RATE_LIMITED"));
    assert_eq!(refusal.header("retry-after"), "1");
    let retry = refusal.json["details"].as_array().expect("details").iter();
    assert!({ retry }.any(|it| it["@type"] == "type.googleapis.com/google.rpc.RetryInfo"));
    let other = house.stranger(Method::GET, "/v1/dishes/1").bearer_auth(house.token("other"));
    assert_eq!(Answer::of(other).await.status, 200, "nobody pays for another");

    let mut grpc = Ok(());
    while grpc.is_ok() {
        let get = GetRequest { name: "dishes/1".to_owned() };
        grpc = house.unary::<_, Dish>("/door.v1.Kitchen/GetDish", get).await.map(drop);
    }
    let refused = grpc.expect_err("too many");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(reason(&refused).as_deref(), Some("RATE_LIMITED"));
    assert!(retry_after(&refused).is_some_and(|wait| wait <= Duration::from_secs(1)));
}

#[tokio::test]
async fn an_address_has_a_rate_whoever_calls() {
    let house = house(|config| config.per_address = rate(2)).await;
    let from = async |address: &str| {
        let ask = house.stranger(Method::GET, "/v1/nowhere").header("x-forwarded-for", address);
        Answer::of(ask).await.status
    };
    let mut answers = Vec::new();
    for number in 0..10 {
        // It says that it is somebody else each time.
        answers.push(from(&format!("192.0.2.{number}")).await);
    }
    assert!(answers.contains(&404) && answers.contains(&429), "{answers:?}");
}

#[tokio::test]
async fn behind_a_trusted_proxy_are_many_addresses() {
    let house = house(|config| {
        config.per_address = rate(1);
        config.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a net")];
    })
    .await;
    let from = async |address: &str| {
        let ask = house.get("/v1/dishes/1").header("x-forwarded-for", address);
        let ask = ask.header("x-forwarded-proto", "https");
        Answer::of(ask).await
    };
    for number in 0..10 {
        let answer = from(&format!("192.0.2.{number}")).await;
        assert_eq!(answer.status, 200);
        let heard = &answer.json["heard"];
        assert_eq!(heard["x-forwarded-for"], format!("192.0.2.{number}, 127.0.0.1"));
        assert_eq!(heard["x-forwarded-proto"], "https");
    }
    // What the client itself claims stands further left.
    let claims = async |claim: &str| from(&format!("{claim}, 192.0.2.99")).await.status;
    let answers = [claims("1.1.1.1").await, claims("2.2.2.2").await, claims("3.3.3.3").await];
    assert!(answers.contains(&429), "{answers:?}");
}

#[tokio::test]
async fn a_principal_has_so_many_streams() {
    let house = house(|config| config.streams_per_principal = 2).await;
    let watch = || house.get("/v1/dishes:watch").send();
    let (one, two) = (watch().await.expect("one"), watch().await.expect("two"));
    assert_eq!((one.status(), two.status()), (200.try_into().expect(""), one.status()));
    let three = Answer::of(house.get("/v1/dishes:watch")).await;
    assert_eq!((three.status, three.reason()), (429, "TOO_MANY_STREAMS"));
    let (grpc, request) = house.grpc(WatchDishesRequest::default());
    let refused = stream::<_, Dish>(grpc, "/door.v1.Kitchen/WatchDishes", request).await;
    assert_eq!(refused.expect_err("too many").code(), Code::ResourceExhausted);
    assert_eq!(Answer::of(house.get("/v1/dishes/1")).await.status, 200, "that is no stream");
    drop(one);
    eventually(LONG, || async {
        let answer = watch().await.expect("an answer");
        (answer.status() == 200).then_some(()).ok_or(answer.status())
    })
    .await;
}

#[tokio::test]
async fn too_much_at_once_is_refused() {
    let mut plan = Plan::default();
    plan.server.concurrency = 1;
    let house = House::with(plan).await;
    let watch = house.get("/v1/dishes:watch").send().await.expect("a stream");
    let slow = tokio::spawn(Answer::of(house.get("/v1/dishes/slow").header("grpc-timeout", "2S")));
    let shed = eventually(LONG, || async {
        let answer = Answer::of(house.get("/v1/dishes/1")).await;
        if answer.status == 200 { Err("there is room") } else { Ok(answer) }
    })
    .await;
    assert_eq!((shed.status, shed.reason()), (429, "OVERLOADED"));
    assert_eq!(shed.header("retry-after"), "1");
    let mut health = tonic_health::pb::health_client::HealthClient::new(house.channel());
    health.check(tonic_health::pb::HealthCheckRequest::default()).await.expect("always room");
    assert_eq!(slow.await.expect("an answer").status, 504);
    assert_eq!(Answer::of(house.get("/v1/dishes/1")).await.status, 200, "a stream takes none");
    drop(watch);
}
