//! `taxi serve` over TLS: the gateway for everybody who trusts it, a context for the gateway alone;
//! and those at the terminal who trust an authority of their own.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use platform::issuer::Issuer;
use platform::nats_server::{NatsServer, Options};
use proto::message::v1::ListMessagesRequest;
use proto::message::v1::message_service_client::MessageServiceClient;
use serde_json::{Value, json};
use testkit::{
    Authority, CONTEXTS, Certified, Process, Role, eventually, free_port, nats_server_binary,
    program, read_json,
};
use tokio::net::TcpListener;
use tokio::process::Command;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};

use crate::people::{SOON, serve as mesh};

const BIN: &str = env!("CARGO_BIN_EXE_taxi");
const PARENT: &str = "customers/C1";

/// A development issuer in this process.
async fn issuer() -> Issuer {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let issuer = Issuer::new(url, "taxi");
    let router = issuer.clone().router();
    tokio::spawn(async move { axum::serve(listener, router).await });
    issuer
}

/// One process with the gateway and the context that needs no database.
fn serve(dir: &Path, nats: &NatsServer, issuer: &Issuer, port: u16) -> Process {
    let file = |name: &str| dir.join(name).display().to_string();
    let nobody = "https://localhost:1".to_owned();
    let mut command = program(Path::new(BIN));
    command.args(["serve", "message", "gateway", "--ready-file", &file("ready.json")]).envs([
        ("TAXI_AUTH__ISSUER", issuer.url().to_owned()),
        ("TAXI_BROKER__URL", nats.url()),
        ("TAXI_LISTEN__MESSAGE", port.to_string()),
        ("TAXI_LISTEN__GATEWAY", "0".to_owned()),
        ("TAXI_LISTEN__ADMIN", "0".to_owned()),
        ("TAXI_UPSTREAM__MESSAGE", format!("https://localhost:{port}")),
        ("TAXI_UPSTREAM__ALLOCATION", nobody.clone()),
        ("TAXI_UPSTREAM__DRIVING", nobody.clone()),
        ("TAXI_UPSTREAM__PAYMENT", nobody.clone()),
        ("TAXI_UPSTREAM__DASHBOARD", nobody),
        ("TAXI_TLS__RELOAD", "100ms".to_owned()),
        ("TAXI_TLS__GATEWAY__CERTIFICATE", file("door.pem")),
        ("TAXI_TLS__GATEWAY__KEY", file("door.key")),
        ("TAXI_TLS__CONTEXTS__CERTIFICATE", file("inside.pem")),
        ("TAXI_TLS__CONTEXTS__KEY", file("inside.key")),
        ("TAXI_TLS__CONTEXTS__CLIENT_CA", file("inside.ca")),
        ("TAXI_TLS__UPSTREAM__CA", file("inside.ca")),
        ("TAXI_TLS__UPSTREAM__CERTIFICATE", file("inside.pem")),
        ("TAXI_TLS__UPSTREAM__KEY", file("inside.key")),
    ]);
    Process::spawn("serve", &mut command, dir).expect("it starts")
}

/// The context itself, for who trusts this authority and shows this certificate.
fn inside(port: u16, trusted: &Authority, shown: Option<&Certified>) -> Channel {
    let mut tls =
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(trusted.certificate()));
    if let Some(shown) = shown {
        tls = tls.identity(Identity::from_pem(&shown.certificate, &shown.key));
    }
    let endpoint = Endpoint::from_shared(format!("https://localhost:{port}")).expect("an address");
    endpoint.tls_config(tls).expect("good certificates").connect_lazy()
}

async fn messages(channel: Channel, token: &str) -> Result<usize, Status> {
    let list = ListMessagesRequest { parent: PARENT.to_owned(), ..Default::default() };
    let mut request = Request::new(list);
    let token = format!("Bearer {token}").parse().expect("ascii");
    request.metadata_mut().insert("authorization", token);
    let list = MessageServiceClient::new(channel).list_messages(request).await?;
    Ok(list.into_inner().messages.len())
}

