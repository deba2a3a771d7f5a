//! A page in a real browser calls the gateway from another origin: REST with a preflight, gRPC-Web
//! in both its forms, and server-sent events over a connection that is cut.
//!
//! The page is `browser/page.js`. It says what it has seen to the server that it comes from.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use testkit::{Backing, Fault, Mesh, Process, Proxy, Role, chromium};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::people::dev_with;

/// How long the page may take, on a machine that has much else to do.
const PAGE: Duration = Duration::from_secs(90);

const PAGES: [(&str, &str, &str); 4] = [
    ("/", "text/html", include_str!("browser/page.html")),
    ("/page.js", "text/javascript", include_str!("browser/page.js")),
    ("/grpc-web.js", "text/javascript", include_str!("browser/grpc-web.js")),
    ("/events.js", "text/javascript", include_str!("browser/events.js")),
];

/// Where the page comes from.
#[derive(Clone)]
struct Origin {
    setup: Value,
    /// What the page reads events through.
    proxy: Arc<Mutex<Proxy>>,
    reports: mpsc::UnboundedSender<String>,
}

impl Origin {
    fn router(self) -> Router {
        let fault = |fault| {
            post(move |State(origin): State<Origin>| async move {
                origin.proxy.lock().expect("nobody has panicked").set(fault);
            })
        };
        let report = |State(origin): State<Origin>, lines: String| async move {
            origin.reports.send(lines).expect("somebody waits for it");
        };
        let mut router = Router::new();
        for (path, kind, text) in PAGES {
            let page = move || async move { ([("content-type", kind)], text).into_response() };
            router = router.route(path, get(page));
        }
        router
            .route("/setup", get(|State(origin): State<Origin>| async { Json(origin.setup) }))
            .route("/cut", fault(Fault::Reset))
            .route("/heal", fault(Fault::Pass))
            .route("/report", post(report))
            .with_state(self)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_calls_by_rest_grpc_web_and_events() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let page = format!("http://{}", listener.local_addr().expect("an address"));
    let mesh = dev_with(Backing::Sqlite, &format!("[gateway]\ncors_origins = [\"{page}\"]")).await;
    let proxy = Proxy::start(gateway_of(&mesh)).expect("a port");
    let setup = json!({
        "gateway": mesh.gateway(),
        "through": format!("http://{}", proxy.address()),
        "customer": mesh.token(Role::Customer, "C1").await,
        "driver": mesh.token(Role::Driver, "D1").await,
    });
    let (reports, mut reported) = mpsc::unbounded_channel();
    let origin = Origin { setup, proxy: Arc::new(Mutex::new(proxy)), reports };
    let server = tokio::spawn(axum::serve(listener, origin.router()).into_future());

    let files = tempfile::tempdir().expect("a directory");
    let mut command = chromium(&files.path().join("profile"));
    command.arg(&page);
    let browser = Process::spawn("chromium", &mut command, files.path()).expect("it starts");
    let report = tokio::time::timeout(PAGE, reported.recv()).await;
    let log = std::fs::read_to_string(files.path().join("chromium.log")).unwrap_or_default();
    drop(browser);
    server.abort();

    let report = report.unwrap_or_else(|_| panic!("the page has said nothing:\n{log}"));
    let report = report.expect("the server is there");
    println!("{report}");
    assert_eq!(
        report.lines().collect::<Vec<_>>(),
        [
            "asked: STATE_REQUESTED",
            "refused: 404 ALLOCATION_NOT_FOUND",
            "application/grpc-web+proto: got it; grpc-status 3",
            "application/grpc-web-text+proto: got it; grpc-status 3",
            "events: STATE_REQUESTED, STATE_APPROVED; cut",
            "cancelled: STATE_CANCELLED",
            "application/grpc-web+proto: watched to its end",
            "application/grpc-web-text+proto: watched to its end",
            "a page of no origin: kept out",
        ],
        "{log}"
    );
}

fn gateway_of(mesh: &Mesh) -> SocketAddr {
    mesh.gateway().trim_start_matches("http://").parse().expect("an address")
}
