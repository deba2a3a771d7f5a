//! What the program says when it cannot do what it was asked to: one sentence on stderr that tells
//! what to do, and a published exit code.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// The program in a directory of its own, without the settings of the person who runs the tests.
struct Taxi {
    dir: TempDir,
}

impl Taxi {
    fn new() -> Taxi {
        Taxi { dir: tempfile::tempdir().expect("a directory") }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Runs to the end; exit code and stderr.
    fn run(&self, arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_taxi"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TAXI_") {
                command.env_remove(name);
            }
        }
        command.args(arguments).envs(environment.iter().copied()).current_dir(self.path());
        let output = command.output().expect("it runs");
        let code = output.status.code().expect("no signal");
        (code, String::from_utf8(output.stderr).expect("text"))
    }

    /// Runs to a refusal, which is one sentence.
    #[track_caller]
    fn refusal(&self, arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String) {
        let (code, stderr) = self.run(arguments, environment);
        let sentence = stderr.strip_prefix("taxi: ").unwrap_or_else(|| panic!("{stderr}"));
        let sentence = sentence.strip_suffix('\n').unwrap_or_else(|| panic!("{stderr}"));
        assert!(!sentence.contains('\n'), "{stderr}");
        (code, sentence.to_owned())
    }
}

#[test]
fn a_taken_port_is_named_with_the_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let ports = ["ALLOCATION", "DRIVING", "PAYMENT", "DASHBOARD", "MESSAGE", "GATEWAY"];
    let names = ports.map(|name| format!("TAXI_LISTEN__{name}"));
    let mut environment: Vec<(&str, &str)> = names.iter().map(|it| (it.as_str(), "0")).collect();
    environment[1].1 = &port;
    let (code, sentence) = Taxi::new().refusal(&["dev"], &environment);
    assert_eq!(code, 98, "{sentence}");
    assert!(sentence.starts_with(&format!("port {port}, which driving wants")), "{sentence}");
    assert!(sentence.contains("`--random-ports`"), "{sentence}");
}

#[test]
fn a_missing_nats_server_is_explained() {
    let taxi = Taxi::new();
    let dev = ["dev", "--random-ports", "--ephemeral"];
    let (code, sentence) = taxi.refusal(&dev, &[("PATH", "")]);
    assert_eq!(code, 69, "{sentence}");
    assert!(sentence.starts_with("no nats-server was found in .taxi/bin"), "{sentence}");
    assert!(sentence.contains("--nats-url"), "{sentence}");

    let given = [&dev[..], &["--nats-server", "/nowhere/nats-server"]].concat();
    let (code, sentence) = taxi.refusal(&given, &[]);
    assert_eq!(code, 69, "{sentence}");
    assert!(sentence.contains("/nowhere/nats-server"), "{sentence}");
}

#[test]
fn a_key_nobody_knows_is_named_with_its_source() {
    let taxi = Taxi::new();
    let (code, sentence) = taxi.refusal(&["config"], &[("TAXI_SERVER__SPEED", "9")]);
    assert_eq!(code, 78, "{sentence}");
    let start = "unknown key server.speed (environment variable TAXI_SERVER__SPEED): known here";
    assert!(sentence.starts_with(start), "{sentence}");

    std::fs::write(taxi.path().join("house.toml"), "[brokr]\nurl = 'nats://x'").expect("written");
    for (arguments, environment) in [
        (vec!["config", "--config", "house.toml"], vec![]),
        (vec!["serve", "allocation"], vec![("TAXI_CONFIG", "house.toml")]),
    ] {
        let (code, sentence) = taxi.refusal(&arguments, &environment);
        assert_eq!(code, 78, "{sentence}");
        assert!(sentence.starts_with("unknown key brokr (house.toml)"), "{sentence}");
    }
}

#[test]
fn a_broken_database_url_is_named_and_not_repeated() {
    let taxi = Taxi::new();
    let dev = ["dev", "--random-ports", "--database-url-driving", "mysql://u:hunter2@h/d"];
    let (code, sentence) = taxi.refusal(&dev, &[]);
    assert_eq!(code, 78, "{sentence}");
    assert!(sentence.starts_with("--database-url-driving is no database URL"), "{sentence}");
    assert!(!sentence.contains("hunter2"), "{sentence}");

    let broken = [("TAXI_DATABASE__PAYMENT__URL", "hunter2")];
    let (code, sentence) = taxi.refusal(&["migrate", "payment"], &broken);
    assert_eq!(code, 78, "{sentence}");
    assert!(sentence.starts_with("database.payment.url is no database URL"), "{sentence}");

    let (code, sentence) = taxi.refusal(&["migrate"], &[]);
    assert_eq!(code, 78, "{sentence}");
    assert!(sentence.contains("TAXI_DATABASE__ALLOCATION__URL"), "{sentence}");
}

#[test]
fn a_database_that_is_away_is_not_a_configuration_error() {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = closed.local_addr().expect("an address").port();
    drop(closed);
    let url = format!("postgres://u:hunter2@127.0.0.1:{port}/d");
    let (code, sentence) =
        Taxi::new().refusal(&["migrate", "driving"], &[("TAXI_DATABASE__DRIVING__URL", &url)]);
    assert_eq!(code, 69, "{sentence}");
    assert!(sentence.starts_with("the database of driving does not answer"), "{sentence}");
    assert!(!sentence.contains("hunter2"), "{sentence}");
}

