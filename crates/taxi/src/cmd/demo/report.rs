//! The figures of a demo, as a table for people and as JSON for programs.

mod fault;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::audit::Audit;
use super::city::City;
use super::ledger::{Cancel, Command, Contest, Kind, Ledger, Ride, Stage};
use super::outage::Course;
use super::places::Lang;
use super::scenario::Scenario;
use fault::Fault;

/// How some durations are spread, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Spread {
    count: usize,
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
}

impl Spread {
    /// The spread of at least one duration, by nearest rank: each figure is one that occurred.
    fn of(durations: &[Duration]) -> Option<Spread> {
        let mut sorted = durations.to_vec();
        sorted.sort_unstable();
        let at = |percent| ranked(&sorted, percent).map(|it| it.as_micros() as f64 / 1_000.0);
        Some(Spread { count: sorted.len(), p50_ms: at(50)?, p95_ms: at(95)?, p99_ms: at(99)? })
    }
}

/// The duration that 99 percent of them do not exceed.
pub(super) fn p99(durations: impl Iterator<Item = Duration>) -> Option<Duration> {
    let mut sorted: Vec<Duration> = durations.collect();
    sorted.sort_unstable();
    ranked(&sorted, 99)
}

fn ranked(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(rank).copied()
}

/// How rides ended.
#[derive(Clone, Copy, Debug, Serialize)]
struct Rides {
    planned: usize,
    finished: usize,
    cancelled: usize,
    expired: usize,
    refused: usize,
}

/// What those were told who cancelled.
#[derive(Clone, Copy, Debug, Serialize)]
struct Cancels {
    cancelled: usize,
    decided_later: usize,
    already_started: usize,
    refused: usize,
}

/// How often drivers accepted at the same instant.
#[derive(Clone, Copy, Debug, Serialize)]
struct Contests {
    /// Several drivers, one ride.
    races: usize,
    /// One driver, two rides.
    doubles: usize,
    /// Several drivers, and a ride that is taken.
    late: usize,
}

/// The figures of a demo.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    run: String,
    scenario: Scenario,
    seed: u64,
    seconds: f64,
    rides_per_second: f64,
    rides: Rides,
    accepts_lost: usize,
    /// Of all people.
    calls: usize,
    /// Of them: those without an answer, or with one that says to try again.
    calls_failed: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancels: Option<Cancels>,
    #[serde(skip_serializing_if = "Option::is_none")]
    contests: Option<Contests>,
    messages: usize,
    fees_won: i64,
    /// Of the whole mesh, other demos included.
    #[serde(skip_serializing_if = "Option::is_none")]
    stuck: Option<i64>,
    latency: BTreeMap<Command, Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finish_to_dashboard: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<Fault>,
    violations: Vec<String>,
}

impl Report {
    /// Sums up.
    pub(super) fn of(
        city: &City,
        lasted: Duration,
        audit: Audit,
        course: Option<&Course>,
    ) -> Report {
        let plan = &city.plan;
        city.note(|ledger| Report {
            run: city.run.clone(),
            scenario: plan.scenario,
            seed: plan.seed,
            seconds: rounded(lasted.as_secs_f64()),
            rides_per_second: rounded(ledger.ended() as f64 / lasted.as_secs_f64()),
            rides: Rides {
                planned: plan.size.rides,
                finished: ledger.at(Stage::Finished),
                cancelled: ledger.at(Stage::Cancelled),
                expired: ledger.at(Stage::Expired),
                refused: ledger.at(Stage::Refused),
            },
            accepts_lost: ledger.lost,
            calls: city.calls.made(),
            calls_failed: city.calls.failed(),
            cancels: (plan.scenario == Scenario::Cancel).then(|| cancels(ledger)),
            contests: (plan.scenario == Scenario::DriverRace).then(|| contests(&ledger.contests)),
            messages: audit.messages,
            fees_won: audit.paid,
            stuck: audit.stuck,
            latency: spreads(ledger),
            finish_to_dashboard: Spread::of(&ledger.shown),
            fault: course.map(|course| Fault::of(course, ledger, &audit)),
            violations: audit.violations,
        })
    }

    /// What is wrong.
    pub(super) fn violations(&self) -> &[String] {
        &self.violations
    }

