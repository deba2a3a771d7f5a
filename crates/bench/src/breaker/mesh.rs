//! The whole mesh while payment is in trouble: who waits, for how long, and when every fee is taken.
//!
//! Each round has three turns under the same load, in the order A B C, C B A, ..: all is well,
//! payment hangs, the payment provider hangs. The rides that finish in a turn are begun before it.

use std::time::Duration;

use platform::client::CallPolicy;
use serde::Serialize;
use tokio::time::{Instant, timeout};

use crate::Result;
use crate::city::City;
use crate::stats::{Latency, Rounds, millis};

use super::Options;
use super::fees::{Books, Fees};
use super::gauge::Gauge;
use super::load::{Answers, Finished, Fleet, requests};
use crate::offer::Done;

const WARM_UP: Duration = Duration::from_secs(3);
/// How soon after a breaker has opened all should be as usual.
const SOON: Duration = Duration::from_secs(1);
/// A breaker that is still open so long after all is well has a problem of its own.
const CLOSING: Duration = Duration::from_secs(60);
const HANG: &str = "provider.hang";

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Trouble {
    Nothing,
    /// Its process is stopped: connections stay, and nobody answers.
    PaymentHangs,
    /// It takes requests, and never answers them.
    ProviderHangs,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Mesh {
    pub(crate) requests: u32,
    pub(crate) finishes: u32,
    pub(crate) seconds: u32,
    pub(crate) well: Turns,
    pub(crate) payment_hangs: Turns,
    pub(crate) provider_hangs: Turns,
    pub(crate) fees: Fees,
}

/// All turns of one trouble.
#[derive(Debug, Serialize)]
pub(crate) struct Turns {
    pub(crate) request_p50_ms: Rounds,
    pub(crate) request_p99_ms: Rounds,
    pub(crate) finish_p50_ms: Rounds,
    pub(crate) finish_p99_ms: Rounds,
    pub(crate) finish_max_ms: Rounds,
    /// Finished drivings whose fee was not decided by then.
    pub(crate) deferred: Rounds,
    pub(crate) requests_failed: usize,
    pub(crate) finishes_failed: usize,
    pub(crate) breaker: Option<Openings>,
    /// From the end of the trouble until the last fee was taken.
    pub(crate) last_fee_ms: Rounds,
}

/// What the breaker did that is nearest to the trouble.
#[derive(Debug, Serialize)]
pub(crate) struct Openings {
    /// Until it first opened.
    pub(crate) open_ms: Rounds,
    /// FinishDriving within a second after that,
    pub(crate) first_second_p99_ms: Rounds,
    /// and from then on.
    pub(crate) then_p50_ms: Rounds,
    pub(crate) then_p99_ms: Rounds,
    /// Of those from then on: how many were let through to see whether it works again, and waited
    /// in vain.
    pub(crate) probes: Rounds,
    /// All others from then on.
    pub(crate) others_p99_ms: Rounds,
    /// From the end of the trouble until it was closed.
    pub(crate) closed_ms: Rounds,
}

/// One turn.
struct Turn {
    requests: Answers<()>,
    finishes: Answers<Finished>,
    start: Instant,
    opened: Option<Instant>,
    closed_ms: f64,
    last_fee_ms: f64,
}

impl Turn {
    fn deferred(&self) -> f64 {
        self.finishes.done.iter().filter(|done| done.outcome.deferred).count() as f64
    }
}

/// Measures all turns of all rounds.
pub(crate) async fn measure(
    city: &mut City,
    policy: &CallPolicy,
    options: &Options,
) -> Result<Mesh> {
    let mut bench = Bench {
        driving: Gauge::of(&city.mesh, "driving", "pay_fee")?,
        payment: Gauge::of(&city.mesh, "payment", "provider")?,
        city,
        fleet: Fleet::default(),
        books: Books::default(),
        options,
    };
    eprintln!("mesh: warming up");
    bench.turn(Trouble::Nothing, WARM_UP).await?;

    let mut turns = [Trouble::Nothing, Trouble::PaymentHangs, Trouble::ProviderHangs]
        .map(|trouble| (trouble, Vec::new()));
    for n in 1..=options.rounds {
        for (trouble, turns) in &mut turns {
            turns.push(bench.turn(*trouble, options.round()).await?);
        }
        turns.reverse();
        eprintln!("mesh: round {n} of {}", options.rounds);
    }
    turns.sort_by_key(|(trouble, _)| *trouble as u8);
    let [well, payment_hangs, provider_hangs] =
        turns.map(|(_, turns)| summary(&turns, policy.attempt_timeout));
    Ok(Mesh {
        requests: options.requests,
        finishes: options.finishes,
        seconds: options.seconds,
        well,
        payment_hangs,
        provider_hangs,
        fees: bench.books.audit(&bench.city.mesh.provider()).await?,
    })
}

/// The mesh, its drivers, and what they are to be paid for.
struct Bench<'a> {
    city: &'a mut City,
    fleet: Fleet,
    books: Books,
    driving: Gauge,
    payment: Gauge,
    options: &'a Options,
}

