//! Services that are away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use platform::status::{reason, retry_after};
use reqwest::Method;
use serde_json::{Value, json};
use tonic::Code;

use crate::client::Answer;
use crate::house::{House, LONG, Plan};
use crate::kitchen::{Dish, GetRequest};

#[tokio::test]
async fn one_that_is_down_is_named_and_the_others_work() {
    let mut house = House::open().await;
    assert_eq!(Answer::of(house.get("/v1/wines/1")).await.status, 200);
    house.cellar.kill();
    for _ in 0..5 {
        let down = Answer::of(house.get("/v1/wines/1")).await;
        assert_eq!((down.status, down.reason()), (503, "SERVICE_UNAVAILABLE"));
        assert!(down.json["message"].as_str().expect("text").contains("the cellar"));
        assert_eq!(down.header("retry-after"), "1");
        assert_eq!(Answer::of(house.get("/v1/dishes/1")).await.status, 200);
    }
    let get = GetRequest { name: "wines/1".to_owned() };
    let down = house.unary::<_, Dish>("/door.v1.Cellar/GetWine", get).await.expect_err("down");
    assert_eq!(down.code(), Code::Unavailable);
    assert_eq!(reason(&down).as_deref(), Some("SERVICE_UNAVAILABLE"));
    assert!(retry_after(&down).is_some());
}

#[tokio::test]
async fn a_stream_whose_service_dies_says_so() {
    let mut house = House::open().await;
    let mut watch = house.get("/v1/dishes:watch").send().await.expect("a stream");
    watch.chunk().await.expect("a chunk").expect("the first one");
    house.kitchens[0].kill();
    let last = watch.text().await.expect("a body");
    let last: Value = serde_json::from_str(&last).expect("one line");
    assert_eq!(crate::client::reason(&last["error"]), "SERVICE_UNAVAILABLE");

    let mut house = House::open().await;
    let (grpc, request) = house.grpc(crate::kitchen::WatchDishesRequest::default());
    let path = "/door.v1.Kitchen/WatchDishes";
    let dishes = crate::client::stream::<_, Dish>(grpc, path, request).await;
    let mut dishes = dishes.expect("a stream");
    dishes.message().await.expect("a dish").expect("the first one");
    house.kitchens[0].kill();
    let broken = dishes.message().await.expect_err("trailers");
    assert_eq!(reason(&broken).as_deref(), Some("SERVICE_UNAVAILABLE"));
}

/// Calls, and kills who has got the call before there is an answer.
async fn fateful(call: impl Fn(&House) -> reqwest::RequestBuilder) -> (Answer, usize) {
    let mut house = House::with(Plan { kitchens: &["0", "1"], ..Plan::default() }).await;
    let answer = tokio::spawn(Answer::of(call(&house)));
    testkit::eventually(LONG, || async {
        if house.seen.calls() == 1 { Ok(()) } else { Err("nobody has got the call") }
    })
    .await;
    let chosen: usize = house.seen.last.lock().expect("no panic").parse().expect("a number");
    house.kitchens[chosen].kill();
    (answer.await.expect("an answer"), house.seen.calls())
}

#[tokio::test]
async fn a_read_that_breaks_is_asked_again_and_a_command_is_not() {
    let (read, calls) = fateful(|house| house.get("/v1/dishes/fateful")).await;
    assert_eq!((read.status, &read.json["name"], calls), (200, &json!("dishes/fateful"), 2));
    let cook = |house: &House| {
        let cook = house.request(Method::POST, "/v1/tables/1/dishes");
        cook.json(&json!({"dish": "fateful"}))
    };
    let (command, calls) = fateful(cook).await;
    assert_eq!((command.status, command.reason(), calls), (503, "SERVICE_UNAVAILABLE", 1));
}

/// What callers got: by kind of request and outcome.
type Outcomes = BTreeMap<(&'static str, String), usize>;

/// Calls for as long as `going` says, and counts what comes back.
async fn load(house: &House, client: usize, going: Arc<AtomicBool>) -> Outcomes {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let token = house.token(&client.to_string());
    let mut outcomes = Outcomes::new();
    let mut number = 0;
    while going.load(Ordering::SeqCst) {
        number += 1;
        let name = format!("{client}-{number}");
        let get = http.get(house.url(&format!("/v1/dishes/{name}")));
        let cook = http.request(Method::POST, house.url("/v1/tables/1/dishes"));
        let calls = [
            ("get", get, format!("dishes/{name}")),
            ("post", cook.json(&json!({"dish": name})), format!("tables/1/{name}")),
        ];
        for (kind, request, expected) in calls {
            let answer = Answer::of(request.bearer_auth(&token)).await;
            let right = answer.status == 200 && answer.json["name"] == expected;
            let outcome = match answer.status {
                200 if right => "right".to_owned(),
                503 => answer.reason().to_owned(),
                status => format!("wrong: {status} {}", answer.json),
            };
            *outcomes.entry((kind, outcome)).or_default() += 1;
        }
    }
    outcomes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_killed_under_load_and_no_answer_is_wrong() {
    let mut plan = Plan { kitchens: &["anna", "bert", "cleo"], ..Plan::default() };
    plan.config.per_principal.per_second = 100_000.try_into().expect("not zero");
    plan.config.per_principal.burst = 100_000.try_into().expect("not zero");
    plan.config.per_address = plan.config.per_principal;
    let mut house = House::with(plan).await;
    let going = Arc::new(AtomicBool::new(true));
    let mut killed = house.kitchens.remove(0);
    let murder = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = house.seen.calls();
        killed.kill();
        tokio::time::sleep(Duration::from_secs(2)).await;
        going.store(false, Ordering::SeqCst);
        (before, house.seen.calls() - before)
    };
    let load = |client| load(&house, client, going.clone());
    let all = async { tokio::join!(load(1), load(2), load(3), load(4), load(5), murder) };
    let (a, b, c, d, e, (before, after)) =
        tokio::time::timeout(LONG, all).await.expect("nobody hangs");
    let mut outcomes = Outcomes::new();
    for (outcome, count) in [a, b, c, d, e].into_iter().flatten() {
        *outcomes.entry(outcome).or_default() += count;
    }
    println!("{before} calls before, {after} after: {outcomes:?}");
    assert!(before > 10 && after > 10, "there was a load");
    let count = |kind, outcome: &str| *outcomes.get(&(kind, outcome.to_owned())).unwrap_or(&0);
    let (right, away) = (count("get", "right"), count("get", "SERVICE_UNAVAILABLE"));
    assert!(away * 50 <= right, "reads are asked again: {outcomes:?}");
    for (kind, outcome) in outcomes.keys() {
        let fair = outcome == "right" || outcome == "SERVICE_UNAVAILABLE";
        assert!(fair, "{kind}: {outcome}");
    }
}
