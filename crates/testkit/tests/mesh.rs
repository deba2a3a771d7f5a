//! The mesh itself under test, with a shell script in the place of the product.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use sea_orm::{ConnectionTrait, Database};
use tempfile::TempDir;
use testkit::{Backing, Mesh, RELATIONAL, eventually};

/// Writes its ready file and ends on SIGTERM; BEFORE and EXIT are filled in.
const SCRIPT: &str = r#"#!/bin/sh
command=$1
while [ $# -gt 0 ]; do
    case $1 in
        --ready-file) ready=$2 ;;
        --data) data=$2 ;;
    esac
    shift
done
case $command in
    dev) answer='{"gateway":"http://127.0.0.1:9","grpc":{"driving":"127.0.0.1:9"},"nats":"","data":"'$data'"}' ;;
    issuer | provider-sim) answer='{"url":"http://127.0.0.1:9"}' ;;
    serve) answer='{}' ; test -n "$TAXI_BROKER__URL" || exit 78 ;;
    migrate) exit 0 ;;
esac
BEFORE
trap 'exit EXIT' TERM
echo "$answer" > "$ready"
while :; do sleep 0.02; done
"#;

struct Product {
    dir: TempDir,
}

impl Product {
    fn new(before: &str, exit: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let script = SCRIPT.replace("BEFORE", before).replace("EXIT", exit);
        let path = dir.path().join("taxi");
        std::fs::write(&path, script).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("mode");
        Self { dir }
    }

    fn bin(&self) -> PathBuf {
        self.dir.path().join("taxi")
    }
}

/// What the migrations of the product do.
async fn migrated(mesh: &Mesh) {
    for context in RELATIONAL {
        let database = Database::connect(mesh.database_url(context)).await.expect("connects");
        for table in ["outbox (sent_at bigint)", "parked_event (id bigint)"] {
            database.execute_unprepared(&format!("CREATE TABLE {table}")).await.expect("made");
        }
    }
}

async fn run(mesh: &Mesh, context: &str, sql: &str) {
    let database = Database::connect(mesh.database_url(context)).await.expect("connects");
    database.execute_unprepared(sql).await.expect("done");
}

#[tokio::test]
async fn an_orderly_mesh_is_dropped_in_silence() {
    let product = Product::new("", "0");
    let mut mesh = Mesh::start(product.bin(), Backing::Postgres).await;
    migrated(&mesh).await;
    run(&mesh, "driving", "INSERT INTO outbox VALUES (1)").await;
    run(&mesh, "payment", "INSERT INTO parked_event VALUES (1)").await;
    mesh.expect_parked(1);
}

#[tokio::test]
#[should_panic(expected = "driving: 1 events unsent")]
async fn an_event_that_was_never_sent_is_told() {
    let product = Product::new("", "0");
    let mut mesh = Mesh::start(product.bin(), Backing::Postgres).await;
    migrated(&mesh).await;
    mesh.drains_within(Duration::from_millis(200));
    run(&mesh, "driving", "INSERT INTO outbox VALUES (NULL)").await;
}

#[tokio::test]
#[should_panic(expected = "exit status: 3")]
async fn a_disorderly_end_is_told() {
    let product = Product::new("", "3");
    let mesh = Mesh::start(product.bin(), Backing::Postgres).await;
    migrated(&mesh).await;
}

#[tokio::test]
#[should_panic(expected = "port 8088 is taken")]
async fn an_early_end_is_told_with_what_it_printed() {
    let product = Product::new("echo 'port 8088 is taken' >&2; exit 98", "0");
    Mesh::start(product.bin(), Backing::Sqlite).await;
}

#[tokio::test]
async fn the_production_shape_goes_down_and_comes_up() {
    let product = Product::new("", "0");
    let mut mesh = Mesh::serve(product.bin()).await;
    migrated(&mesh).await;
    mesh.kill("driving");
    assert!(mesh.ended("driving").is_some_and(|status| !status.success()));
    mesh.start_context("driving").await;
    assert!(mesh.ended("driving").is_none());
    mesh.stop("payment").await;
    assert!(mesh.ended("payment").is_some_and(|status| status.success()));

    let broker: std::net::SocketAddr =
        mesh.ready().nats.trim_start_matches("nats://").parse().expect("an address");
    mesh.kill_nats().await;
    assert!(tokio::net::TcpStream::connect(broker).await.is_err());
    mesh.start_nats().await;
    eventually(Duration::from_secs(5), || tokio::net::TcpStream::connect(broker)).await;

    mesh.postgres().kill().expect("killed");
    mesh.postgres().restart().await.expect("comes back");
}
