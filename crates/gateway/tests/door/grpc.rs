//! gRPC through the door.

use std::time::Duration;

use futures::{StreamExt as _, stream as streams};
use platform::status::reason;
use testkit::eventually;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_prost::ProstCodec;

use crate::client::{Answer, stream};
use crate::house::{CELLAR, House, KITCHEN, LONG};
use crate::kitchen::{CookRequest, Dish, GetRequest, WatchDishesRequest};

const GET: &str = "/door.v1.Kitchen/GetDish";

fn named(name: &str) -> GetRequest {
    GetRequest { name: name.to_owned() }
}

#[tokio::test]
async fn a_call_passes_through_with_its_metadata() {
    let house = House::open().await;
    let cook = CookRequest { table: "tables/1".to_owned(), dish: "soup".to_owned() };
    let (grpc, mut request) = house.grpc(cook);
    request.metadata_mut().insert("colour", "green".parse().expect("ascii"));
    request.metadata_mut().insert("x-forwarded-for", "192.0.2.1".parse().expect("ascii"));
    let answer = crate::client::unary::<_, Dish>(grpc, "/door.v1.Kitchen/Cook", request).await;
    let answer = answer.expect("a dish");
    assert_eq!(answer.metadata().get("x-taxi-consistency-token").expect("there"), "t1");
    assert_eq!(answer.metadata().get("colour").expect("under its own name"), "red");
    let dish = answer.into_inner();
    assert_eq!((dish.name.as_str(), dish.cook.as_str()), ("tables/1/soup", "anna"));
    assert_eq!(dish.heard["colour"], "green");
    assert_eq!(dish.heard["x-forwarded-for"], "127.0.0.1");
    assert!(dish.heard.contains_key("traceparent") && dish.heard.contains_key("grpc-timeout"));
}

#[tokio::test]
async fn an_error_passes_through_with_its_details() {
    let house = House::open().await;
    let missing = house.unary::<_, Dish>(GET, named("dishes/missing")).await.expect_err("none");
    assert_eq!(missing.code(), Code::NotFound);
    assert_eq!(reason(&missing).as_deref(), Some("DISH_NOT_FOUND"));
    assert_eq!(missing.metadata().get("colour").expect("there"), "blue");
    let watch = WatchDishesRequest { count: 1, fail: true, ..Default::default() };
    let (grpc, request) = house.grpc(watch);
    let dishes = stream::<_, Dish>(grpc, "/door.v1.Kitchen/WatchDishes", request).await;
    let dishes: Vec<_> = dishes.expect("a stream").collect().await;
    assert!(dishes[0].is_ok());
    let closed = dishes[1].as_ref().expect_err("trailers");
    assert_eq!(reason(closed).as_deref(), Some("KITCHEN_CLOSED"));
}

#[tokio::test]
async fn a_stream_in_both_directions_is_a_conversation() {
    let house = House::open().await;
    let (say, said) = mpsc::channel(1);
    let (mut grpc, request) = house.grpc(ReceiverStream::new(said));
    grpc.ready().await.expect("a connection");
    let dish = |name: String| Dish { name, ..Dish::default() };
    say.send(dish("0".to_owned())).await.expect("heard");
    let path = "/door.v1.Kitchen/Chat".parse().expect("a path");
    let heard = grpc.streaming(request, path, ProstCodec::<Dish, Dish>::default()).await;
    let mut heard = heard.expect("a stream").into_inner();
    for number in 1..10 {
        // Each answer comes before the next word.
        let answer = heard.message().await.expect("a dish").expect("one more");
        assert_eq!(answer.name, (number - 1).to_string());
        say.send(dish(number.to_string())).await.expect("heard");
    }
    drop(say);
    assert_eq!(heard.count().await, 1);
}

