//! The client stack of `pay_fee` against a payment service in trouble.
//!
//! Calls come at a fixed rate, whatever becomes of them. Each trouble is met by a new stack, whose
//! breaker is closed and whose budget is as a process starts with it.

use std::time::Duration;

use platform::breaker::BreakerConfig;
use platform::client::CallPolicy;
use platform::status::{reason, retry_after};
use proto::google::r#type::Money;
use proto::payment::v1::PayFeeRequest;
use serde::Serialize;
use tokio::time::Instant;
use tonic::Request;

use super::Options;
use super::house::{Answer, Client, House};
use crate::Result;
use crate::offer::{Done, offer};
use crate::stats::{Latency, Rounds, millis};

/// Calls of a hundred that a flaky service fails.
const FLAKY: usize = 20;
/// How long all is well before a failure that finds a full budget: as long as that remembers.
const HEALTH: Duration = Duration::from_secs(10);
/// Calls one after the other that an open breaker refuses.
const REFUSALS: usize = 10_000;
/// How often the end of a long opening is looked for.
const LOOK: Duration = Duration::from_millis(50);
/// A breaker that has not been open for long by then never will.
const PATIENCE: Duration = Duration::from_secs(60);
const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Stack {
    pub(crate) rate: u32,
    pub(crate) calls: u32,
    pub(crate) failing: Failing,
    /// Times the service was asked for each call, when everything fails and no breaker opens.
    pub(crate) budget_alone: Rounds,
    /// The same, after a time in which all was well.
    pub(crate) budget_alone_after_health: Rounds,
    pub(crate) silent: Silent,
    pub(crate) flaky: Flaky,
    pub(crate) recovery: Recovery,
}

/// Every call fails.
#[derive(Debug, Serialize)]
pub(crate) struct Failing {
    /// Times the service was asked for each call.
    pub(crate) amplification: Rounds,
    /// Until the first call was refused by the breaker.
    pub(crate) open_ms: Rounds,
    /// What a refusal takes.
    pub(crate) refusal_p50_us: Rounds,
    pub(crate) refusal_p99_us: Rounds,
}

/// No call is answered.
#[derive(Debug, Serialize)]
pub(crate) struct Silent {
    pub(crate) open_ms: Rounds,
    /// The longest that a call took which began before the breaker opened,
    pub(crate) wait_before_ms: Rounds,
    /// and after that.
    pub(crate) wait_after_ms: Rounds,
    /// Calls after that which were let through, and waited.
    pub(crate) probes: Rounds,
}

/// Some calls fail.
#[derive(Debug, Serialize)]
pub(crate) struct Flaky {
    pub(crate) ok_percent: Rounds,
    /// Of all calls of all rounds.
    pub(crate) all_ok_percent: f64,
    pub(crate) amplification: Rounds,
}

/// All is well again, just after the breaker has opened for its longest time.
#[derive(Debug, Serialize)]
pub(crate) struct Recovery {
    pub(crate) first_ok_ms: Rounds,
    /// Until the last call was refused by the breaker.
    pub(crate) closed_ms: Rounds,
}

/// What came of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Paid,
    /// By the breaker, for this long.
    Refused(Duration),
    Failed,
}

type Calls = Vec<Done<Outcome>>;

/// One round of everything.
#[derive(Default)]
struct Round {
    amplification: f64,
    open_ms: f64,
    refusals: Latency,
    budget_alone: f64,
    budget_alone_after_health: f64,
    silent_open_ms: f64,
    wait_before_ms: f64,
    wait_after_ms: f64,
    probes: f64,
    ok_percent: f64,
    flaky_amplification: f64,
    first_ok_ms: f64,
    closed_ms: f64,
}

/// Measures everything, round by round.
pub(crate) async fn measure(policy: &CallPolicy, options: &Options) -> Result<Stack> {
    let mut rounds = Vec::new();
    for n in 1..=options.rounds {
        let house = House::open(n.into())?;
        let bench = Bench { house, policy: *policy, options };
        let mut round = Round::default();
        bench.everything_fails(&mut round).await?;
        bench.everything_fails_without_a_breaker(&mut round).await?;
        bench.nothing_answers(&mut round).await?;
        bench.some_fail(&mut round).await?;
        bench.all_is_well_again(&mut round).await?;
        rounds.push(round);
        eprintln!("stack: round {n} of {}", options.rounds);
    }
    Ok(summary(options, &rounds))
}

