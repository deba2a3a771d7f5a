//! The page in a real browser.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use gateway::openapi::router;
use testkit::chromium;
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::taxi;

/// Names a file for a picture of the page.
const PICTURE: &str = "TAXI_DOCS_PICTURE";
/// The page is looked at when everything on it is there: so much of its own time has passed.
const WHEN_IT_IS_THERE: &str = "--virtual-time-budget=20000";

#[tokio::test]
async fn a_browser_shows_the_page_and_complains_of_nothing() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = tokio::spawn(axum::serve(listener, router(&taxi().1)).into_future());

    let (page, log) = opened(address, &["--dump-dom"]).await;
    if let Some(file) = std::env::var_os(PICTURE) {
        let picture = format!("--screenshot={}", Path::new(&file).display());
        opened(address, &[&picture]).await;
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
async fn opened(address: SocketAddr, how: &[&str]) -> (String, String) {
    let profile = tempfile::tempdir().expect("a directory");
    let mut command = Command::from(chromium(profile.path()));
    command.arg(WHEN_IT_IS_THERE).args(how).arg(format!("http://{address}/docs"));
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
    let output = output.expect("a browser that ends").expect("a browser that starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}