impl Bench<'_> {
    async fn turn(&mut self, trouble: Trouble, length: Duration) -> Result<Turn> {
        let Options { requests: rate, finishes, .. } = *self.options;
        let count = length.as_secs() as usize * finishes as usize;
        let rides = self.fleet.depart(self.city, count).await?;
        self.city.settle().await?;

        let watch = Watch::start(self.gauge(trouble)).await?;
        self.cause(trouble).await?;
        let start = Instant::now();
        let (requests, finishes, opened) = tokio::join!(
            requests(self.city, rate, length),
            self.fleet.arrive(rides, finishes),
            watch.opening(length)
        );
        let opened = opened?;

        self.heal(trouble).await?;
        let healed = Instant::now();
        for finish in &finishes.done {
            self.books.finished(finish.outcome.driving.clone());
        }
        let closed = self.until_closed().await?;
        let last_fee = self.books.all_taken(&self.city.mesh.provider()).await?;
        let (closed_ms, last_fee_ms) = (millis(closed - healed), millis(last_fee - healed));
        Ok(Turn { requests, finishes, start, opened, closed_ms, last_fee_ms })
    }

    /// The breaker that should notice.
    fn gauge(&self, trouble: Trouble) -> Option<&Gauge> {
        match trouble {
            Trouble::Nothing => None,
            Trouble::PaymentHangs => Some(&self.driving),
            Trouble::ProviderHangs => Some(&self.payment),
        }
    }

    async fn cause(&mut self, trouble: Trouble) -> Result<()> {
        match trouble {
            Trouble::Nothing => {}
            Trouble::PaymentHangs => self.city.mesh.freeze("payment"),
            Trouble::ProviderHangs => {
                self.city.mesh.provider().set_fault(HANG, "true").await?;
            }
        }
        Ok(())
    }

    async fn heal(&mut self, trouble: Trouble) -> Result<()> {
        match trouble {
            Trouble::Nothing => {}
            Trouble::PaymentHangs => self.city.mesh.thaw("payment"),
            Trouble::ProviderHangs => self.city.mesh.provider().clear_faults().await?,
        }
        Ok(())
    }

    /// One ride after the other, until the breakers are closed: it takes calls to close them.
    async fn until_closed(&mut self) -> Result<Instant> {
        let end = Instant::now() + CLOSING;
        while !(self.driving.is_closed().await? && self.payment.is_closed().await?) {
            if Instant::now() >= end {
                return Err(format!("a breaker is still not closed after {CLOSING:?}").into());
            }
            let ride = self.fleet.depart(self.city, 1).await?;
            for finish in self.fleet.arrive(ride, 1).await.done {
                self.books.finished(finish.outcome.driving);
            }
        }
        Ok(Instant::now())
    }
}

/// Looks for the opening of a breaker, if there is one to look at.
struct Watch {
    gauge: Option<Gauge>,
    openings: u64,
}

impl Watch {
    async fn start(gauge: Option<&Gauge>) -> Result<Watch> {
        let openings = match gauge {
            Some(gauge) => gauge.openings().await?,
            None => 0,
        };
        Ok(Watch { gauge: gauge.cloned(), openings })
    }

    /// When it opens, if it does within this time.
    async fn opening(&self, within: Duration) -> Result<Option<Instant>> {
        let Some(gauge) = &self.gauge else { return Ok(None) };
        timeout(within, gauge.opens_again(self.openings)).await.ok().transpose()
    }
}