#[tokio::test]
async fn what_is_not_public_is_not_there() {
    let house = House::open().await;
    for path in [
        "/door.v1.Kitchen/Burn",
        "/door.v1.Kitchen/Bake",
        "/door.v1.Garden/Dig",
        "/door.v1.Kitchen/GetDish/",
        "//door.v1.Kitchen/Burn",
    ] {
        let refused = house.unary::<_, Dish>(path, named("dishes/1")).await.expect_err(path);
        assert_eq!(refused.code(), Code::Unimplemented, "{path}");
        assert_eq!(reason(&refused).as_deref(), Some("UNKNOWN_METHOD"));
    }
    let rest = Answer::of(house.request(reqwest::Method::POST, "/door.v1.Kitchen/Burn")).await;
    assert_eq!((rest.status, rest.reason()), (404, "ROUTE_NOT_FOUND"));
    assert_eq!(house.seen.calls(), 0, "nobody behind the door has heard of it");
}

#[tokio::test]
async fn a_deadline_is_kept_and_told() {
    let house = House::open().await;
    let (grpc, mut request) = house.grpc(named("dishes/slow"));
    request.set_timeout(Duration::from_millis(200));
    let late = crate::client::unary::<_, Dish>(grpc, GET, request).await.expect_err("slow");
    assert!(matches!(late.code(), Code::DeadlineExceeded | Code::Cancelled), "{late:?}");
    let dropped = || async { Some(house.seen.dropped()).filter(|it| *it == 1).ok_or(()) };
    eventually(LONG, dropped).await;
}

#[tokio::test]
async fn reflection_shows_all_services() {
    macro_rules! services {
        ($version:ident, $house:expr) => {{
            use tonic_reflection::pb::$version::ServerReflectionRequest;
            use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
            use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
            use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;
            let ask = |question| ServerReflectionRequest {
                host: String::new(),
                message_request: Some(question),
            };
            let questions = [
                ask(MessageRequest::ListServices(String::new())),
                ask(MessageRequest::FileContainingSymbol("door.v1.Kitchen.Cook".to_owned())),
                ask(MessageRequest::FileContainingSymbol("google.rpc.ErrorInfo".to_owned())),
            ];
            let mut client = ServerReflectionClient::new($house.channel());
            let answers = client.server_reflection_info(streams::iter(questions)).await;
            let mut answers = answers.expect("no token is needed").into_inner();
            let mut next = async || {
                let answer = answers.message().await.expect("an answer").expect("one more");
                answer.message_response.expect("an answer")
            };
            let MessageResponse::ListServicesResponse(list) = next().await else { panic!() };
            let MessageResponse::FileDescriptorResponse(files) = next().await else { panic!() };
            let file = &files.file_descriptor_proto[0];
            // The rule is there too.
            assert!(file.windows(17).any(|it| it == b"/v1/{table=tables"));
            let details = next().await;
            assert!(matches!(details, MessageResponse::FileDescriptorResponse(_)), "of errors");
            list.service.into_iter().map(|service| service.name).collect::<Vec<_>>()
        }};
    }
    let house = House::open().await;
    let all = [
        CELLAR,
        KITCHEN,
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ];
    assert_eq!(services!(v1, house), all);
    assert_eq!(services!(v1alpha, house), all);
}

#[tokio::test]
async fn health_is_the_door_s_and_that_of_each_service() {
    let mut house = House::open().await;
    let mut health = HealthClient::new(house.channel());
    let question = |service: &str| HealthCheckRequest { service: service.to_owned() };
    let mut watch = health.watch(question(CELLAR)).await.expect("a stream").into_inner();
    for name in ["", KITCHEN, CELLAR] {
        let answer = health.check(question(name)).await.expect("known").into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{name}");
    }
    let unknown = health.check(question("door.v1.Garden")).await.expect_err("unknown");
    assert_eq!(unknown.code(), Code::NotFound);
    let seen = watch.message().await.expect("an answer").expect("the present");
    assert_eq!(seen.status(), ServingStatus::Serving);

    house.cellar.kill();
    let seen = watch.message().await.expect("an answer").expect("a change");
    assert_eq!(seen.status(), ServingStatus::NotServing);
    for (name, status) in [
        ("", ServingStatus::Serving),
        (KITCHEN, ServingStatus::Serving),
        (CELLAR, ServingStatus::NotServing),
    ] {
        let answer = health.check(question(name)).await.expect("known").into_inner();
        assert_eq!(answer.status(), status, "{name}");
    }
}