#[test]
fn nothing_is_served_without_an_issuer() {
    let taxi = Taxi::new();
    let (code, sentence) = taxi.refusal(&["serve", "allocation"], &[]);
    assert_eq!(code, 78, "{sentence}");
    assert!(sentence.starts_with("no issuer is configured"), "{sentence}");

    let issuer = ("TAXI_AUTH__ISSUER", "https://login.example.com");
    let (code, sentence) = taxi.refusal(&["serve", "allocation"], &[issuer]);
    assert_eq!(code, 78, "{sentence}");
    assert!(sentence.starts_with("broker.url is not set"), "{sentence}");
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let taxi = Taxi::new();
    std::fs::write(taxi.path().join("file"), "").expect("written");
    let (code, sentence) = taxi.refusal(&["dev", "--data", "file/data"], &[]);
    assert_eq!(code, 73, "{sentence}");
    assert!(sentence.starts_with("the data directory file/data cannot be written"), "{sentence}");
}

#[test]
fn without_a_mesh_there_is_nobody_to_call() {
    let taxi = Taxi::new();
    for arguments in [
        vec!["call", "allocation", "GetAllocation"],
        vec!["token", "--role", "driver", "--sub", "D1"],
        vec!["list"],
        vec!["describe", "allocation"],
        vec!["fault", "ls"],
    ] {
        let (code, sentence) = taxi.refusal(&arguments, &[]);
        assert_eq!(code, 69, "{sentence}");
        assert!(sentence.contains("start one with `taxi dev`"), "{sentence}");
    }
}

#[test]
fn a_mesh_that_was_killed_is_no_mesh() {
    let taxi = Taxi::new();
    let ready = r#"{"gateway": "http://127.0.0.1:1", "grpc": {"allocation": "127.0.0.1:1"}}"#;
    std::fs::write(taxi.path().join("ready.json"), ready).expect("written");
    for arguments in
        [vec!["list"], vec!["token", "--role", "driver", "--sub", "D1"], vec!["fault", "ls"]]
    {
        let arguments = [arguments, vec!["--ready-file", "ready.json"]].concat();
        let (code, sentence) = taxi.refusal(&arguments, &[]);
        assert_eq!(code, 69, "{sentence}");
        assert!(sentence.contains("with `taxi dev`"), "{sentence}");
    }
}

#[test]
fn an_authority_that_is_none_is_named() {
    let taxi = Taxi::new();
    std::fs::write(taxi.path().join("ready.json"), r#"{"grpc": {}}"#).expect("written");
    std::fs::write(taxi.path().join("no.pem"), "hello").expect("written");
    let list = ["list", "--ready-file", "ready.json"];
    for (file, why) in [
        ("missing.pem", "--ca, or TAXI_CA: cannot read missing.pem: No such file"),
        ("no.pem", "--ca, or TAXI_CA: no.pem: there is no certificate in it"),
    ] {
        let by_option = taxi.refusal(&[&list[..], &["--ca", file]].concat(), &[]);
        let by_variable = taxi.refusal(&list, &[("TAXI_CA", file)]);
        assert_eq!(by_option, by_variable);
        let (code, sentence) = by_option;
        assert_eq!(code, 78, "{sentence}");
        assert!(sentence.starts_with(why), "{sentence}");
    }
    // What serves has authorities of its own in its configuration.
    let (code, stderr) = taxi.run(&["config"], &[("TAXI_CA", "missing.pem")]);
    assert_eq!(code, 0, "{stderr}");
}

#[test]
fn faults_are_for_development_only() {
    let taxi = Taxi::new();
    let ready = r#"{"admin": "http://127.0.0.1:1", "grpc": {"payment": "127.0.0.1:1"}}"#;
    std::fs::write(taxi.path().join("ready.json"), ready).expect("written");
    let arguments = ["fault", "set", "payment.down", "--ready-file", "ready.json"];
    let (code, sentence) = taxi.refusal(&arguments, &[]);
    assert_eq!(code, 77, "{sentence}");
    assert!(sentence.starts_with("faults are for development"), "{sentence}");
}

#[test]
fn webhooks_of_the_provider_are_signed_or_not_sent() {
    let taxi = Taxi::new();
    let url = ["provider-sim", "--webhook-url", "http://127.0.0.1:1"];
    for arguments in [url.to_vec(), [&url[..], &["--webhook-secret", "hunter2"]].concat()] {
        let (code, stderr) = taxi.run(&arguments, &[]);
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains("--webhook-secret"), "{stderr}");
    }
    let secret = [("TAXI_PAYMENT__WEBHOOK_SECRET", "hunter2")];
    let (code, sentence) = taxi.refusal(&["serve", "payment"], &secret);
    assert_eq!(code, 78, "{sentence}");
    assert!(sentence.starts_with("payment.webhook_secret"), "{sentence}");
    assert!(sentence.contains("whsec_") && !sentence.contains("hunter2"), "{sentence}");
}

#[test]
fn a_command_line_without_sense_is_a_usage_error() {
    let taxi = Taxi::new();
    for arguments in [
        vec!["fly"],
        vec!["serve"],
        vec!["serve", "gardening"],
        vec!["token", "--role", "king", "--sub", "K1"],
        vec!["call", "allocation", "GetAllocation", "-H", "nonsense"],
        vec!["fault", "set"],
    ] {
        let (code, stderr) = taxi.run(&arguments, &[]);
        assert_eq!(code, 2, "{arguments:?}: {stderr}");
    }
}
