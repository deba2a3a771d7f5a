//! The scripts in `examples`, run as a person would run them. What a ride prints is what is recorded
//! beside it, but for ids, which are numbered in the order in which they are first seen.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use testkit::{Backing, Mesh, tool};
use tokio::process::Command;

use crate::people::{dev, dev_with};

/// Set to record anew what the scripts print.
const UPDATE: &str = "UPDATE_EXAMPLES";
/// How long a script may take, on a machine that has much else to do.
const SCRIPT: Duration = Duration::from_secs(120);
/// The fee is waited for until it is taken, however busy the machine is.
const PATIENT: &str = "
[payment]
deadline = \"10s\"
provider_timeout = \"8s\"
[call.pay_fee]
attempt_timeout = \"9s\"
";

#[tokio::test(flavor = "multi_thread")]
async fn rides_print_what_is_recorded_beside_them() {
    let mesh = dev_with(Backing::Sqlite, PATIENT).await;
    for example in ["curl/ride", "grpcurl/ride"] {
        let printed = masked(&run(&mesh, example).await);
        let record = examples().join(example).with_extension("txt");
        if std::env::var_os(UPDATE).is_some() {
            std::fs::write(&record, &printed).expect("a file that can be written");
        }
        let recorded = std::fs::read_to_string(&record).unwrap_or_default();
        assert!(
            printed == recorded,
            "{} is not what the script prints. If it should change: {UPDATE}=1. Now it is:\n{printed}",
            record.display()
        );
        println!("{example}: {} lines", printed.lines().count());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_is_every_method() {
    let mesh = dev(Backing::Sqlite).await;
    let printed = run(&mesh, "curl/every-method").await;
    let asked: Vec<(&str, &str)> = printed.lines().filter_map(asked).collect();
    let described = described(&mesh).await;
    let is_asked = |method: &str, path: &str| {
        asked.iter().any(|(one, other)| one.eq_ignore_ascii_case(method) && is_one(other, path))
    };
    let missing: Vec<_> =
        described.iter().filter(|(method, path)| !is_asked(method, path)).collect();
    println!("{} methods", described.len());
    assert!(missing.is_empty() && described.len() > 20, "{missing:#?}");
}

/// Method and path of a line: `200 GET /v1/payments?pageSize=1`.
fn asked(line: &str) -> Option<(&str, &str)> {
    let (method, path) = line.split_once(' ')?.1.split_once(' ')?;
    Some((method, path.split('?').next()?))
}

/// All methods and paths of the gateway's own description.
async fn described(mesh: &Mesh) -> Vec<(String, String)> {
    let document = mesh.http().get(format!("{}/openapi.json", mesh.gateway())).send().await;
    let document: Value = document.expect("an answer").json().await.expect("JSON");
    let paths = document["paths"].as_object().expect("paths").clone();
    let methods = |(path, item): (String, Value)| {
        let methods: Vec<String> = item.as_object().expect("an item").keys().cloned().collect();
        methods.into_iter().map(move |method| (method, path.clone()))
    };
    paths.into_iter().flat_map(methods).collect()
}

/// Whether a path is one of a template's, of which `{..}` is part of a segment.
fn is_one(path: &str, template: &str) -> bool {
    let (paths, templates) = (path.split('/'), template.split('/'));
    paths.clone().count() == templates.clone().count()
        && paths.zip(templates).all(|(part, template)| match template.split_once('}') {
            Some((_, verb)) => part.ends_with(verb) && part.contains(':') == verb.contains(':'),
            None => part == template,
        })
}

async fn run(mesh: &Mesh, example: &str) -> String {
    // What the scripts look for themselves; without them they would say so less plainly.
    for program in ["curl", "jq", "grpcurl"] {
        let _ = tool(program, "examples");
    }
    let mut command = Command::new(examples().join(example).with_extension("sh"));
    command.arg(mesh.gateway()).env("NO_PROXY", "127.0.0.1").kill_on_drop(true);
    let output = tokio::time::timeout(SCRIPT, command.output()).await;
    let output = output.expect("a script that ends").expect("a script that starts");
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (printed, errors) = (words(&output.stdout), words(&output.stderr));
    assert!(output.status.success(), "{example}: {printed}\n{errors}");
    printed
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

/// What is another one each time, numbered: the same word is the same number.
fn masked(text: &str) -> String {
    let mut seen: Vec<&str> = Vec::new();
    let word = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    let mut masked = String::new();
    for piece in text.split_inclusive(|letter| !word(letter)) {
        let (name, rest) = piece.split_at(piece.trim_end_matches(|letter| !word(letter)).len());
        match kind(name) {
            Some(kind) => {
                let at = seen.iter().position(|one| *one == name).unwrap_or(seen.len());
                if at == seen.len() {
                    seen.push(name);
                }
                masked += &format!("{kind}{}", at + 1);
            }
            None => masked += name,
        }
        masked += rest;
    }
    masked
}

/// What sort of a word that is made up each time this is.
fn kind(word: &str) -> Option<&'static str> {
    let person = word.split('-').next().filter(|role| matches!(*role, "rider" | "driver"));
    let number = word.split('-').skip(1).all(|part| part.parse::<u32>().is_ok());
    match person {
        Some("rider") if number && word.contains('-') => Some("rider-"),
        Some(_) if number && word.contains('-') => Some("driver-"),
        _ if kernel::Uuid::try_parse(word).is_ok() && word.contains('-') => Some("id-"),
        _ if word.len() > 60 => Some("token-"),
        _ => None,
    }
}
