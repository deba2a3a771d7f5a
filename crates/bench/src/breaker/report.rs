//! What was measured, and whether it is what was wanted.

use std::fmt::{self, Formatter};

use platform::client::CallPolicy;
use serde::Serialize;

use crate::process::Machine;
use crate::stats::{Rounds, millis};
use crate::table::{Goal, goals, row};

use super::mesh::{Mesh, Openings, Turns};
use super::stack::Stack;

/// All measurements.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    machine: Machine,
    attempt_timeout_ms: f64,
    open_max_ms: f64,
    pub(crate) stack: Option<Stack>,
    pub(crate) mesh: Option<Mesh>,
    goals: Vec<Goal>,
}

impl Report {
    /// Nothing is measured yet.
    pub(crate) fn new(machine: Machine, policy: &CallPolicy) -> Report {
        Report {
            machine,
            attempt_timeout_ms: millis(policy.attempt_timeout),
            open_max_ms: millis(policy.breaker.open_max),
            stack: None,
            mesh: None,
            goals: Vec::new(),
        }
    }

    /// Compares with what is wanted.
    pub(crate) fn judge(&mut self) {
        let mut goals = Vec::new();
        if let Some(stack) = &self.stack {
            goals.extend(self.of_stack(stack));
        }
        if let Some(mesh) = &self.mesh {
            let troubles =
                [("payment hangs", &mesh.payment_hangs), ("provider hangs", &mesh.provider_hangs)];
            for (trouble, turns) in troubles {
                goals.extend(self.of_turns(trouble, turns, &mesh.well));
            }
            goals.push(at_most("fees lost", "0", mesh.fees.lost as f64, 0.0));
            goals.push(at_most("fees taken twice", "0", mesh.fees.twice as f64, 0.0));
        }
        self.goals = goals;
    }

    fn of_stack(&self, stack: &Stack) -> Vec<Goal> {
        let Stack { failing, silent, flaky, recovery, .. } = stack;
        let beyond = |waits: &Rounds| largest(waits) - self.attempt_timeout_ms;
        let share = flaky.all_ok_percent;
        vec![
            at_most("all fail: asked for each call", "<= 0.05", failing.amplification.median, 0.05),
            at_most("the same, budget alone", "<= 1.1", stack.budget_alone.median, 1.1),
            at_most("refused by the breaker, p99", "<= 12 us", failing.refusal_p99_us.median, 12.0),
            at_most(
                "silent: beyond attempt timeout",
                "<= 50 ms",
                beyond(&silent.wait_before_ms),
                50.0,
            ),
            at_most("the same, once open", "<= 50 ms", beyond(&silent.wait_after_ms), 50.0),
            Goal {
                what: "20 % fail: OK".to_owned(),
                wanted: ">= 98.5 %",
                measured: share,
                ok: share >= 98.5,
            },
            at_most("the same: asked for each call", "<= 1.25", flaky.amplification.median, 1.25),
            at_most(
                "well again: closed, of open_max",
                "<= 1",
                largest(&recovery.closed_ms) / self.open_max_ms,
                1.0,
            ),
        ]
    }

    fn of_turns(&self, trouble: &str, turns: &Turns, well: &Turns) -> Vec<Goal> {
        let request = turns.request_p99_ms.median / well.request_p99_ms.median;
        let beyond = turns.finish_p99_ms.median - self.attempt_timeout_ms;
        let of_well = |which: fn(&Openings) -> &Rounds| {
            let p99 = turns.breaker.as_ref().map_or(f64::INFINITY, |it| which(it).median);
            p99 / well.finish_p99_ms.median
        };
        let goal = |what: &str, wanted, measured, most| {
            at_most(&format!("{trouble}: {what}"), wanted, measured, most)
        };
        vec![
            goal("request, of well", "<= 1.2", request, 1.2),
            goal("finish, over timeout", "<= 50 ms", beyond, 50.0),
            goal("finish 1 s later", "<= 1.5", of_well(|it| &it.then_p99_ms), 1.5),
            goal("but probes", "<= 1.5", of_well(|it| &it.others_p99_ms), 1.5),
        ]
    }
}

fn at_most(what: &str, wanted: &'static str, measured: f64, most: f64) -> Goal {
    Goal { what: what.to_owned(), wanted, measured, ok: measured <= most }
}