/// A browser that trusts this authority.
fn browser(trusted: &Authority) -> reqwest::Client {
    let ca = reqwest::Certificate::from_pem(trusted.certificate().as_bytes());
    let http = reqwest::Client::builder().no_proxy().tls_built_in_root_certs(false);
    http.add_root_certificate(ca.expect("a certificate")).build().expect("a client")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_and_a_context_behind_it_speak_tls() {
    let dir = tempfile::tempdir().expect("a directory");
    let (outside, within) = (Authority::new(), Authority::new());
    outside.certify("the door").write(dir.path(), "door");
    within.certify("a part of the mesh").write(dir.path(), "inside");
    std::fs::write(dir.path().join("inside.ca"), within.certificate()).expect("written");
    let options = Options {
        binary: nats_server_binary(),
        store_dir: dir.path().join("nats"),
        ..Options::default()
    };
    let nats = NatsServer::start(options).await.expect("a broker");
    let issuer = issuer().await;
    let port = free_port().expect("a port");
    let mut served = serve(dir.path(), &nats, &issuer, port);
    let ready = || read_json::<Value>(&dir.path().join("ready.json"));
    let ready = served.until(Duration::from_secs(60), ready).await.expect("it is ready");
    let (gateway, admin) = (ready["gateway"].as_str(), ready["admin"].as_str());
    let (gateway, admin) = (gateway.expect("an address"), admin.expect("an address"));
    assert!(gateway.starts_with("https://"), "{gateway}");

    let token = issuer.sign("C1", Role::Customer);
    let url = format!("{gateway}/v1/{PARENT}/messages");
    let ask = async |http: reqwest::Client| {
        let answer = http.get(&url).bearer_auth(&token).timeout(SOON).send().await;
        let answer = answer.map_err(|error| format!("{error:?}"))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| error.to_string())?;
        if status == 200 { Ok(text) } else { Err(text) }
    };
    let list = ask(browser(&outside)).await.expect("through the gateway into the context");
    assert!(list.contains("messages"), "{list}");
    ask(browser(&within)).await.expect_err("the door's certificate is another authority's");

    let known = within.certify("an operator");
    assert_eq!(messages(inside(port, &within, Some(&known)), &token).await.expect("a list"), 0);
    let refused = messages(inside(port, &within, None), &token).await.expect_err("a stranger");
    assert_ne!(refused.code(), Code::Unauthenticated, "not by its token: {refused:?}");

    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let metrics = http.get(format!("{admin}/metrics")).send().await.expect("without TLS");
    let metrics = metrics.text().await.expect("text");
    for name in ["gateway", "contexts", "upstream"] {
        let expiry = format!("taxi_tls_expiry_seconds{{name=\"{name}\"}}");
        assert!(metrics.contains(&expiry), "{expiry} is not in:\n{metrics}");
    }

    let renewed = Authority::new();
    renewed.certify("the door").write(dir.path(), "door");
    eventually(SOON, || ask(browser(&renewed))).await;
    served.terminate(Duration::from_secs(60)).await.expect("a clean end");
    nats.stop().await.expect("a clean end");
}

/// The exit code of `taxi`, and what it said.
async fn taxi(arguments: &[&str], ca: Option<&str>) -> (Option<i32>, String) {
    let mut command = Command::from(program(Path::new(BIN)));
    command.args(arguments).envs(ca.map(|ca| ("TAXI_CA", ca)));
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.expect("it runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_terminal_an_authority_of_one_s_own_is_trusted() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str| dir.path().join(name).display().to_string();
    let authority = Authority::new();
    authority.certify("the door").write(dir.path(), "door");
    std::fs::write(file("ca.pem"), authority.certificate()).expect("written");
    let mut mesh = mesh().await;
    mesh.set("gateway", "TAXI_TLS__GATEWAY__CERTIFICATE", &file("door.pem"));
    mesh.set("gateway", "TAXI_TLS__GATEWAY__KEY", &file("door.key"));
    let door = mesh.start_gateway().await.replace("http://127.0.0.1", "https://localhost");

    let grpc: Value = CONTEXTS.into_iter().map(|context| (context, door.clone())).collect();
    for (name, issuer) in [("ready.json", mesh.gateway()), ("no-issuer.json", &door)] {
        let ready = json!({ "gateway": door, "issuer": issuer, "grpc": grpc });
        std::fs::write(file(name), ready.to_string()).expect("written");
    }
    let (ready, no_issuer, ca) = (file("ready.json"), file("no-issuer.json"), file("ca.pem"));
    let driver = ["--role", "driver", "--sub", "D1", "--ready-file"];
    let call = [&["call", "driving", "ListDrivings"], &driver[..], &[&*ready]].concat();
    let token = [&["token"], &driver[..], &[&*no_issuer]].concat();
    let demo = ["demo", "--rides", "2", "--riders", "1", "--drivers", "1", "--assert"];
    let demo = [&demo[..], &["--time-scale", "600", "--ready-file", &ready]].concat();

    for arguments in [&call, &demo] {
        let (code, said) = taxi(arguments, Some(&ca)).await;
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
    }
    let (code, said) = taxi(&[&call[..], &["--ca", &ca]].concat(), None).await;
    assert_eq!(code, Some(0), "{said}");
    // The gateway gives no tokens, but it was asked.
    let (code, said) = taxi(&token, Some(&ca)).await;
    assert_eq!(code, Some(77), "{said}");

    for arguments in [&call, &token] {
        let (code, said) = taxi(arguments, None).await;
        assert_eq!(code, Some(69), "{arguments:?}: {said}");
        assert!(said.contains("invalid peer certificate"), "{arguments:?}: {said}");
    }
}
