//! The whole stack against real servers on loopback.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures::future::join_all;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tonic::{Code, Request as Call, Status};
use tower::service_fn;

use self::house::{Answer, Codec, House};
use super::resolve::{Resolve, follow};
use super::*;
use crate::breaker::BreakerConfig;
use crate::call::{Deadline, read_timeout};
use crate::issuer::{Issuer, SECRET};
use crate::metrics;
use crate::status::{reason, retry_after, status};

mod house;

const MS: fn(u64) -> Duration = Duration::from_millis;
/// More than any test takes.
const LONG: Duration = Duration::from_secs(20);

/// Tokens of a real issuer; the first one is there already.
async fn tokens() -> ServiceTokens {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let router = Issuer::new(url.clone(), "house").router();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let tokens = ServiceTokens::new(url, "waiter", SECRET);
    tokens.token().await.expect("a token");
    tokens
}

async fn ask(stack: &Unary) -> Result<String, Status> {
    let mut grpc = tonic::client::Grpc::new(stack.clone());
    grpc.ready().await.expect("always");
    let path = "/test.v1.Kitchen/Cook".parse().expect("a path");
    let answer = grpc.unary(Call::new("tea".to_owned()), path, Codec::default()).await?;
    Ok(answer.into_inner())
}

async fn refused(stack: &Unary) -> (Code, String) {
    let status = ask(stack).await.expect_err("a refusal");
    (status.code(), reason(&status).unwrap_or_default())
}

fn late() -> (Code, String) {
    (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned())
}

fn unreachable() -> (Code, String) {
    (Code::Unavailable, "SERVICE_UNAVAILABLE".to_owned())
}

fn open() -> (Code, String) {
    (Code::Unavailable, "CIRCUIT_OPEN".to_owned())
}

fn unavailable() -> Answer {
    Answer::Refused(Status::unavailable("away"))
}

/// A server that answers like this until it is healed.
fn sick(answer: Answer) -> (House, Arc<AtomicBool>) {
    let heal = Arc::new(AtomicBool::new(false));
    let healed = heal.clone();
    let script = move |_| match healed.load(Ordering::SeqCst) {
        true => Answer::Served,
        false => answer.clone(),
    };
    (House::open(script), heal)
}

fn busy(retry_after: Duration) -> Answer {
    Answer::Refused(status(Rejection::exhausted("OVERLOADED", "busy").retry_after(retry_after)))
}

/// With time enough, three attempts and a breaker that stays out of the way.
fn policy() -> CallPolicy {
    let breaker = BreakerConfig {
        min_calls: 1_000_000,
        consecutive_failures: 1_000_000,
        ..Default::default()
    };
    let backoff = Backoff { first: MS(1), max: MS(5) };
    let attempt_timeout = Duration::from_secs(5);
    CallPolicy { attempts: 3, attempt_timeout, backoff, breaker, ..CallPolicy::once(LONG) }
}

/// Asks until the answer is this one.
async fn until<T: PartialEq + std::fmt::Debug>(wanted: T, mut ask: impl AsyncFnMut() -> T) {
    let end = Instant::now() + LONG;
    let mut seen = ask().await;
    while seen != wanted {
        assert!(Instant::now() < end, "{seen:?} instead of {wanted:?}");
        tokio::time::sleep(MS(5)).await;
        seen = ask().await;
    }
}

