//! What others say about the payments of a demo: driving's breaker, by the door's `/metrics`, and the
//! payment provider, by its own log.

use std::collections::BTreeMap;

use reqwest::Client;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::client::cause;
use crate::exit::Exit;
use crate::ready::Ready;

/// The breaker around driving's calls of payment, and that around payment's calls of the provider.
pub(super) const BREAKERS: [&str; 2] = [DRIVINGS, "provider"];
/// The first of them.
pub(super) const DRIVINGS: &str = "pay_fee";

/// How often a breaker has changed since its process began, and how it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Breaker {
    /// To open.
    pub(super) opened: u64,
    /// To closed.
    pub(super) closed: u64,
    /// It lets everybody through.
    pub(super) is_closed: bool,
}

/// What became of the breakers, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Breakers(BTreeMap<&'static str, Vec<(Instant, Breaker)>>);

/// One charge in the provider's log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Charge {
    /// The provider's own name of it.
    pub(super) id: String,
    /// Whole won.
    pub(super) amount: i64,
    /// From whom, by name.
    pub(super) customer: String,
    /// For what, by name.
    pub(super) driving: String,
    /// `approved` or `declined`.
    pub(super) status: String,
}

/// One refund in the provider's log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Refund {
    /// Whole won.
    pub(super) amount: i64,
    /// Of what, by name.
    pub(super) driving: String,
}

/// The provider's log, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Log {
    /// All charges.
    pub(super) charges: Vec<Charge>,
    /// All refunds.
    pub(super) refunds: Vec<Refund>,
}

/// Where to ask.
#[derive(Clone, Debug)]
pub(super) struct Witness {
    http: Client,
    metrics: String,
    provider: String,
}

impl Witness {
    /// Those of a mesh.
    pub(super) fn of(mesh: &Ready) -> Result<Witness, Exit> {
        let missing = |what: &str| {
            let all = "this scenario needs a mesh of `taxi dev`";
            Exit::unavailable(format!("the ready file does not name the {what}: {all}"))
        };
        let gateway = mesh.gateway.as_ref().ok_or_else(|| missing("gateway"))?;
        let provider = mesh.provider.clone().ok_or_else(|| missing("payment provider"))?;
        let http = mesh.trust.http()?;
        Ok(Witness { http, metrics: format!("{gateway}/metrics"), provider })
    }

    /// How the breakers stand.
    pub(super) async fn breakers(&self) -> Result<BTreeMap<&'static str, Breaker>, String> {
        let answer = self.get(&self.metrics).await?;
        let text = answer.text().await.map_err(|error| self.lost(&self.metrics, &error))?;
        Ok(BREAKERS.into_iter().map(|name| (name, breaker(&text, name))).collect())
    }

    /// What the provider has on record.
    pub(super) async fn log(&self) -> Result<Log, String> {
        #[derive(Deserialize)]
        struct Charges {
            charges: Vec<Charge>,
        }
        #[derive(Deserialize)]
        struct Refunds {
            refunds: Vec<Refund>,
        }
        let Charges { charges } = self.read("/v1/charges").await?;
        let Refunds { refunds } = self.read("/v1/refunds").await?;
        Ok(Log { charges, refunds })
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let url = format!("{}{path}", self.provider);
        let answer = self.get(&url).await?;
        answer.json().await.map_err(|error| self.lost(&url, &error))
    }

    async fn get(&self, url: &str) -> Result<reqwest::Response, String> {
        let answer = self.http.get(url).send().await.and_then(|it| it.error_for_status());
        answer.map_err(|error| self.lost(url, &error))
    }

    fn lost(&self, url: &str, error: &reqwest::Error) -> String {
        let why = cause(error);
        format!("{url} does not answer: {why}")
    }
}

/// What the metrics say of one breaker.
fn breaker(text: &str, name: &str) -> Breaker {
    let name = format!("name=\"{name}\"");
    let changes = |to: &str| {
        let to = format!("to=\"{to}\"");
        sample(text, "taxi_breaker_changes_total", &[&name, &to]).unwrap_or_default() as u64
    };
    Breaker {
        opened: changes("open"),
        closed: changes("closed"),
        is_closed: sample(text, "taxi_breaker_state", &[&name]).unwrap_or_default() == 0.0,
    }
}

