//! What is collected, and the page that explains it.

use std::collections::BTreeSet;

use super::*;

const PAGE: &str = include_str!("../../../../docs/metrics.md");

fn reading(measure: Measure, labels: &[&'static str], value: f64) -> Reading {
    let labels = labels.iter().map(|label| KeyValue::new(*label, "test")).collect();
    Reading { measure, labels, value }
}

fn touch_everything() {
    relay_starts("test");
    consumer_starts("test");
    view_starts("test");
    held("test", 0, 0);
    lease_changed("test", true);
    called("test.v1.Kitchen/Cook".to_owned(), Code::Ok, Duration::ZERO);
    retries_start("test");
    breaker_starts("test");
    let readings = Measure::ALL.map(|measure| match measure {
        Measure::ConsumerPending | Measure::ConsumerUnacknowledged => {
            reading(measure, &["consumer", "shard"], 1.0)
        }
        Measure::ViewAge => reading(measure, &["view", "shard"], 1.0),
        _ => reading(measure, &["context"], 1.0),
    });
    measured("test", readings.to_vec());
}

/// Name, type and labels of each metric, as they are collected.
fn collected() -> BTreeSet<[String; 3]> {
    let text = text().expect("text");
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let metric = |line: &str| {
        let (name, kind) = line.split_once(' ').expect("a name and a type");
        // A histogram has several samples: its count has the labels that we gave it.
        let start =
            if kind == "histogram" { format!("{name}_count{{") } else { format!("{name}{{") };
        let sample = text.lines().find_map(|line| line.strip_prefix(&start)).expect("a sample");
        let labels = sample.split_once('}').expect("labels").0.split(',');
        let mut labels: Vec<_> =
            labels.map(|label| label.split('=').next().unwrap_or_default()).collect();
        labels.sort_unstable();
        [name, kind, &labels.join(", ")].map(str::to_owned)
    };
    types.map(metric).collect()
}

/// The same, as they are written down.
fn documented() -> BTreeSet<[String; 3]> {
    let of_a_metric = ["| `taxi_", "| `rpc_"];
    let rows = PAGE.lines().filter(|line| of_a_metric.iter().any(|it| line.starts_with(it)));
    let metric = |row: &str| {
        let cells: Vec<String> = row.split('|').map(|cell| cell.replace('`', "")).collect();
        let mut labels: Vec<_> = cells[3].split(',').map(str::trim).collect();
        labels.sort_unstable();
        [cells[1].trim(), cells[2].trim(), &labels.join(", ")].map(str::to_owned)
    };
    rows.map(metric).collect()
}

#[test]
fn the_page_and_the_source_are_equal() {
    touch_everything();
    assert_eq!(collected(), documented());
    let words = Outcome::ALL.map(Outcome::as_str).into_iter();
    let words = words.chain(Reason::ALL.map(Reason::as_str));
    let words = words.chain(Retry::ALL.map(Retry::as_str));
    for word in words.chain(State::ALL.map(State::as_str)) {
        assert!(PAGE.contains(&format!("`{word}`")), "{word} is not explained");
    }
}

#[test]
fn what_is_not_measured_any_more_has_no_value() {
    let sample = "taxi_outbox_unsent{context=\"gone\"}";
    let labels = || vec![KeyValue::new("context", "gone")];
    let unsent = Reading { measure: Measure::OutboxUnsent, labels: labels(), value: 7.0 };
    measured("gone", vec![unsent]);
    let text = || super::text().expect("text");
    assert!(text().contains(&format!("{sample} 7\n")), "{}", text());
    measured("gone", Vec::new());
    assert!(!text().contains(sample), "{}", text());
}

#[test]
fn only_a_change_of_a_lease_counts() {
    for held in [false, true, true, false, true] {
        lease_changed("moving", held);
    }
    let text = text().expect("text");
    for line in [
        "taxi_leases_held{name=\"moving\"} 1",
        "taxi_lease_changes_total{name=\"moving\",to=\"held\"} 2",
        "taxi_lease_changes_total{name=\"moving\",to=\"lost\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_not_renewed_lapses() {
    let shown = |value| {
        let line = format!("taxi_leases_held{{name=\"forgotten\"}} {value}");
        text().expect("text").lines().any(|found| found == line)
    };
    lease_changed("forgotten", true);
    tokio::time::advance(LAPSE / 2).await;
    assert!(shown(1));
    tokio::time::advance(LAPSE / 2).await;
    assert!(shown(0));
}

#[test]
fn a_breaker_shows_its_state() {
    breaker_starts("moody");
    for to in [State::Open, State::HalfOpen, State::Open] {
        breaker_changed("moody", to);
    }
    let text = text().expect("text");
    for line in [
        "taxi_breaker_state{name=\"moody\"} 2",
        "taxi_breaker_changes_total{name=\"moody\",to=\"open\"} 2",
        "taxi_breaker_changes_total{name=\"moody\",to=\"closed\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
    }
}

#[test]
fn series_start_at_zero() {
    consumer_starts("quiet");
    lease_changed("quiet", true);
    let text = text().expect("text");
    for line in [
        "taxi_consumer_handled_total{consumer=\"quiet\",outcome=\"parked\"} 0",
        "taxi_lease_changes_total{name=\"quiet\",to=\"lost\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
    }
}