fn summary(options: &Options, rounds: &[Round]) -> Stack {
    let each = |of: fn(&Round) -> f64| Rounds::of(rounds.iter().map(of));
    let ok_percent = each(|it| it.ok_percent);
    Stack {
        rate: options.rate,
        calls: options.calls,
        failing: Failing {
            amplification: each(|it| it.amplification),
            open_ms: each(|it| it.open_ms),
            refusal_p50_us: each(|it| it.refusals.p50_ms * 1e3),
            refusal_p99_us: each(|it| it.refusals.p99_ms * 1e3),
        },
        budget_alone: each(|it| it.budget_alone),
        budget_alone_after_health: each(|it| it.budget_alone_after_health),
        silent: Silent {
            open_ms: each(|it| it.silent_open_ms),
            wait_before_ms: each(|it| it.wait_before_ms),
            wait_after_ms: each(|it| it.wait_after_ms),
            probes: each(|it| it.probes),
        },
        flaky: Flaky {
            // The rounds are of the same length.
            all_ok_percent: ok_percent.rounds.iter().sum::<f64>() / rounds.len() as f64,
            ok_percent,
            amplification: each(|it| it.flaky_amplification),
        },
        recovery: Recovery {
            first_ok_ms: each(|it| it.first_ok_ms),
            closed_ms: each(|it| it.closed_ms),
        },
    }
}

/// A payment service, and how it is called.
struct Bench<'a> {
    house: House,
    policy: CallPolicy,
    options: &'a Options,
}