    /// The figures for people.
    pub(super) fn table(&self, lang: Lang) -> String {
        let say = |en: &str, ko: &str| if lang == Lang::Ko { ko } else { en }.to_owned();
        let figures = columns(&self.figures(lang), |_| Side::Left);
        let mut rows = vec![
            [say("LATENCY", "응답 시간"), say("COUNT", "횟수")]
                .into_iter()
                .chain(["P50", "P95", "P99"].map(str::to_owned))
                .collect(),
        ];
        let name = |command| match command {
            Command::Request => say("request", "차량 요청"),
            Command::Accept => say("accept", "수락"),
            Command::Start => say("start", "출발"),
            Command::Cancel => say("cancel", "취소"),
            Command::Finish => say("finish", "도착"),
        };
        rows.extend(self.latency.iter().map(|(command, spread)| row(name(*command), spread)));
        let shown = self.finish_to_dashboard.as_ref();
        rows.extend(shown.map(|it| row(say("finish → dashboard", "도착 → 현황"), it)));
        rows.extend(self.fault.iter().flat_map(|fault| fault.waits(lang)));
        let latency = columns(&rows, |column| if column == 0 { Side::Left } else { Side::Right });
        format!("{figures}\n{latency}").trim_end().to_owned()
    }

    fn figures(&self, lang: Lang) -> Vec<Vec<String>> {
        let say = |en: &str, ko: &str| if lang == Lang::Ko { ko } else { en }.to_owned();
        let counts = |counts: &[(usize, &str, &str)]| {
            let some = counts.iter().filter(|(count, ..)| *count > 0);
            let said = some.map(|(count, en, ko)| format!("{count} {}", say(en, ko)));
            said.collect::<Vec<_>>().join(", ")
        };
        let Rides { finished, cancelled, expired, refused, planned } = self.rides;
        let ended = [
            (finished, "finished", "완료"),
            (cancelled, "cancelled", "취소"),
            (expired, "without a driver", "미배정"),
            (refused, "refused", "거절"),
        ];
        let rides = format!("{planned}: {}", counts(&ended));
        let speed = format!("{:.1} s, {:.2}/s", self.seconds, self.rides_per_second);
        let run = format!("{}, {}, --seed {}", self.run, self.scenario.as_str(), self.seed);
        let mut rows = vec![
            vec![say("RUN", "실행"), run],
            vec![say("RIDES", "운행"), rides],
            vec![say("TOOK", "소요 시간"), speed],
        ];
        if let Some(Cancels { cancelled, decided_later, already_started, refused }) = self.cancels {
            let told = [
                (cancelled, "in time", "성공"),
                (decided_later, "decided later", "나중에 결정"),
                (already_started, "too late", "이미 출발"),
                (refused, "refused", "거절"),
            ];
            rows.push(vec![say("CANCELS", "취소 요청"), counts(&told)]);
        }
        if let Some(Contests { races, doubles, late }) = self.contests {
            let held = [
                (races, "races for one ride", "수락 경쟁"),
                (doubles, "drivers for two rides", "동시 수락"),
                (late, "too late", "늦은 수락"),
            ];
            rows.push(vec![say("CONTESTS", "경쟁"), counts(&held)]);
        }
        rows.push(vec![say("ACCEPTS LOST", "놓친 수락"), self.accepts_lost.to_string()]);
        let calls = match lang {
            Lang::Ko => format!("{}건 중 {}건", self.calls, self.calls_failed),
            Lang::En => format!("{} of {}", self.calls_failed, self.calls),
        };
        rows.push(vec![say("CALLS FAILED", "실패한 호출"), calls]);
        rows.push(vec![say("MESSAGES", "메시지"), self.messages.to_string()]);
        rows.push(vec![say("FEES", "요금"), won(self.fees_won, lang)]);
        rows.extend(self.fault.iter().flat_map(|fault| fault.figures(lang)));
        if let Some(stuck @ 1..) = self.stuck {
            let of_all = say("in the whole mesh", "전체 서비스");
            rows.push(vec![say("STUCK", "멈춘 운행"), format!("{stuck} ({of_all})")]);
        }
        rows
    }
}

/// To hundredths.
fn rounded(figure: f64) -> f64 {
    (figure * 100.0).round() / 100.0
}

