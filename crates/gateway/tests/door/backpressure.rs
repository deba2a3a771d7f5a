//! Streams go as fast as their readers, and end with them.

use futures::StreamExt as _;
use testkit::eventually;
use tonic::Streaming;

use crate::client::stream;
use crate::house::{House, LONG};
use crate::kitchen::{Dish, WatchDishesRequest};

/// Together far more than all buffers on the way.
const COUNT: usize = 1000;
const SIZE: usize = 64 * 1024;

/// Reads a JSON stream to its end.
async fn read(answer: reqwest::Response) {
    let mut read = 0;
    let mut chunks = answer.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        read += chunk.expect("a chunk").len();
    }
    assert!(read > COUNT * SIZE, "everything has come");
}

/// What the service has given to the first of two readers, who has read nothing, by the time that the
/// second has read everything. So there was time enough to give more, however busy the machine is.
#[track_caller]
fn is_slowed_down(house: &House) {
    let given = house.seen.sent() - COUNT;
    assert!(given < COUNT / 2, "{given} elements of {SIZE} bytes, and nobody has read one");
}

#[tokio::test]
async fn a_slow_reader_slows_its_service_down() {
    let house = House::open().await;
    let path = format!("/v1/dishes:watch?count={COUNT}&size={SIZE}");
    let answer = async || house.get(&path).send().await.expect("an answer");
    let unread = answer().await;
    read(answer().await).await;
    is_slowed_down(&house);
    read(unread).await;
    assert_eq!(house.seen.sent(), 2 * COUNT);
}

#[tokio::test]
async fn so_does_a_slow_reader_of_grpc() {
    let house = House::open().await;
    let watch = WatchDishesRequest { count: COUNT as i32, size: SIZE as i32, ..Default::default() };
    let dishes = async || -> Streaming<Dish> {
        let (grpc, request) = house.grpc(watch.clone());
        stream(grpc, "/door.v1.Kitchen/WatchDishes", request).await.expect("a stream")
    };
    let unread = dishes().await;
    assert_eq!(dishes().await.count().await, COUNT);
    is_slowed_down(&house);
    assert_eq!(unread.count().await, COUNT);
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