#[tokio::test]
async fn what_fails_for_a_moment_is_tried_again() {
    let house = House::open(|call| if call < 2 { unavailable() } else { Answer::Served });
    let stack = house.stack(policy()).await;
    assert_eq!(ask(&stack).await.expect("an answer"), "served");
    assert_eq!(house.count(), 3);
    let header = |call, name| house.seen(call, name);
    let attempts = [0, 1, 2].map(|call| header(call, "grpc-previous-rpc-attempts"));
    assert_eq!(attempts, [None, Some("1".to_owned()), Some("2".to_owned())]);
    let [one, other] = [0, 1].map(|call| header(call, "traceparent").expect("a trace"));
    assert_eq!(one[..35], other[..35], "one trace");
    assert_ne!(one, other, "a span for each attempt");
    assert!(header(2, "authorization").expect("a token").starts_with("Bearer "));

    let text = metrics::text().expect("text");
    for sample in [
        "rpc_client_call_duration_seconds_count{rpc_method=\"test.v1.Kitchen/Cook\",\
         rpc_response_status_code=\"OK\",rpc_system_name=\"grpc\"}",
        "taxi_client_retries_total{name=\"cook\",outcome=\"made\"}",
    ] {
        assert!(text.contains(sample), "{sample} is not in:\n{text}");
    }
}

#[tokio::test]
async fn attempts_are_limited() {
    let house = House::open(|_| unavailable());
    let stack = house.stack(policy()).await;
    assert_eq!(refused(&stack).await.0, Code::Unavailable);
    assert_eq!(house.count(), 3);
}

#[tokio::test]
async fn what_cannot_get_better_is_not_tried_again() {
    for code in [
        Code::Internal,
        Code::Unknown,
        Code::Aborted,
        Code::Cancelled,
        Code::InvalidArgument,
        Code::FailedPrecondition,
        Code::ResourceExhausted,
        Code::Unauthenticated,
    ] {
        let house = House::open(move |_| Answer::Refused(Status::new(code, "no")));
        let stack = house.stack(policy()).await;
        assert_eq!(refused(&stack).await.0, code);
        assert_eq!(house.count(), 1, "{code:?}");
    }
}

#[tokio::test]
async fn a_neighbour_says_when_to_come_back() {
    let house = House::open(|call| if call == 0 { busy(MS(200)) } else { Answer::Served });
    let stack = house.stack(policy()).await;
    let start = Instant::now();
    assert!(ask(&stack).await.is_ok());
    assert!(start.elapsed() >= MS(200));
    assert_eq!(house.count(), 2);

    let house = House::open(|_| busy(LONG));
    let status = ask(&house.stack(policy()).await).await.expect_err("no time left");
    assert_eq!((status.code(), retry_after(&status)), (Code::ResourceExhausted, Some(LONG)));
    assert_eq!(house.count(), 1);
}

#[tokio::test]
async fn the_budget_alone_limits_what_a_dead_neighbour_is_asked() {
    let house = House::open(|_| unavailable());
    let retry_budget = RetryBudget { ratio: 0.2, per_second: 1 };
    let stack = house.stack(CallPolicy { retry_budget, ..policy() }).await;
    for _ in 0..100 {
        ask(&stack).await.expect_err("away");
    }
    // Ten in ten seconds, and that again should the test take longer.
    let retries = house.count() - 100;
    assert!((10..=30).contains(&retries), "{retries}");
}

#[tokio::test]
async fn answers_fill_the_budget() {
    let house = House::open(|call| if call % 5 == 4 { unavailable() } else { Answer::Served });
    let retry_budget = RetryBudget { ratio: 0.2, per_second: 1 };
    let stack = house.stack(CallPolicy { retry_budget, ..policy() }).await;
    for call in 0..200 {
        assert!(ask(&stack).await.is_ok(), "{call}");
    }
    assert_eq!(house.count(), 249);
}

#[tokio::test]
async fn a_neighbour_that_hangs_costs_one_attempt() {
    let pay_fee = CallPolicy { attempt_timeout: MS(650), deadline: MS(800), ..policy() };
    for answer in [Answer::Nothing, Answer::NoEnd] {
        let house = House::open(move |_| answer.clone());
        let stack = house.stack(pay_fee).await;
        let start = Instant::now();
        assert_eq!(refused(&stack).await, late());
        assert!(start.elapsed() >= MS(650));
        assert_eq!(house.count(), 1);
        let told = house.seen(0, "grpc-timeout").expect("a timeout").parse().expect("a value");
        let told = read_timeout(&http::HeaderMap::from_iter([(GRPC_TIMEOUT, told)]));
        let told = told.expect("well-formed").expect("there");
        assert!(told <= MS(650), "{told:?}");
    }
}