/// Nobody may wait longer: here the worst round counts.
fn largest(rounds: &Rounds) -> f64 {
    rounds.rounds.iter().copied().fold(0.0, f64::max)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Report { machine, attempt_timeout_ms, open_max_ms, .. } = self;
        writeln!(f, "\n{machine}")?;
        writeln!(
            f,
            "an attempt takes {attempt_timeout_ms} ms at most, a breaker opens for {open_max_ms} ms \
             at most"
        )?;
        if let Some(stack) = &self.stack {
            stack.fmt(f)?;
        }
        if let Some(mesh) = &self.mesh {
            mesh.fmt(f)?;
        }
        goals(f, &self.goals)
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Stack { rate, calls, failing, silent, flaky, recovery, .. } = self;
        writeln!(f, "\nThe client stack of pay_fee, {calls} calls at {rate} a second")?;
        writeln!(f, "every call fails")?;
        row(f, "asked for each call", &failing.amplification, "")?;
        row(f, "the same, budget alone", &self.budget_alone, "")?;
        row(f, "and after 10 s of health", &self.budget_alone_after_health, "")?;
        row(f, "until open", &failing.open_ms, "ms")?;
        row(f, "refused by the breaker, p50", &failing.refusal_p50_us, "us")?;
        row(f, "refused by the breaker, p99", &failing.refusal_p99_us, "us")?;
        writeln!(f, "no call is answered")?;
        row(f, "until open", &silent.open_ms, "ms")?;
        row(f, "longest wait, before", &silent.wait_before_ms, "ms")?;
        row(f, "longest wait, after", &silent.wait_after_ms, "ms")?;
        row(f, "probes that waited, after", &silent.probes, "")?;
        writeln!(f, "20 % fail")?;
        row(f, "OK", &flaky.ok_percent, "%")?;
        row(f, "asked for each call", &flaky.amplification, "")?;
        writeln!(f, "well again, just after the longest opening began")?;
        row(f, "first OK", &recovery.first_ok_ms, "ms")?;
        row(f, "last refusal", &recovery.closed_ms, "ms")
    }
}

impl fmt::Display for Mesh {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Mesh { requests, finishes, seconds, well, payment_hangs, provider_hangs, fees } = self;
        writeln!(
            f,
            "\nThe mesh, {requests} requests and {finishes} finished drivings a second, {seconds} s"
        )?;
        writeln!(f, "all is well")?;
        well.fmt(f)?;
        writeln!(f, "payment hangs: its process is stopped")?;
        payment_hangs.fmt(f)?;
        writeln!(f, "the payment provider hangs")?;
        provider_hangs.fmt(f)?;
        writeln!(f, "fees: {} due, {} lost, {} taken twice", fees.due, fees.lost, fees.twice)
    }
}

impl fmt::Display for Turns {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        row(f, "RequestAllocation p50", &self.request_p50_ms, "ms")?;
        row(f, "RequestAllocation p99", &self.request_p99_ms, "ms")?;
        row(f, "FinishDriving p50", &self.finish_p50_ms, "ms")?;
        row(f, "FinishDriving p99", &self.finish_p99_ms, "ms")?;
        row(f, "FinishDriving max", &self.finish_max_ms, "ms")?;
        row(f, "answered as deferred", &self.deferred, "")?;
        let (requests, finishes) = (self.requests_failed, self.finishes_failed);
        if requests + finishes > 0 {
            writeln!(f, "  {requests} requests, {finishes} finishes FAILED")?;
        }
        if let Some(breaker) = &self.breaker {
            breaker.fmt(f)?;
        }
        row(f, "at the end -> the last fee taken", &self.last_fee_ms, "ms")
    }
}

impl fmt::Display for Openings {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        row(f, "until the breaker opens", &self.open_ms, "ms")?;
        row(f, "FinishDriving p99, the next second", &self.first_second_p99_ms, "ms")?;
        row(f, "FinishDriving p50, from then on", &self.then_p50_ms, "ms")?;
        row(f, "FinishDriving p99, from then on", &self.then_p99_ms, "ms")?;
        row(f, "probes that waited, from then on", &self.probes, "")?;
        row(f, "all others' p99, from then on", &self.others_p99_ms, "ms")?;
        row(f, "at the end -> the breaker is closed", &self.closed_ms, "ms")
    }
}
