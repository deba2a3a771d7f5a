//! The rules, one by one, on a clock that is a number.

use super::*;

/// A breaker of small numbers, and milliseconds since it began.
struct Bench {
    machine: Machine,
    start: Instant,
    now: u64,
}

impl Bench {
    fn new() -> Bench {
        let start = Instant::now();
        let config = BreakerConfig { consecutive_failures: 5, ..BreakerConfig::default() };
        Bench { machine: Machine::new(config, start), start, now: 0 }
    }

    fn at(&self) -> Instant {
        self.start + Duration::from_millis(self.now)
    }

    fn admit(&mut self) -> Result<Generation, u128> {
        let now = self.at();
        self.machine.admit(now).map_err(|after| after.as_millis())
    }

    /// A call that is let through and ends like this at once.
    fn call(&mut self, evidence: Evidence) -> State {
        let generation = self.admit().expect("let through");
        self.end(generation, evidence)
    }

    fn end(&mut self, generation: Generation, evidence: Evidence) -> State {
        let now = self.at();
        self.machine.record(generation, evidence, now, 0.0);
        self.machine.state()
    }

    /// Opens it, from closed.
    fn open(&mut self) {
        for _ in 0..5 {
            self.call(Evidence::Failure);
        }
        assert_eq!(self.machine.state(), State::Open);
    }
}

use Evidence::{Failure, None as Nothing, Success};

#[test]
fn many_failures_in_a_row_open_it() {
    for (evidence, state) in [
        (vec![Failure; 4], State::Closed),
        (vec![Failure; 5], State::Open),
        (vec![Failure, Failure, Failure, Failure, Success, Failure], State::Closed),
        // Who hangs up neither fails nor succeeds.
        (vec![Failure, Failure, Nothing, Failure, Failure, Failure], State::Open),
        (vec![Nothing; 100], State::Closed),
    ] {
        let mut bench = Bench::new();
        for evidence in &evidence {
            bench.call(*evidence);
        }
        assert_eq!(bench.machine.state(), state, "{evidence:?}");
    }
}

#[test]
fn half_of_enough_calls_open_it() {
    let mut bench = Bench::new();
    for _ in 0..9 {
        assert_eq!(bench.call(Success), State::Closed);
        assert_eq!(bench.call(Failure), State::Closed);
    }
    assert_eq!(bench.call(Failure), State::Closed, "nineteen are not enough");
    assert_eq!(bench.call(Success), State::Open, "ten of twenty failed");

    let mut bench = Bench::new();
    for _ in 0..50 {
        for evidence in [Success, Success, Failure] {
            assert_eq!(bench.call(evidence), State::Closed, "a third is not too many");
        }
    }
}

#[test]
fn what_has_left_the_window_does_not_count() {
    let mut bench = Bench::new();
    for _ in 0..9 {
        bench.call(Failure);
        bench.call(Success);
    }
    bench.now = 10_000;
    for _ in 0..9 {
        assert_eq!(bench.call(Success), State::Closed);
        assert_eq!(bench.call(Failure), State::Closed);
    }
}

#[test]
fn while_it_is_open_nobody_calls() {
    let mut bench = Bench::new();
    bench.open();
    assert_eq!(bench.admit(), Err(500));
    bench.now = 499;
    assert_eq!(bench.admit(), Err(1));
    bench.now = 500;
    assert!(bench.admit().is_ok());
    assert_eq!(bench.machine.state(), State::HalfOpen);
}

#[test]
fn a_few_probes_close_it() {
    let mut bench = Bench::new();
    bench.open();
    bench.now = 500;
    let first = bench.admit().expect("a probe");
    assert_eq!(bench.admit(), Err(500), "the first goes alone");
    assert_eq!(bench.end(first, Nothing), State::HalfOpen);
    let first = bench.admit().expect("who hangs up gives the probe back");
    assert_eq!(bench.end(first, Success), State::HalfOpen);
    let others = [(); 2].map(|()| bench.admit().expect("a probe"));
    assert_eq!(bench.admit(), Err(500), "three are enough");
    assert_eq!(bench.end(others[0], Nothing), State::HalfOpen);
    let another = bench.admit().expect("who hangs up gives the probe back");
    assert_eq!(bench.end(others[1], Success), State::HalfOpen);
    assert_eq!(bench.end(another, Success), State::Closed);
}

#[test]
fn each_opening_is_longer_until_it_closes() {
    let mut bench = Bench::new();
    bench.open();
    for after in [500, 1_000, 2_000, 4_000, 4_000] {
        assert_eq!(bench.admit(), Err(after));
        bench.now += after as u64;
        assert_eq!(bench.call(Failure), State::Open);
    }
    bench.now += 4_000;
    for _ in 0..3 {
        bench.call(Success);
    }
    bench.open();
    assert_eq!(bench.admit(), Err(500), "the past is forgotten");
}

#[test]
fn jitter_shortens_an_opening() {
    for (jitter, after) in [(0.0, 500), (0.5, 437), (1.0, 375)] {
        let mut bench = Bench::new();
        for _ in 0..5 {
            let (generation, now) = (bench.admit().expect("let through"), bench.at());
            bench.machine.record(generation, Failure, now, jitter);
        }
        assert_eq!(bench.admit(), Err(after));
    }
}

#[test]
fn answers_from_an_earlier_state_are_ignored() {
    let mut bench = Bench::new();
    let early = [(); 20].map(|()| bench.admit().expect("let through"));
    bench.open();
    assert_eq!(bench.end(early[0], Success), State::Open);
    bench.now = 500;
    let probe = bench.admit().expect("a probe");
    assert_eq!(bench.end(early[1], Failure), State::HalfOpen, "it is no probe");
    assert_eq!(bench.end(early[2], Nothing), State::HalfOpen, "and has none to give back");
    assert_eq!(bench.end(probe, Success), State::HalfOpen);
    bench.call(Success);
    assert_eq!(bench.call(Success), State::Closed);
    for late in &early[3..] {
        assert_eq!(bench.end(*late, Failure), State::Closed);
    }
}