fn cancels(ledger: &Ledger) -> Cancels {
    let told = |which: fn(&Cancel) -> bool| {
        ledger.rides.iter().filter(|ride| ride.cancel.as_ref().is_some_and(which)).count()
    };
    Cancels {
        cancelled: told(|it| *it == Cancel::Done),
        decided_later: told(|it| *it == Cancel::Pending),
        already_started: told(|it| *it == Cancel::TooLate),
        refused: told(|it| matches!(it, Cancel::Refused(_))),
    }
}

fn contests(held: &[Contest]) -> Contests {
    let count = |kind| held.iter().filter(|contest| contest.kind == kind).count();
    Contests { races: count(Kind::Race), doubles: count(Kind::Double), late: count(Kind::Late) }
}

fn spreads(ledger: &Ledger) -> BTreeMap<Command, Spread> {
    let took = |command| ledger.calls(command).map(|call| call.took).collect::<Vec<_>>();
    let spreads = Command::ALL.into_iter();
    spreads.filter_map(|command| Some((command, Spread::of(&took(command))?))).collect()
}

fn row(name: String, spread: &Spread) -> Vec<String> {
    let figures = [spread.p50_ms, spread.p95_ms, spread.p99_ms].map(|ms| format!("{ms:.1} ms"));
    [name, spread.count.to_string()].into_iter().chain(figures).collect()
}

/// An amount as people write it.
pub(super) fn won(amount: i64, lang: Lang) -> String {
    let digits = amount.unsigned_abs().to_string();
    let mut grouped = if amount < 0 { "-" } else { "" }.to_owned();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    match lang {
        Lang::Ko => format!("{grouped}원"),
        Lang::En => format!("{grouped} KRW"),
    }
}

/// On which side of its column a cell stands.
enum Side {
    Left,
    Right,
}

/// Rows under each other, by the width that a terminal gives them.
fn columns(rows: &[Vec<String>], side: impl Fn(usize) -> Side) -> String {
    let widest = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max().unwrap_or(0)
    };
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let blanks = " ".repeat(widest(column) - width(cell));
            match side(column) {
                Side::Left => format!("{cell}{blanks}"),
                Side::Right => format!("{blanks}{cell}"),
            }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// How many columns of a terminal a text takes: Hangul takes two for each syllable.
fn width(text: &str) -> usize {
    text.chars()
        .map(|c| if ('\u{1100}'..'\u{10000}').contains(&c) && !is_symbol(c) { 2 } else { 1 })
        .sum()
}

/// Arrows and dots are as narrow as letters.
fn is_symbol(c: char) -> bool {
    ('\u{2000}'..'\u{2e80}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(durations: &[u64]) -> Vec<Duration> {
        durations.iter().copied().map(Duration::from_millis).collect()
    }

    #[test]
    fn a_percentile_is_a_duration_that_occurred() {
        let spread = |durations: &[u64]| {
            Spread::of(&millis(durations)).map(|it| (it.count, it.p50_ms, it.p95_ms, it.p99_ms))
        };
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[7]), Some((1, 7.0, 7.0, 7.0)));
        assert_eq!(spread(&[4, 1, 3, 2]), Some((4, 2.0, 4.0, 4.0)));
        let hundred: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(spread(&hundred), Some((100, 50.0, 95.0, 99.0)));
    }

    #[test]
    fn won_are_grouped_by_thousands() {
        for (amount, text) in [
            (0, "0 KRW"),
            (999, "999 KRW"),
            (1_000, "1,000 KRW"),
            (1_234_567, "1,234,567 KRW"),
            (-20_000, "-20,000 KRW"),
        ] {
            assert_eq!(won(amount, Lang::En), text);
        }
        assert_eq!(won(20_000, Lang::Ko), "20,000원");
    }

    #[test]
    fn columns_stand_under_each_other_in_korean_too() {
        let rows =
            [["수락", "1.5 ms"], ["a → b", "10.0 ms"]].map(|row| row.map(str::to_owned).to_vec());
        let side = |column| if column == 0 { Side::Left } else { Side::Right };
        assert_eq!(columns(&rows, side), "수락    1.5 ms\na → b  10.0 ms\n");
    }
}
