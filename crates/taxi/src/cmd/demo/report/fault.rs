//! The figures of a fault: what went wrong when, what became of the rides and fees, and how long
//! people waited before, meanwhile and after.

use std::time::Duration;

use proto::driving::v1::driving::PaymentState;
use serde::Serialize;
use tokio::time::Instant;

use super::{Spread, rounded, row, won};
use crate::cmd::demo::audit::Audit;
use crate::cmd::demo::debt::{REFUSAL, SETTLED};
use crate::cmd::demo::fault::Effect;
use crate::cmd::demo::ledger::{Call, Command, Ledger};
use crate::cmd::demo::outage::Course;
use crate::cmd::demo::places::Lang;
use crate::cmd::demo::scenario::Phase;
use crate::cmd::demo::witness::{BREAKERS, DRIVINGS};

/// What went wrong, and what came of it. Times are seconds since the demo began.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Fault {
    setting: String,
    from: f64,
    to: f64,
    finished: usize,
    deferred: usize,
    declined: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    debts: Option<Debts>,
    breakers: Vec<Breaker>,
    last_fee_after: Option<f64>,
    charges: usize,
    refusals: usize,
    charged_won: i64,
    waits: Waits,
}

/// What became of those who owed a fee.
#[derive(Clone, Copy, Debug, Serialize)]
struct Debts {
    refused: usize,
    settled: usize,
}

/// A breaker that opened. The seconds are those after the beginning and the end of the fault.
#[derive(Clone, Debug, Serialize)]
struct Breaker {
    name: &'static str,
    openings: u64,
    opened_after: Option<f64>,
    closed_after: Option<f64>,
}

/// How long people waited.
#[derive(Clone, Debug, Default, Serialize)]
struct Waits {
    request_before: Option<Spread>,
    request_meanwhile: Option<Spread>,
    finish_before: Option<Spread>,
    finish_meanwhile: Option<Spread>,
    /// Once the breaker had opened, until it closed.
    finish_breaker_open: Option<Spread>,
    finish_after: Option<Spread>,
}

impl Fault {
    /// Sums up.
    pub(super) fn of(course: &Course, ledger: &Ledger, audit: &Audit) -> Fault {
        let begins_at = |instant: Instant| seconds(instant - course.began);
        let finishes = |ride: &&super::Ride| {
            let call = ride.calls.get(&Command::Finish);
            call.is_some_and(|call| course.phase(call.began) == Phase::Meanwhile)
        };
        let told = |state: PaymentState| {
            ledger.rides.iter().filter(finishes).filter(|it| it.fee == Some(state)).count()
        };
        let last =
            audit.fees.iter().filter_map(|fee| waited(course, ledger, fee.ride, fee.approved));
        let taken = audit.taken.unwrap_or_default();
        Fault {
            setting: course.fault.setting(),
            from: begins_at(course.set.at),
            to: begins_at(course.cleared.at),
            finished: ledger.rides.iter().filter(finishes).count(),
            deferred: told(PaymentState::Deferred),
            declined: told(PaymentState::Declined),
            debts: (course.fault.effect == Effect::SomeDeclined).then(|| debts(ledger)),
            breakers: BREAKERS.into_iter().filter_map(|name| breaker(course, name)).collect(),
            last_fee_after: last.max().map(seconds),
            charges: taken.charges,
            refusals: taken.declined,
            charged_won: taken.won,
            waits: waits(course, ledger),
        }
    }

    /// The lines about it, for people.
    pub(super) fn figures(&self, lang: Lang) -> Vec<Vec<String>> {
        let say = |en: String, ko: String| if lang == Lang::Ko { ko } else { en };
        let word = |en: &str, ko: &str| say(en.to_owned(), ko.to_owned());
        let Fault { setting, from, to, finished, deferred, declined, .. } = self;
        let mut rows = vec![
            vec![
                word("FAULT", "장애"),
                say(
                    format!("{setting}, from {from:.1} s to {to:.1} s"),
                    format!("{setting}, {from:.1}초부터 {to:.1}초까지"),
                ),
            ],
            vec![
                word("MEANWHILE", "장애 중"),
                say(
                    format!(
                        "{finished} rides finished: {deferred} fees put off, {declined} declined"
                    ),
                    format!(
                        "운행 {finished}건 완료: 결제 미룸 {deferred}건, 결제 거절 {declined}건"
                    ),
                ),
            ],
        ];
        rows.extend(self.debts.map(|Debts { refused, settled }| {
            vec![
                word("DEBTS", "미납"),
                say(
                    format!("{refused} riders refused another ride, {settled} fees settled"),
                    format!("재요청 거절 {refused}명, 완납 {settled}건"),
                ),
            ]
        }));
        rows.extend(self.breakers.iter().map(|it| vec![it.title(lang), it.said_in(lang)]));
        let last = self.last_fee_after.map_or_else(
            || word("none had to wait for the end of the fault", "장애 종료를 기다린 결제 없음"),
            |after| {
                say(
                    format!("taken {after:.1} s after the end of the fault"),
                    format!("장애 종료 {after:.1}초 뒤"),
                )
            },
        );
        rows.push(vec![word("LAST FEE", "마지막 결제"), last]);
        let (charges, refusals) = (self.charges, self.refusals);
        let amount = won(self.charged_won, lang);
        let log = say(
            format!("{charges} charges and {refusals} refusals in its own log: {amount}"),
            format!("자체 기록 결제 {charges}건, 거절 {refusals}건: {amount}"),
        );
        rows.push(vec![word("PROVIDER", "결제사"), log]);
        rows
    }

