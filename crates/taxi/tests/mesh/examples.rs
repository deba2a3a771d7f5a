//! The scripts in `examples`, run as a person would run them. What a ride prints is what is recorded
//! beside it, but for ids, which are numbered in the order in which they are first seen. Each of them
//! meets a gateway that refuses much, and is away for a moment.
//!
//! The languages that need a toolchain are made ready by `make test`, before a mesh waits for them.
//! One whose toolchain is missing is skipped, by name.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use testkit::{Backing, Fault, Mesh, Proxy, tool};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::people::{dev, dev_with};

/// Set to record anew what the scripts print.
const UPDATE: &str = "UPDATE_EXAMPLES";
/// How long a script may take, on a machine that has much else to do, when it also has to fetch and
/// to build what `make test` has not.
const PATIENCE: Duration = Duration::from_secs(600);
/// The fee is waited for until it is taken, however busy the machine is.
const PATIENT: &str = "
[payment]
deadline = \"10s\"
provider_timeout = \"8s\"
[call.pay_fee]
attempt_timeout = \"9s\"
";
/// A gateway that refuses much, with `RetryInfo`.
const STRICT: &str = "
[gateway]
per_principal = { per_second = 2, burst = 2 }
";
/// What an example says that waits, behind the reason; and the reason when nobody was there.
const AGAIN: &str = ": again in ";
const NOBODY: [&str; 2] = ["UNAVAILABLE", "no answer"];

#[tokio::test(flavor = "multi_thread")]
async fn curl_rides() {
    by_hand("curl").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_rides() {
    by_hand("grpcurl").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_rides() {
    with_a_client("python").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn typescript_rides() {
    with_a_client("typescript").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn go_rides() {
    with_a_client("go").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn java_rides() {
    with_a_client("java").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_previous_release_rides() {
    let script = root().join("tools/previous-client.sh");
    if !prepared("python", &script).await {
        return;
    }
    let mesh = dev_with(Backing::Sqlite, PATIENT).await;
    let printed = masked(&run(&mesh, &script).await);
    // A ride of its own says what it is to print; ours says what is recorded.
    let theirs = target().join("previous-client/release/examples/python/ride.txt");
    let ours = examples().join("python/ride.txt");
    let recorded = if theirs.is_file() { theirs } else { ours };
    assert_eq!(printed, std::fs::read_to_string(recorded).expect("a record"));
}

/// A ride that needs nothing but programs.
async fn by_hand(language: &str) {
    // What the scripts look for themselves; without them they would say so less plainly.
    for program in ["curl", "jq", "grpcurl"] {
        let _ = tool(program, "examples");
    }
    ride(language, &examples().join(language).join("ride.sh")).await;
}

/// A ride with a generated client.
async fn with_a_client(language: &str) {
    let script = examples().join(language).join("run.sh");
    if !prepared(language, &script).await {
        return;
    }
    ride(language, &script).await;
}

/// A ride through a gateway that makes everybody try again, and is away for a moment.
async fn ride(language: &str, script: &Path) {
    let mesh = dev_with(Backing::Sqlite, &format!("{PATIENT}{STRICT}")).await;
    let printed = interrupted(&mesh, script).await;
    is_as_recorded(language, &printed);
    has_refused(&mesh).await;
}

async fn has_refused(mesh: &Mesh) {
    let metrics = mesh.http().get(format!("{}/metrics", mesh.gateway())).send().await;
    let metrics = metrics.expect("an answer").text().await.expect("text");
    let refused = |line: &&str| line.starts_with("taxi_gateway_refused_total{limit=\"principal\"}");
    let refused = metrics.lines().find(refused).and_then(|line| line.rsplit(' ').next());
    let refused: f64 = refused.and_then(|value| value.parse().ok()).unwrap_or_default();
    assert!(refused > 0.0, "nothing was refused, so nothing was tried again");
}

/// What a script prints to which nobody is there at all, from when it first waits to ask again until
/// it has noticed.
async fn interrupted(mesh: &Mesh, script: &Path) -> String {
    let gateway = mesh.gateway().trim_start_matches("http://").parse().expect("an address");
    let mut door = Proxy::start(gateway).expect("a door");
    let mut command = Command::new(script);
    command.arg(format!("http://{}", door.address())).env("NO_PROXY", "127.0.0.1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = command.kill_on_drop(true).spawn().expect("a program that starts");
    let mut errors = BufReader::new(running.stderr.take().expect("a pipe")).lines();
    let (mut waited, mut noticed, mut said) = (false, false, Vec::new());
    let ride = async {
        while let Some(line) = errors.next_line().await.expect("text") {
            let waits = line.contains(AGAIN);
            if waits && NOBODY.iter().any(|nobody| line.contains(nobody)) {
                noticed = true;
                door.set(Fault::Pass);
            } else if waits && !waited {
                waited = true;
                door.set(Fault::Refuse);
            }
            said.push(line);
        }
        running.wait_with_output().await.expect("a program that ends")
    };
    let output = tokio::time::timeout(PATIENCE, ride).await.expect("a program that ends");
    let printed = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{script:?}: {printed}\n{said:#?}");
    assert!(noticed, "it has not noticed: {said:#?}");
    printed
}

fn is_as_recorded(language: &str, printed: &str) {
    let printed = masked(printed);
    let record = examples().join(language).join("ride.txt");
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&record, &printed).expect("a file that can be written");
    }
    let recorded = std::fs::read_to_string(&record).unwrap_or_default();
    assert!(
        printed == recorded,
        "{} is not what the script prints. If it should change: {UPDATE}=1. Now it is:\n{printed}",
        record.display()
    );
    println!("{language}: {} lines", printed.lines().count());
}

/// Makes an example ready to run; no when its toolchain is missing.
async fn prepared(language: &str, script: &Path) -> bool {
    let clients = root().join("tools/clients.sh");
    let lacks = output(Command::new(clients).args(["--lacks", language])).await;
    if !lacks.is_empty() {
        // Past the capture of what a test prints: whoever runs the tests has to know.
        let _ = writeln!(std::io::stderr(), "{language}: skipped, {}", lacks.trim());
        return false;
    }
    output(Command::new(script).arg("--prepare")).await;
    true
}

/// What a program prints that has to succeed.
async fn output(command: &mut Command) -> String {
    let command = command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output.expect("a program that ends").expect("a program that starts");
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (printed, errors) = (words(&output.stdout), words(&output.stderr));
    assert!(output.status.success(), "{:?}: {printed}\n{errors}", command.as_std());
    printed
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_is_every_method() {
    let mesh = dev(Backing::Sqlite).await;
    let printed = run(&mesh, &examples().join("curl/every-method.sh")).await;
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

async fn run(mesh: &Mesh, script: &Path) -> String {
    output(Command::new(script).arg(mesh.gateway()).env("NO_PROXY", "127.0.0.1")).await
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn examples() -> PathBuf {
    root().join("examples")
}

/// Where the scripts put what they make, too.
fn target() -> PathBuf {
    root().join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
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
        _ if word.len() > 30 => Some("token-"),
        _ => None,
    }
}