#[tokio::test]
async fn nobody_waits_longer_than_an_attempt_for_a_neighbour_that_hangs() {
    let tokens = tokens().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let hangs = service_fn(move |_: Request<Body>| {
        count.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<Result<Response<Body>, BoxError>>()
    });
    let pay_fee = CallPolicy { attempt_timeout: MS(650), deadline: MS(800), ..policy() };
    let stack = unary("cook", hangs, tokens, pay_fee);
    tokio::time::pause();
    let start = Instant::now();
    assert_eq!(refused(&stack).await, late());
    let waited = start.elapsed();
    assert!((MS(650)..MS(655)).contains(&waited), "{waited:?}");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_caller_s_shorter_deadline_wins_and_is_no_evidence() {
    let (house, heal) = sick(Answer::Nothing);
    let breaker = BreakerConfig { consecutive_failures: 3, ..Default::default() };
    let stack = house.stack(CallPolicy { breaker, ..policy() }).await;
    let hasty = async || {
        let soon = Deadline(Instant::now() + MS(300));
        soon.scope(refused(&stack)).await
    };
    let start = Instant::now();
    let all = join_all((0..20).map(|_| hasty())).await;
    assert_eq!(all, vec![late(); 20]);
    assert!(start.elapsed() < policy().attempt_timeout);
    heal.store(true, Ordering::SeqCst);
    assert!(ask(&stack).await.is_ok(), "the breaker is closed");
    let before = house.count();
    let over = Deadline(Instant::now());
    assert_eq!(over.scope(refused(&stack)).await, late());
    assert_eq!(house.count(), before, "not worth starting");
}

#[tokio::test]
async fn the_breaker_opens_and_fails_fast_and_closes_after_three_probes() {
    let (house, heal) = sick(unavailable());
    let breaker = BreakerConfig { open_first: MS(300), open_max: MS(300), ..Default::default() };
    let stack = house.stack(CallPolicy { attempts: 1, breaker, ..policy() }).await;
    for _ in 0..10 {
        assert_eq!(refused(&stack).await.0, Code::Unavailable);
    }
    assert_eq!(house.count(), 10);
    let status = ask(&stack).await.expect_err("open");
    assert_eq!((status.code(), reason(&status)), (open().0, Some(open().1)));
    assert!(retry_after(&status).expect("it says when") <= MS(300));
    heal.store(true, Ordering::SeqCst);
    let mut probes = 0;
    until(3, async || {
        match ask(&stack).await {
            Ok(_) => probes += 1,
            Err(status) => assert_eq!(reason(&status), Some(open().1)),
        }
        probes
    })
    .await;
    let calls = (0..50).map(|_| ask(&stack));
    assert!(join_all(calls).await.iter().all(Result::is_ok));
    assert_eq!(house.count(), 10 + 3 + 50);
}

#[tokio::test]
async fn an_open_breaker_is_not_asked_again() {
    let house = House::open(|_| unavailable());
    let open_first = BreakerConfig::default().open_max;
    let breaker = BreakerConfig { consecutive_failures: 2, open_first, ..Default::default() };
    // With time and attempts enough to wait until it is half-open.
    let retry_budget = RetryBudget { ratio: 1.0, per_second: 10_000 };
    let stack = house.stack(CallPolicy { attempts: 10_000, retry_budget, breaker, ..policy() });
    let stack = stack.await;
    let start = Instant::now();
    assert_eq!(refused(&stack).await, open(), "the third attempt is refused");
    assert_eq!(house.count(), 2);
    assert!(start.elapsed() < MS(2_000), "it was not tried again");
}

#[tokio::test]
async fn who_hangs_up_gives_the_probe_back() {
    let house = House::open(|call| match call {
        0 => unavailable(),
        1 => Answer::Nothing,
        _ => Answer::Served,
    });
    let breaker = BreakerConfig {
        consecutive_failures: 1,
        open_first: MS(1),
        open_max: MS(1),
        probes: 1,
        ..Default::default()
    };
    let stack = house.stack(CallPolicy { attempts: 1, breaker, ..policy() }).await;
    assert_eq!(refused(&stack).await.0, Code::Unavailable);
    let probe = stack.clone();
    // Until it is let through.
    let probe = tokio::spawn(async move { while ask(&probe).await.is_err() {} });
    until(2, async || house.count()).await;
    assert_eq!(refused(&stack).await, open(), "the only probe is out");
    probe.abort();
    probe.await.expect_err("hung up");
    assert_eq!(ask(&stack).await.expect("the probe is back"), "served");
}

/// Addresses by hand, and how often somebody has looked.
#[derive(Clone, Default)]
struct Book(Arc<Mutex<Vec<SocketAddr>>>, Arc<AtomicUsize>);

impl Book {
    fn of<const N: usize>(houses: [&House; N]) -> Book {
        let book = Book::default();
        book.say(houses);
        book
    }

    fn say<const N: usize>(&self, houses: [&House; N]) {
        *self.0.lock().expect("no panic") = houses.map(|house| house.address).to_vec();
    }

    async fn stack(&self, policy: CallPolicy) -> Unary {
        let origin = http::Uri::from_static("http://kitchen:8090");
        unary("cook", follow(origin, None, self.clone(), MS(20)), tokens().await, policy)
    }
}

impl Resolve for Book {
    async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        self.1.fetch_add(1, Ordering::SeqCst);
        Ok(self.0.lock().expect("no panic").clone())
    }
}