    /// The lines of the table of latencies, for people.
    pub(super) fn waits(&self, lang: Lang) -> Vec<Vec<String>> {
        let Waits {
            request_before,
            request_meanwhile,
            finish_before,
            finish_meanwhile,
            finish_breaker_open,
            finish_after,
        } = &self.waits;
        let rows = [
            (request_before, "request, before", "차량 요청, 장애 전"),
            (request_meanwhile, "request, meanwhile", "차량 요청, 장애 중"),
            (finish_before, "finish, before", "도착, 장애 전"),
            (finish_meanwhile, "finish, meanwhile", "도착, 장애 중"),
            (finish_breaker_open, "finish, breaker open", "도착, 서킷 열림"),
            (finish_after, "finish, after", "도착, 장애 후"),
        ];
        let some = rows.into_iter().filter_map(|(spread, en, ko)| {
            let name = if lang == Lang::Ko { ko } else { en };
            Some(row(name.to_owned(), spread.as_ref()?))
        });
        some.collect()
    }
}

impl Breaker {
    fn title(&self, lang: Lang) -> String {
        let title = match (self.name == DRIVINGS, lang) {
            (true, Lang::En) => "BREAKER",
            (true, Lang::Ko) => "서킷 브레이커",
            (false, Lang::En) => "ITS BREAKER",
            (false, Lang::Ko) => "결제사 서킷",
        };
        title.to_owned()
    }

    fn said_in(&self, lang: Lang) -> String {
        let Breaker { openings, opened_after, closed_after, .. } = self;
        let opened = opened_after.unwrap_or_default();
        let times = if *openings == 1 { "once".to_owned() } else { format!("{openings} times") };
        match (lang, closed_after) {
            (Lang::En, Some(closed)) => format!(
                "open after {opened:.1} s, {times} in all; closed {closed:.1} s after the end"
            ),
            (Lang::En, None) => format!("open after {opened:.1} s, {times} in all; not closed yet"),
            (Lang::Ko, Some(closed)) => {
                format!("{opened:.1}초 뒤 열림, 모두 {openings}번; 종료 {closed:.1}초 뒤 닫힘")
            }
            (Lang::Ko, None) => format!("{opened:.1}초 뒤 열림, 모두 {openings}번; 아직 열려 있음"),
        }
    }
}

fn breaker(course: &Course, name: &'static str) -> Option<Breaker> {
    let after = |instant: Option<Instant>, begin: Instant| {
        instant.map(|it| seconds(it.saturating_duration_since(begin)))
    };
    Some(course.breakers.openings(name)).filter(|openings| *openings > 0).map(|openings| Breaker {
        name,
        openings,
        opened_after: after(course.breakers.opened(name), course.set.at),
        closed_after: after(course.breakers.closed(name), course.cleared.at),
    })
}

fn debts(ledger: &Ledger) -> Debts {
    let refused = ledger.debts.iter().filter(|debt| debt.refusal == REFUSAL);
    let settled = ledger.debts.iter().filter(|debt| debt.settled.as_deref() == Some(SETTLED));
    Debts { refused: refused.count(), settled: settled.count() }
}

/// How long after the end of the fault a fee was taken that had to wait for it.
fn waited(
    course: &Course,
    ledger: &Ledger,
    ride: usize,
    approved: Option<kernel::Timestamp>,
) -> Option<Duration> {
    let finish = ledger.rides[ride].calls.get(&Command::Finish)?;
    let approved = approved.filter(|it| *it > course.cleared.time)?;
    (course.phase(finish.began) != Phase::After).then(|| approved.since(course.cleared.time))
}

fn waits(course: &Course, ledger: &Ledger) -> Waits {
    let spread = |command, of: &dyn Fn(&Call) -> bool| {
        let took = ledger.calls(command).filter(of).map(|call| call.took);
        Spread::of(&took.collect::<Vec<_>>())
    };
    let opened = course.breakers.opened(DRIVINGS);
    let closed = course.breakers.closed(DRIVINGS);
    let open = |call: &Call| {
        opened.is_some_and(|it| call.began >= it) && closed.is_none_or(|it| call.began < it)
    };
    let phase = |phase| move |call: &Call| course.phase(call.began) == phase;
    let (before, meanwhile, after) =
        (phase(Phase::Before), phase(Phase::Meanwhile), phase(Phase::After));
    Waits {
        request_before: spread(Command::Request, &before),
        request_meanwhile: spread(Command::Request, &meanwhile),
        finish_before: spread(Command::Finish, &before),
        finish_meanwhile: spread(Command::Finish, &|call| meanwhile(call) && !open(call)),
        finish_breaker_open: spread(Command::Finish, &open),
        finish_after: spread(Command::Finish, &|call| after(call) && !open(call)),
    }
}

fn seconds(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64())
}
