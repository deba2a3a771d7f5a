//! A disk is full, or SQLite's lock is somebody else's: nothing that was acknowledged is lost, what
//! cannot be stored is refused with an advice, the readiness says why, and everything goes on when
//! there is room again.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use platform::nats_server::{self, NatsServer};
use sea_orm::{
    Database, DatabaseTransaction, SqliteTransactionMode, TransactionOptions, TransactionTrait,
};
use testkit::{Backing, CONTEXTS, Mesh, Process, RELATIONAL, free_port, nats_server_binary};
use tokio::time::timeout;

use crate::outage::evidence::Events;
use crate::outage::health::Health;
use crate::outage::load::{Crowd, Rides, are_served, busy, says_come_again};
use crate::people::dev;

const BIN: &str = env!("CARGO_BIN_EXE_taxi");

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_of_somebody_else_is_waited_for_and_not_for_ever() {
    let mesh = dev(Backing::Sqlite).await;
    let rides = Arc::new(Rides::half_way(&mesh).await);
    let database = mesh.ready().data.join("driving.db");

    let lock = lock(&database).await;
    let mut accepting = pin!(rides.command(0));
    let waited = timeout(Duration::from_secs(1), &mut accepting).await;
    assert!(waited.is_err(), "nobody can write: {waited:?}");
    lock.rollback().await.expect("released");
    accepting.await.expect("a second is not long");

    let lock = self::lock(&database).await;
    let commands = rides.clone();
    let given = busy(Duration::from_secs(8), move |n| {
        let rides = commands.clone();
        async move { rides.command(n).await }
    });
    let given = given.await;
    lock.rollback().await.expect("released");
    let answers = given.join_all().await;
    let refused: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    assert!(!refused.is_empty(), "eight seconds are long");
    refused.iter().for_each(says_come_again);

    Health::at(&mesh, "driving", mesh.gateway()).is_ready().await;
    rides.go_on().await;
    rides.have_gone_on().await;
    Events::of(&mesh).are_in_the_stream_once().await;
}

/// Takes SQLite's only lock for writing.
async fn lock(database: &Path) -> DatabaseTransaction {
    let url = format!("sqlite://{}", database.display());
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..Default::default()
    };
    let database = Database::connect(url).await.expect("it is there");
    database.begin_with_options(options).await.expect("the lock is had in a moment")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_database_loses_nothing_that_was_acknowledged() {
    let files = tempfile::tempdir().expect("a directory");
    let mesh = Mesh::start(unkillable_by_size(files.path()), Backing::Sqlite).await;
    let rides = Rides::half_way(&mesh).await;
    let crowd = Crowd::of(&mesh, Duration::from_secs(30)).await;
    let health = Health::at(&mesh, "allocation", mesh.gateway());

    // Files that may not grow are what a full disk is.
    limit_files(mesh.pid("dev"), &largest_file(&mesh.ready().data).to_string());
    let asked = crowd.ask_at_once().await;
    let refused: Vec<_> = asked.iter().filter_map(|(_, answer)| answer.as_ref().err()).collect();
    assert!(!refused.is_empty(), "there is room for all of {}", asked.len());
    refused.iter().for_each(|status| says_come_again(status));
    health.misses(&["database"]).await;

    limit_files(mesh.pid("dev"), "unlimited");
    for context in RELATIONAL {
        Health::at(&mesh, context, mesh.gateway()).is_ready().await;
    }
    are_served(asked).await;
    rides.go_on().await;
    rides.have_gone_on().await;
    Events::of(&mesh).are_in_the_stream_once().await;
}

/// The program, so that a file beyond the limit is an error and not its end.
fn unkillable_by_size(dir: &Path) -> PathBuf {
    let program = dir.join("taxi");
    let script = format!("#!/bin/sh\ntrap '' XFSZ\nexec '{BIN}' \"$@\"\n");
    std::fs::write(&program, script).expect("written");
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("a program");
    program
}

/// Lets no file of this process grow beyond this many bytes.
fn limit_files(pid: u32, most: &str) {
    let limit = format!("--fsize={most}:unlimited");
    let status = Command::new("prlimit").args(["--pid", &pid.to_string(), &limit]).status();
    assert!(status.expect("prlimit is part of util-linux").success());
}

fn largest_file(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).expect("a directory").flatten();
    let sizes = files.filter_map(|file| file.metadata().ok().filter(|it| it.is_file()));
    sizes.map(|file| file.len()).max().expect("there are databases")
}

/// How many bytes a small broker may keep.
const ROOM: u64 = 100_000;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_broker_does_not_take_stays_in_the_outbox() {
    let files = tempfile::tempdir().expect("a directory");
    let (port, small) = small_broker(files.path());
    let url = format!("nats://127.0.0.1:{port}");
    // The mesh goes before its broker.
    let _large;
    let mesh = Mesh::serve_with(BIN, &CONTEXTS.map(|it| (it, "TAXI_BROKER__URL", &*url))).await;
    let rides = Rides::half_way(&mesh).await;
    let crowd = Crowd::of(&mesh, Duration::from_secs(15)).await;

    let asked = crowd.ask_at_once().await;
    assert!(asked.iter().all(|(_, answer)| answer.is_ok()), "asking needs no broker");
    Health::of(&mesh, "message").misses(&["broker"]).await;
    rides.go_on().await;
    let ready = RELATIONAL.map(|context| Health::of(&mesh, context));
    join_all(ready.iter().map(Health::is_ready)).await;

    drop(small);
    let options = nats_server::Options {
        binary: nats_server_binary(),
        store_dir: files.path().to_owned(),
        port: Some(port),
        ..Default::default()
    };
    _large = NatsServer::start(options).await.expect("starts");
    Health::of(&mesh, "message").is_ready().await;
    are_served(asked).await;
    rides.have_gone_on().await;
    Events::of(&mesh).with_broker(&url).are_in_the_stream_once().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_broker_is_noticed_while_nothing_happens() {
    let files = tempfile::tempdir().expect("a directory");
    let (port, small) = small_broker(files.path());
    let url = format!("nats://127.0.0.1:{port}");
    let mesh = Mesh::serve_with(BIN, &CONTEXTS.map(|it| (it, "TAXI_BROKER__URL", &*url))).await;
    let message = Health::of(&mesh, "message");
    message.is_ready().await;
    limit_files(small.id(), "0");
    message.misses(&["broker"]).await;
    limit_files(small.id(), "unlimited");
    message.is_ready().await;
}

/// Starts a broker that has not room for much.
fn small_broker(dir: &Path) -> (u16, Process) {
    let port = free_port().expect("a port");
    let store = dir.display();
    let settings = format!(
        "listen: \"127.0.0.1:{port}\"\n\
         jetstream {{ store_dir: \"{store}\", max_file_store: {ROOM} }}\n"
    );
    let file = dir.join("nats.conf");
    std::fs::write(&file, settings).expect("written");
    let binary = nats_server_binary().unwrap_or_else(|| "nats-server".into());
    let mut command = Command::new(binary);
    let broker = Process::spawn("small-broker", command.arg("-c").arg(&file), dir);
    (port, broker.expect("it starts"))
}