fn summary(turns: &[Turn], attempt_timeout: Duration) -> Turns {
    let each = |of: fn(&Turn) -> f64| Rounds::of(turns.iter().map(of));
    let requests: Vec<Latency> = turns.iter().map(|it| waits(&it.requests.done)).collect();
    let finishes: Vec<Latency> = turns.iter().map(|it| waits(&it.finishes.done)).collect();
    let of = |all: &[Latency], which: fn(&Latency) -> f64| Rounds::of(all.iter().map(which));
    Turns {
        request_p50_ms: of(&requests, |it| it.p50_ms),
        request_p99_ms: of(&requests, |it| it.p99_ms),
        finish_p50_ms: of(&finishes, |it| it.p50_ms),
        finish_p99_ms: of(&finishes, |it| it.p99_ms),
        finish_max_ms: of(&finishes, |it| it.max_ms),
        deferred: each(Turn::deferred),
        requests_failed: turns.iter().map(|it| it.requests.failed).sum(),
        finishes_failed: turns.iter().map(|it| it.finishes.failed).sum(),
        breaker: openings(turns, attempt_timeout),
        last_fee_ms: each(|it| it.last_fee_ms),
    }
}

/// Of those turns in which it opened.
fn openings(turns: &[Turn], attempt_timeout: Duration) -> Option<Openings> {
    let opened: Vec<(&Turn, Instant)> =
        turns.iter().filter_map(|turn| Some((turn, turn.opened?))).collect();
    let after: Vec<After> =
        opened.iter().map(|(turn, at)| After::of(turn, *at, attempt_timeout)).collect();
    let each = |of: fn(&After) -> f64| Rounds::of(after.iter().map(of));
    (!opened.is_empty()).then(|| Openings {
        open_ms: Rounds::of(opened.iter().map(|(turn, at)| millis(*at - turn.start))),
        first_second_p99_ms: each(|it| it.first_second.p99_ms),
        then_p50_ms: each(|it| it.then.p50_ms),
        then_p99_ms: each(|it| it.then.p99_ms),
        probes: each(|it| it.probes),
        others_p99_ms: each(|it| it.others.p99_ms),
        closed_ms: Rounds::of(opened.iter().map(|(turn, _)| turn.closed_ms)),
    })
}

/// The finishes of one turn that were due after the breaker had opened.
struct After {
    first_second: Latency,
    then: Latency,
    probes: f64,
    others: Latency,
}

impl After {
    fn of(turn: &Turn, opened: Instant, attempt_timeout: Duration) -> After {
        let after = turn.finishes.done.iter().filter(|done| done.due >= opened);
        let (soon, then): (Vec<_>, Vec<_>) = after.partition(|done| done.due < opened + SOON);
        // Whoever is refused does not wait at all, so nothing lies near this limit.
        let (probes, others): (Vec<_>, Vec<_>) =
            then.iter().copied().partition(|done| done.wait() >= attempt_timeout / 2);
        After {
            first_second: waits(soon),
            then: waits(then),
            probes: probes.len() as f64,
            others: waits(others),
        }
    }
}

fn waits<'a, T: 'a>(all: impl IntoIterator<Item = &'a Done<T>>) -> Latency {
    Latency::of(all.into_iter().map(Done::wait))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// A turn in which the breaker opened after a second, and who finished when waited how long.
    fn turn(finishes: &[(u64, u64)]) -> Turn {
        let start = Instant::now();
        let done = finishes.iter().map(|(due, wait)| {
            let due = start + MS(*due);
            let outcome = Finished { driving: String::new(), deferred: true };
            Done { due, end: due + MS(*wait), outcome }
        });
        Turn {
            requests: Answers { done: Vec::new(), failed: 0 },
            finishes: Answers { done: done.collect(), failed: 0 },
            start,
            opened: Some(start + MS(1_000)),
            closed_ms: 0.0,
            last_fee_ms: 0.0,
        }
    }

    #[test]
    fn what_comes_after_the_opening_is_told_apart() {
        let turns =
            [turn(&[(0, 660), (999, 670), (1_000, 5), (1_999, 651), (2_000, 7), (2_500, 652)])];
        let openings = openings(&turns, MS(650)).expect("it opened");
        assert_eq!(openings.open_ms.median, 1_000.0);
        assert_eq!(openings.first_second_p99_ms.median, 651.0);
        assert_eq!(openings.then_p99_ms.median, 652.0);
        assert_eq!(openings.probes.median, 1.0);
        assert_eq!(openings.others_p99_ms.median, 7.0);
        assert!(super::openings(&[Turn { opened: None, ..turn(&[]) }], MS(650)).is_none());
    }
}
