//! The breaker on the runtime's clock, and shared by many.

use super::*;

fn open() -> Breaker {
    let breaker = Breaker::new("oven", BreakerConfig::default());
    for _ in 0..10 {
        breaker.admit().expect("let through").failed();
    }
    breaker
}

#[tokio::test(start_paused = true)]
async fn it_opens_and_closes_again() {
    let breaker = open();
    let refused = breaker.admit().err().expect("open").retry_after;
    let (least, most) = (Duration::from_millis(375), Duration::from_millis(500));
    assert!((least..=most).contains(&refused), "{refused:?}");
    tokio::time::advance(most).await;
    for _ in 0..3 {
        breaker.clone().admit().expect("a probe").succeeded();
    }
    let calls: Vec<_> = (0..100).map(|_| breaker.admit().expect("closed")).collect();
    calls.into_iter().for_each(Permit::succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_is_dropped_gives_its_probe_back() {
    let breaker = open();
    tokio::time::advance(Duration::from_millis(500)).await;
    let probe = breaker.admit().expect("a probe");
    assert!(breaker.admit().is_err());
    drop(probe);
    assert!(breaker.admit().is_ok());
}

#[test]
fn probes_are_counted_over_threads() {
    let config = BreakerConfig {
        open_first: Duration::from_nanos(1),
        open_max: Duration::from_nanos(1),
        ..BreakerConfig::default()
    };
    let breaker = Breaker::new("grill", config);
    for _ in 0..10 {
        breaker.admit().expect("let through").failed();
    }
    let permits = std::thread::scope(|threads| {
        let ask = || {
            let permits: Vec<_> = (0..1_000).filter_map(|_| breaker.admit().ok()).collect();
            permits
        };
        let asking = [(); 4].map(|()| threads.spawn(ask));
        asking.into_iter().flat_map(|it| it.join().expect("no panic")).collect::<Vec<_>>()
    });
    assert_eq!(permits.len(), 1, "the first probe goes alone");
}