#[tokio::test]
async fn all_addresses_are_called_and_one_that_dies_is_not_noticed() {
    let dies = House::at("127.0.0.1", |_| Answer::Served);
    let lives = House::at("127.0.0.2", |_| Answer::Served);
    let breaker = BreakerConfig::default();
    let stack = Book::of([&dies, &lives]).stack(CallPolicy { breaker, ..policy() }).await;
    until(true, async || {
        assert!(ask(&stack).await.is_ok());
        dies.count() > 10 && lives.count() > 10
    })
    .await;
    drop(dies);
    let before = lives.count();
    for call in 0..200 {
        let answer = ask(&stack).await;
        assert!(answer.is_ok(), "{call}: {answer:?}");
    }
    assert_eq!(lives.count(), before + 200);
}

#[tokio::test]
async fn of_many_calls_at_once_none_is_lost_to_an_address_where_nobody_is() {
    let gone = House::at("127.0.0.1", |_| Answer::Served);
    let lives = House::until(LONG, "127.0.0.2", |_| Answer::Served);
    let book = Book::of([&gone, &lives]);
    drop(gone);
    let stack = book.stack(CallPolicy::once(LONG)).await;
    let guests = (0..32).map(async |_| {
        for _ in 0..100 {
            assert_eq!(ask(&stack).await.expect("an answer"), "served");
        }
    });
    join_all(guests).await;
    assert_eq!(lives.count(), 3200, "each once");
}

#[tokio::test]
async fn addresses_come_and_go() {
    let first = House::open(|_| Answer::Served);
    let second = House::open(|_| Answer::Served);
    let book = Book::of([&first]);
    let stack = book.stack(policy()).await;
    assert!(ask(&stack).await.is_ok());
    assert_eq!((first.count(), second.count()), (1, 0));
    book.say([&second]);
    until(true, async || ask(&stack).await.is_ok() && second.count() > 0).await;
    let (gone, present) = (first.count(), second.count());
    for _ in 0..20 {
        assert!(ask(&stack).await.is_ok());
    }
    assert_eq!((first.count(), second.count()), (gone, present + 20));
    book.say([]);
    let looked = book.1.load(Ordering::SeqCst);
    until(true, async || book.1.load(Ordering::SeqCst) > looked + 1).await;
    assert!(ask(&stack).await.is_ok(), "the last address that was known stays");
}