/// One sample of the text format of Prometheus: the first that has these labels.
fn sample(text: &str, metric: &str, labels: &[&str]) -> Option<f64> {
    let samples = text.lines().filter_map(|line| {
        let (given, value) = line.strip_prefix(metric)?.strip_prefix('{')?.split_once('}')?;
        let has = |label: &&str| given.split(',').any(|it| it == *label);
        labels.iter().all(has).then(|| value.trim().parse().ok())?
    });
    samples.into_iter().next()
}

impl Breakers {
    /// What was seen now; only news is kept.
    pub(super) fn saw(&mut self, now: Instant, breakers: BTreeMap<&'static str, Breaker>) {
        for (name, breaker) in breakers {
            let seen = self.0.entry(name).or_default();
            if seen.last().is_none_or(|(_, last)| *last != breaker) {
                seen.push((now, breaker));
            }
        }
    }

    /// How often this one opened while it was watched.
    pub(super) fn openings(&self, name: &str) -> u64 {
        match self.seen(name) {
            [(_, first), .., (_, last)] => last.opened - first.opened,
            _ => 0,
        }
    }

    /// When it first opened.
    pub(super) fn opened(&self, name: &str) -> Option<Instant> {
        let seen = self.seen(name);
        let (_, first) = seen.first()?;
        Some(seen.iter().find(|(_, it)| it.opened > first.opened)?.0)
    }

    /// When it last closed, if it has opened and is closed now.
    pub(super) fn closed(&self, name: &str) -> Option<Instant> {
        let seen = self.seen(name);
        let last = seen.last().filter(|(_, it)| it.is_closed && self.openings(name) > 0)?.1;
        Some(seen.iter().find(|(_, it)| it.closed == last.closed && it.is_closed)?.0)
    }

    fn seen(&self, name: &str) -> &[(Instant, Breaker)] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const METRICS: &str = r#"# TYPE taxi_breaker_changes_total counter
taxi_breaker_changes_total{name="pay_fee",to="closed"} 4
taxi_breaker_changes_total{name="pay_fee",to="half_open"} 9
taxi_breaker_changes_total{name="pay_fee",to="open"} 7
taxi_breaker_changes_total{name="provider",to="open"} 1
# TYPE taxi_breaker_state gauge
taxi_breaker_state{name="pay_fee"} 1
taxi_breaker_state{name="provider"} 0
"#;

    #[test]
    fn a_breaker_is_read_from_the_metrics() {
        let driving = Breaker { opened: 7, closed: 4, is_closed: false };
        assert_eq!(breaker(METRICS, "pay_fee"), driving);
        let provider = Breaker { opened: 1, closed: 0, is_closed: true };
        assert_eq!(breaker(METRICS, "provider"), provider);
        assert_eq!(breaker("", "pay_fee"), Breaker { is_closed: true, ..Breaker::default() });
        assert_eq!(sample(METRICS, "taxi_breaker", &[]), None);
    }

    #[test]
    fn a_breaker_is_followed_from_its_first_opening_to_its_last_closing() {
        let begin = Instant::now();
        let at = |second| begin + Duration::from_secs(second);
        let mut breakers = Breakers::default();
        for (second, opened, closed, is_closed) in [
            (0, 3, 3, true),
            (1, 3, 3, true),
            (2, 4, 3, false),
            (3, 4, 4, true),
            (4, 6, 4, false),
            (5, 6, 5, true),
        ] {
            assert_eq!(breakers.closed("b").is_some(), second == 4, "{second}");
            let seen = Breaker { opened, closed, is_closed };
            breakers.saw(at(second), BTreeMap::from([("b", seen)]));
        }
        let is = (breakers.openings("b"), breakers.opened("b"), breakers.closed("b"));
        assert_eq!(is, (3, Some(at(2)), Some(at(5))));
        let other = (breakers.openings("c"), breakers.opened("c"), breakers.closed("c"));
        assert_eq!(other, (0, None, None));
    }

    #[test]
    fn who_cannot_be_asked_is_named() {
        let mesh = Ready { gateway: Some(String::new()), ..Ready::default() };
        let refused = Witness::of(&mesh).expect_err("no provider").to_string();
        assert!(refused.starts_with("the ready file does not name the payment provider"));
    }
}
