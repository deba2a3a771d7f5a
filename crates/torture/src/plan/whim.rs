//! What the payment provider does wrong for a while: the knobs of `taxi provider-sim`.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;

use super::seconds;

/// One knob, and how far it is turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whim {
    /// Every answer takes this long.
    Latency(Duration),
    /// So many of a hundred requests end with 500.
    Errors(u32),
    /// So many of a hundred new charges are declined.
    Declines(u32),
    /// So many of a hundred charges and refunds are made, and nobody hears of it.
    LosesAnswers(u32),
    /// Requests are taken and never answered.
    Hangs,
    /// Requests are refused.
    Down,
    /// Connections are closed.
    Closed,
    /// Each webhook comes so many times.
    RepeatsWebhooks(u32),
}

impl Whim {
    /// The knob and its value.
    pub(crate) fn setting(self) -> (&'static str, String) {
        match self {
            Whim::Latency(time) => ("provider.latency", format!("{}ms", time.as_millis())),
            Whim::Errors(percent) => ("provider.error_rate", fraction(percent)),
            Whim::Declines(percent) => ("provider.declines", fraction(percent)),
            Whim::LosesAnswers(percent) => ("provider.lose_answers", fraction(percent)),
            Whim::Hangs => ("provider.hang", "true".to_owned()),
            Whim::Down => ("provider.down", "true".to_owned()),
            Whim::Closed => ("provider.down", "close".to_owned()),
            Whim::RepeatsWebhooks(copies) => ("provider.duplicate_webhooks", copies.to_string()),
        }
    }

    /// The value of a knob at which nothing is wrong.
    pub(crate) fn calm(knob: &str) -> &'static str {
        match knob {
            "provider.latency" => "0ms",
            "provider.duplicate_webhooks" => "1",
            "provider.hang" | "provider.down" => "false",
            _ => "0",
        }
    }
}

impl fmt::Display for Whim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Whim::Latency(time) => write!(f, "{} ms late", time.as_millis()),
            Whim::Errors(percent) => write!(f, "{percent} % errors"),
            Whim::Declines(percent) => write!(f, "{percent} % declined"),
            Whim::LosesAnswers(percent) => write!(f, "{percent} % of the answers lost"),
            Whim::Hangs => write!(f, "hangs"),
            Whim::Down => write!(f, "down"),
            Whim::Closed => write!(f, "closes connections"),
            Whim::RepeatsWebhooks(copies) => write!(f, "each webhook {copies} times"),
        }
    }
}

/// Draws a whim of one sort, and how long it lasts.
pub(super) type Draw = fn(&mut StdRng) -> (Whim, Duration);

/// Every sort; the lost answer is what money is lost by, so it is there three times.
pub(super) const ALL: [Draw; 10] = [
    loses_answers,
    loses_answers,
    loses_answers,
    |rng| {
        let latency = Duration::from_millis(rng.random_range(50..=1_500));
        (Whim::Latency(latency), seconds(rng, 3.0..8.0))
    },
    |rng| (Whim::Errors(percent(rng, 20..101)), seconds(rng, 4.0..10.0)),
    |rng| (Whim::Declines(percent(rng, 20..81)), seconds(rng, 4.0..10.0)),
    |rng| (Whim::Hangs, seconds(rng, 2.0..6.0)),
    |rng| (Whim::Down, seconds(rng, 2.0..6.0)),
    |rng| (Whim::Closed, seconds(rng, 2.0..6.0)),
    |rng| (Whim::RepeatsWebhooks(rng.random_range(2..=5)), seconds(rng, 4.0..12.0)),
];

fn loses_answers(rng: &mut StdRng) -> (Whim, Duration) {
    (Whim::LosesAnswers(percent(rng, 30..101)), seconds(rng, 4.0..12.0))
}

fn percent(rng: &mut StdRng, range: Range<u32>) -> u32 {
    rng.random_range(range)
}

fn fraction(percent: u32) -> String {
    (f64::from(percent) / 100.0).to_string()
}