#[tokio::test]
async fn more_addresses_than_the_channel_takes_at_once_hold_no_call_up() {
    let house = House::open(|_| Answer::Served);
    let nobody = |number: u16| {
        let [high, low] = number.to_be_bytes();
        SocketAddr::from(([127, 0, high, low], house.address.port()))
    };
    let book = Book::default();
    *book.0.lock().expect("no panic") = (2..302).map(nobody).collect();
    let stack = book.stack(policy()).await;
    assert_eq!(refused(&stack).await, unreachable(), "each has refused, nobody has waited");
    book.say([&house]);
    until(true, async || ask(&stack).await.is_ok()).await;
}

#[tokio::test]
async fn without_an_address_a_call_is_refused_at_once_and_served_when_there_is_one() {
    let house = House::open(|_| Answer::Served);
    let book = Book::default();
    let stack = book.stack(policy()).await;
    let start = Instant::now();
    assert_eq!(refused(&stack).await, unreachable());
    assert!(start.elapsed() < Duration::from_secs(5), "less than one attempt may take");
    book.say([&house]);
    until(true, async || ask(&stack).await.is_ok()).await;
}

#[tokio::test]
async fn a_name_that_is_none_is_unavailable() {
    let nowhere = balanced("nowhere.invalid:1").expect("well-formed");
    let stack = unary("cook", nowhere, tokens().await, CallPolicy::once(LONG));
    assert_eq!(refused(&stack).await, unreachable());
    assert!(balanced("nowhere").is_err());
}

#[tokio::test]
async fn a_name_that_is_none_does_not_hide_the_others() {
    let house = House::open(|_| Answer::Served);
    let names = format!("nowhere.invalid:1, {}", house.address);
    let stack = unary("cook", balanced(&names).expect("well-formed"), tokens().await, policy());
    assert_eq!(ask(&stack).await.expect("an answer"), "served");
    assert!(balanced("kitchen:8090,nowhere").is_err());
}

#[tokio::test]
async fn a_connection_that_says_goodbye_costs_no_call() {
    let house = House::open(|_| Answer::Served);
    let stack = house.stack(CallPolicy::once(LONG)).await;
    let guests = (0..16).map(async |_| {
        for _ in 0..100 {
            assert_eq!(ask(&stack).await.expect("an answer"), "served");
        }
    });
    join_all(guests).await;
    assert_eq!(house.count(), 1600, "each once");
}

#[tokio::test]
async fn a_neighbour_that_dies_under_a_call_is_unavailable() {
    let house = House::open(|_| Answer::Nothing);
    let stack = house.stack(CallPolicy::once(LONG)).await;
    let call = tokio::spawn(async move { refused(&stack).await });
    until(1, async || house.count()).await;
    drop(house);
    assert_eq!(call.await.expect("no panic"), unreachable());
}

#[test]
fn an_address_is_a_host_and_a_port() {
    for (address, uri) in [
        ("kitchen:8090", "http://kitchen:8090/"),
        ("http://127.0.0.1:8090", "http://127.0.0.1:8090/"),
        ("[::1]:8090", "http://[::1]:8090/"),
        ("https://kitchen:8090", "https://kitchen:8090/"),
        ("https://[::1]:8090", "https://[::1]:8090/"),
    ] {
        assert_eq!(endpoint(address).expect(address).uri(), uri);
    }
    for address in ["", "kitchen", ":8090", "ftp://kitchen:8090", "kitchen:port", "a b:1"] {
        assert!(endpoint(address).is_err(), "{address}");
    }
    assert_eq!(endpoints("https://kitchen:1, https://cellar:2").expect("two").len(), 2);
    assert!(endpoints("https://kitchen:1,cellar:2").is_err(), "half of it without TLS");
}
