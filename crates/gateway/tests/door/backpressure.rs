//! Streams go as fast as their readers, and end with them.

use futures::StreamExt as _;
use testkit::eventually;

use crate::client::stream;
use crate::house::{House, LONG};
use crate::kitchen::{Dish, WatchDishesRequest};

/// Together far more than all buffers on the way.
const COUNT: usize = 2000;
const SIZE: usize = 64 * 1024;

/// Waits until the service gives no more, and tells how much it gave.
async fn at_rest(house: &House) -> usize {
    let mut before = 0;
    eventually(LONG, || {
        let now = house.seen.sent();
        let rests = now > 0 && now == std::mem::replace(&mut before, now);
        async move {
            // Long enough for another element to come through.
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            rests.then_some(now).ok_or(now)
        }
    })
    .await
}

#[tokio::test]
async fn a_slow_reader_slows_its_service_down() {
    let house = House::open().await;
    let path = format!("/v1/dishes:watch?count={COUNT}&size={SIZE}");
    let answer = house.get(&path).send().await.expect("an answer");
    let given = at_rest(&house).await;
    assert!(given < COUNT / 2, "{given} elements of {SIZE} bytes, and nobody has read one");
    let mut read = 0;
    let mut chunks = answer.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        read += chunk.expect("a chunk").len();
    }
    assert!(read > COUNT * SIZE, "everything has come");
    assert_eq!(house.seen.sent(), COUNT);
}

#[tokio::test]
async fn so_does_a_slow_reader_of_grpc() {
    let house = House::open().await;
    let watch = WatchDishesRequest { count: COUNT as i32, size: SIZE as i32, ..Default::default() };
    let (grpc, request) = house.grpc(watch);
    let dishes = stream::<_, Dish>(grpc, "/door.v1.Kitchen/WatchDishes", request).await;
    let dishes = dishes.expect("a stream");
    let given = at_rest(&house).await;
    assert!(given < COUNT / 2, "{given} elements of {SIZE} bytes, and nobody has read one");
    assert_eq!(dishes.count().await, COUNT);
}

#[tokio::test]
async fn a_reader_who_goes_away_ends_the_call() {
    let house = House::open().await;
    let gone = |count| {
        let house = &house;
        let gone = move || async move {
            Some(house.seen.dropped()).filter(|it| *it == count).ok_or(house.seen.dropped())
        };
        eventually(LONG, gone)
    };
    let mut answer = house.get("/v1/dishes:watch").send().await.expect("an answer");
    let first = answer.chunk().await.expect("a chunk").expect("the first one, at once");
    assert!(first.starts_with(b"{\"result\":"));
    assert_eq!(house.seen.dropped(), 0);
    drop(answer);
    gone(1).await;

    let (grpc, request) = house.grpc(WatchDishesRequest::default());
    let dishes = stream::<_, Dish>(grpc, "/door.v1.Kitchen/WatchDishes", request).await;
    let mut dishes = dishes.expect("a stream");
    dishes.message().await.expect("a dish").expect("the first one, at once");
    drop(dishes);
    gone(2).await;
}
