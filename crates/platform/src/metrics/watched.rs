//! The alerts and the dashboard speak of metrics that there are, and each alert has its runbook.

use std::collections::BTreeSet;
use std::path::Path;

const PAGE: &str = include_str!("../../../../docs/metrics.md");
const RULES: &str = include_str!("../../../../deploy/helm/taxi/files/rules.yaml");
const PANELS: &str = include_str!("../../../../deploy/helm/taxi/files/dashboard.json");
const RUNBOOKS: &str = include_str!("../../../../docs/runbooks/README.md");

/// The words of a text that begin like this, without what comes before a `:` in them.
fn words<'a>(text: &'a str, starts: &[&str]) -> BTreeSet<&'a str> {
    let is_inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    let words = text.split(|c| !is_inside(c));
    words.filter(|word| starts.iter().any(|start| word.starts_with(start))).collect()
}

/// The metrics that a text speaks of, by their names on the page.
fn metrics(text: &str) -> BTreeSet<&str> {
    let words = words(text, &["taxi_", "rpc_server_", "rpc_client_"]).into_iter();
    words.map(|word| word.trim_end_matches("_bucket").trim_end_matches("_count")).collect()
}

/// What stands behind a key, in whichever lines.
fn values<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| line.trim_start_matches([' ', '-']).strip_prefix(key))
}

#[test]
fn every_metric_that_is_watched_is_on_the_page() {
    // In a row, or, like what only a mesh with TLS has, in a sentence.
    let on_the_page = metrics(PAGE);
    for text in [RULES, PANELS] {
        let unknown: Vec<_> = metrics(text).difference(&on_the_page).copied().collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
    let recorded: BTreeSet<&str> = values(RULES, "record: ").collect();
    for text in [RULES, PANELS] {
        let unknown: Vec<_> = words(text, &["job:"]).difference(&recorded).copied().collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}

#[test]
fn every_metric_has_a_panel() {
    let shown = metrics(PANELS);
    let missing: Vec<_> = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
        .map(|(name, _)| name)
        .filter(|name| !shown.contains(name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_alert_has_its_runbook_and_every_runbook_its_alert() {
    let alerts: BTreeSet<&str> = values(RULES, "alert: ").collect();
    let linked: BTreeSet<String> = values(RULES, "runbook_url: ").map(str::to_owned).collect();
    let page = |alert: &&str| format!("docs/runbooks/{alert}.md");
    assert_eq!(linked, alerts.iter().map(page).collect());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/runbooks");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|file| file.expect("a file").file_name().into_string().expect("text"))
        .filter(|name| name != "README.md")
        .collect();
    assert_eq!(files, alerts.iter().map(|alert| format!("{alert}.md")).collect());
    for file in files {
        assert!(RUNBOOKS.contains(&format!("]({file})")), "{file} is not in the list");
    }
}
