//! The page in a real browser: headless Chromium, where there is one.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use gateway::openapi::router;
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::taxi;

/// Names a file for a picture of the page.
const PICTURE: &str = "TAXI_DOCS_PICTURE";
const NAMES: [&str; 2] = ["chromium", "chromium-browser"];

/// What a fresh browser would ask of the world on its own, it does not.
const QUIET: [&str; 13] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--window-size=1280,1800",
    "--virtual-time-budget=20000",
    "--enable-logging=stderr",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];

#[tokio::test]
async fn a_browser_shows_the_page_and_complains_of_nothing() {
    let Some(chromium) = NAMES.into_iter().find(|name| starts(name)) else {
        eprintln!("skipped: no Chromium");
        return;
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = tokio::spawn(axum::serve(listener, router(&taxi().1)).into_future());

    let (page, log) = opened(chromium, address, &["--dump-dom"]).await;
    if let Some(file) = std::env::var_os(PICTURE) {
        let picture = format!("--screenshot={}", Path::new(&file).display());
        opened(chromium, address, &[&picture]).await;
    }
    server.abort();

    let complaints: Vec<&str> = log.lines().filter(|line| line.contains(":CONSOLE")).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    for id in ["AllocationService_RequestAllocation", "MessageService_WatchMessages"] {
        assert!(page.contains(id), "{id} is not on the page:\n{page}");
    }
    assert!(page.contains("<title>taxi"), "the page has no title");
}

/// The page as the browser has it after a while, and the browser's log.
async fn opened(chromium: &str, address: SocketAddr, how: &[&str]) -> (String, String) {
    let profile = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(chromium);
    command.args(QUIET).args(how).arg(format!("http://{address}/docs"));
    command.arg(format!("--user-data-dir={}", profile.path().display()));
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
    let output = output.expect("a browser that ends").expect("a browser that starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

fn starts(program: &str) -> bool {
    let mut command = std::process::Command::new(program);
    let command = command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
