//! What is collected, and the page that explains it.

use std::collections::BTreeSet;

use http::{HeaderMap, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tonic::Code;

use super::calls::{Call, Methods, OTHER, Watcher as _};
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
    built_from("1.0.0", "test");
    committed("test.v1.Cooked");
    calls::server_starts();
    drop(Call::served("test.v1.Kitchen/Cook"));
    drop(Call::asked("/test.v1.Kitchen/Cook"));
    retries_start("test");
    breaker_starts("test");
    let readings = [
        (Measure::OUTBOX_UNSENT, &["context"][..]),
        (Measure::OUTBOX_AGE, &["context"]),
        (Measure::CONSUMER_PENDING, &["consumer", "shard"]),
        (Measure::CONSUMER_UNACKNOWLEDGED, &["consumer", "shard"]),
        (Measure::PARKED_EVENTS, &["context"]),
        (Measure::VIEW_AGE, &["view", "shard"]),
    ];
    let readings = readings.map(|(measure, labels)| reading(measure, labels, 1.0));
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
fn what_is_collected_is_on_the_page() {
    touch_everything();
    // The page has also what contexts and the gateway count themselves: see `taxi`'s test.
    assert_eq!(
        collected().difference(&documented()).collect::<Vec<_>>(),
        Vec::<&[String; 3]>::new()
    );
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
    let unsent = Reading { measure: Measure::OUTBOX_UNSENT, labels: labels(), value: 7.0 };
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

/// How many calls of this method have been answered with this code.
fn answered(method: &str, code: &str) -> Option<String> {
    let start = format!(
        "rpc_server_call_duration_seconds_count{{rpc_method=\"{method}\",\
         rpc_response_status_code=\"{code}\",rpc_system_name=\"grpc\"}} "
    );
    let text = text().expect("text");
    text.lines().find_map(|line| line.strip_prefix(&start)).map(str::to_owned)
}

/// How many are being answered.
fn active(method: &str) -> Option<String> {
    let start = format!("taxi_server_calls_active{{rpc_method=\"{method}\"}} ");
    let text = text().expect("text");
    text.lines().find_map(|line| line.strip_prefix(&start)).map(str::to_owned)
}

#[tokio::test]
async fn a_stream_counts_when_it_ends() {
    const METHOD: &str = "test.v1.Kitchen/Watch";
    let trailers = HeaderMap::from_iter([("grpc-status", "14")].map(|(name, code)| {
        (http::HeaderName::from_static(name), http::HeaderValue::from_static(code))
    }));
    let frames = [Frame::data(bytes::Bytes::from_static(b"soup")), Frame::trailers(trailers)];
    let frames = frames.map(Ok::<_, std::convert::Infallible>);
    let body = StreamBody::new(futures::stream::iter(frames));
    let mut body = Call::served(METHOD).follow(Response::new(body)).into_body();
    body.frame().await.expect("data").expect("no error");
    assert_eq!((answered(METHOD, "UNAVAILABLE"), active(METHOD)), (None, Some("1".to_owned())));
    body.frame().await.expect("trailers").expect("no error");
    let one = Some("1".to_owned());
    assert_eq!((answered(METHOD, "UNAVAILABLE"), active(METHOD)), (one, Some("0".to_owned())));
}

#[test]
fn who_is_not_waited_for_is_cancelled() {
    const METHOD: &str = "test.v1.Kitchen/Forget";
    drop(Call::served(METHOD));
    assert_eq!(answered(METHOD, "CANCELLED"), Some("1".to_owned()));
    Call::served(METHOD).ended(Code::Ok);
    assert_eq!(answered(METHOD, "OK"), Some("1".to_owned()));
}

#[test]
fn strangers_make_up_no_labels() {
    let health = tonic_health::pb::FILE_DESCRIPTOR_SET;
    let methods = Methods::of(&["grpc.health.v1.Health"], [health]);
    assert_eq!(methods.at("/grpc.health.v1.Health/Check"), "grpc.health.v1.Health/Check");
    assert_eq!(methods.at("/grpc.health.v1.Health/Chuck"), OTHER);
    assert_eq!(Methods::of(&[], [health]).at("/grpc.health.v1.Health/Check"), OTHER);
}