impl Bench<'_> {
    async fn everything_fails(&self, round: &mut Round) -> Result<()> {
        let client = self.client(self.policy).await?;
        let (calls, amplification) = self.trouble(&client, Answer::Failure).await;
        round.amplification = amplification;
        round.open_ms = millis(opened(&calls)? - calls[0].due);
        round.refusals = self.refusals(client).await?;
        Ok(())
    }

    async fn everything_fails_without_a_breaker(&self, round: &mut Round) -> Result<()> {
        let breaker = BreakerConfig {
            min_calls: u32::MAX,
            consecutive_failures: u32::MAX,
            ..self.policy.breaker
        };
        let policy = CallPolicy { breaker, ..self.policy };
        let client = self.client(policy).await?;
        (_, round.budget_alone) = self.trouble(&client, Answer::Failure).await;

        let client = self.client(policy).await?;
        self.calls(&client, HEALTH).await;
        (_, round.budget_alone_after_health) = self.trouble(&client, Answer::Failure).await;
        Ok(())
    }

    async fn nothing_answers(&self, round: &mut Round) -> Result<()> {
        let client = self.client(self.policy).await?;
        let (calls, _) = self.trouble(&client, Answer::Silence).await;
        let opened = opened(&calls)?;
        let (before, after): (Calls, Calls) = calls.iter().partition(|call| call.due < opened);
        round.silent_open_ms = millis(opened - calls[0].due);
        round.wait_before_ms = longest(&before);
        round.wait_after_ms = longest(&after);
        round.probes = after.iter().filter(|call| call.outcome == Outcome::Failed).count() as f64;
        Ok(())
    }

    async fn some_fail(&self, round: &mut Round) -> Result<()> {
        let client = self.client(self.policy).await?;
        let (calls, amplification) = self.trouble(&client, Answer::Flaky(FLAKY)).await;
        let paid = calls.iter().filter(|call| call.outcome == Outcome::Paid).count();
        round.ok_percent = paid as f64 / calls.len() as f64 * 100.0;
        round.flaky_amplification = amplification;
        Ok(())
    }

    async fn all_is_well_again(&self, round: &mut Round) -> Result<()> {
        let client = self.client(self.policy).await?;
        self.house.tell(Answer::Failure);
        self.until_open_for_long(&client).await?;

        self.house.tell(Answer::Taken);
        let healed = Instant::now();
        let open_max = self.policy.breaker.open_max;
        let calls = self.calls(&client, open_max + Duration::from_secs(1)).await;
        let paid = calls.iter().filter(|call| call.outcome == Outcome::Paid);
        let first = paid.map(|call| call.end).min().ok_or("no call was answered again")?;
        let last = refused(&calls).map(|(end, _)| end).max().unwrap_or(healed);
        round.first_ok_ms = millis(first - healed);
        round.closed_ms = millis(last - healed);
        Ok(())
    }

    /// Until a refusal tells of an opening that no shorter one can be.
    async fn until_open_for_long(&self, client: &Client) -> Result<()> {
        let long = self.policy.breaker.open_max / 2;
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let calls = self.calls(client, LOOK).await;
            if refused(&calls).any(|(_, retry_after)| retry_after > long) {
                return Ok(());
            }
        }
        Err(format!("the breaker was never open for more than {long:?}").into())
    }

    /// A new stack, which has a connection and a token.
    async fn client(&self, policy: CallPolicy) -> Result<Client> {
        let client = self.house.client(policy)?;
        self.house.tell(Answer::Taken);
        match pay(client.clone(), policy.deadline).await {
            Outcome::Paid => Ok(client),
            other => Err(format!("a service that is well does not take a fee: {other:?}").into()),
        }
    }

    /// All calls of a round, while the service answers like this; and how often it was asked for
    /// each of them.
    async fn trouble(&self, client: &Client, answer: Answer) -> (Calls, f64) {
        self.house.tell(answer);
        let before = self.house.asked();
        let calls = self.offer(client, self.options.calls).await;
        let asked = self.house.asked() - before;
        (calls, asked as f64 / f64::from(self.options.calls))
    }

    async fn calls(&self, client: &Client, length: Duration) -> Calls {
        let count = length.as_secs_f64() * f64::from(self.options.rate);
        self.offer(client, count.ceil() as u32).await
    }

    async fn offer(&self, client: &Client, count: u32) -> Calls {
        let deadline = self.policy.deadline;
        offer(self.options.rate, count, || pay(client.clone(), deadline)).await
    }

    /// What it takes to be refused by an open breaker.
    async fn refusals(&self, client: Client) -> Result<Latency> {
        let mut times = Vec::new();
        for _ in 0..REFUSALS {
            let start = Instant::now();
            let outcome = pay(client.clone(), self.policy.deadline).await;
            if let Outcome::Refused(_) = outcome {
                times.push(start.elapsed());
            }
        }
        match times.is_empty() {
            true => Err("the breaker refuses nothing".into()),
            false => Ok(Latency::of(times)),
        }
    }
}

/// Asks for a fee as driving does.
async fn pay(mut client: Client, deadline: Duration) -> Outcome {
    let mut request = Request::new(PayFeeRequest {
        driving: format!("drivings/{ID}"),
        allocation: format!("allocations/{ID}"),
        customer: "customers/bench".to_owned(),
        amount: Some(Money { currency_code: "KRW".to_owned(), units: 3_000, nanos: 0 }),
        request_id: ID.to_owned(),
    });
    request.set_timeout(deadline);
    match client.pay_fee(request).await {
        Ok(_) => Outcome::Paid,
        Err(status) if reason(&status).as_deref() == Some("CIRCUIT_OPEN") => {
            Outcome::Refused(retry_after(&status).unwrap_or_default())
        }
        Err(_) => Outcome::Failed,
    }
}

/// When which refusals of the breaker came, and for how long they are.
fn refused(calls: &[Done<Outcome>]) -> impl Iterator<Item = (Instant, Duration)> {
    calls.iter().filter_map(|call| match call.outcome {
        Outcome::Refused(retry_after) => Some((call.end, retry_after)),
        Outcome::Paid | Outcome::Failed => None,
    })
}

/// When the breaker was first seen to be open.
fn opened(calls: &[Done<Outcome>]) -> Result<Instant> {
    let first = refused(calls).map(|(end, _)| end).min();
    first.ok_or_else(|| "the breaker has not opened".into())
}

fn longest(calls: &[Done<Outcome>]) -> f64 {
    Latency::of(calls.iter().map(Done::wait)).max_ms
}
