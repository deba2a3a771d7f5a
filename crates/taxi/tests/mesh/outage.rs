//! The broker or a database is away, for a second or for a minute: everybody stays up, answers what
//! can be answered, says of the rest that it makes sense to come again, and heals alone. Nothing is
//! lost, and nothing happens twice.

pub(crate) mod evidence;
pub(crate) mod health;
pub(crate) mod load;

use std::sync::Arc;
use std::time::Duration;

use platform::nats_server::{self, NatsServer};
use proto::allocation::v1::allocation::State;
use proto::driving::v1::Driving;
use proto::message::v1::ListMessagesRequest;
use rstest::rstest;
use testkit::{
    CONTEXTS, Durability, Fault, Mesh, Postgres, Proxy, RELATIONAL, nats_server_binary, program,
};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::{Code, Status};

use self::evidence::Events;
use self::health::Health;
use self::load::{Crowd, Rides, are_served, busy, patient, says_come_again};
use crate::people::{Customer, Driver, SOON, serve};

const BIN: &str = env!("CARGO_BIN_EXE_taxi");

/// All at once, because each of them lasts.
#[rstest]
#[case::for_a_second(Duration::from_secs(1))]
#[case::for_a_minute(Duration::from_secs(60))]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_away_is_waited_for(#[case] length: Duration) {
    let mut away = JoinSet::new();
    away.spawn(a_broker_in_the_middle_of_rides(length));
    away.spawn(a_database_in_the_middle_of_rides(End::Killed, length));
    away.spawn(a_database_in_the_middle_of_rides(End::Frozen, length));
    away.spawn(everything_at_the_start(length));
    away.join_all().await;
}

/// Whether it lasts long enough for everybody to have noticed.
fn is_noticed(length: Duration) -> bool {
    length > SOON
}

async fn a_broker_in_the_middle_of_rides(length: Duration) {
    let mut mesh = serve().await;
    let (crowd, rides) = (Crowd::of(&mesh, length).await, Rides::half_way(&mesh).await);
    let (mut customer, cancelled) = accepted(&mesh).await;

    mesh.kill_nats().await;
    let asking = crowd.ask(length);
    rides.go_on().await;
    let parent = customer.name.clone();
    let request = patient(ListMessagesRequest { parent, ..Default::default() });
    let refused = customer.messages.clone().list_messages(request).await;
    says_come_again(&refused.expect_err("messages are with the broker"));
    if is_noticed(length) {
        let cancelling = customer.cancel(&cancelled).await.expect("noted");
        assert_eq!(cancelling.state(), State::Cancelling);
        Health::of(&mesh, "message").misses(&["broker"]).await;
        for context in RELATIONAL {
            Health::of(&mesh, context).is_ready().await;
        }
    }
    let asking = asking.await.expect("all have asked");
    mesh.start_nats().await;

    let asked = asking.join_all().await;
    assert!(asked.iter().all(|(_, answer)| answer.is_ok()), "asking needs no broker");
    Health::of(&mesh, "message").is_ready().await;
    if is_noticed(length) {
        customer.sees(&cancelled, State::Cancelled).await;
    }
    are_served(asked).await;
    rides.have_gone_on().await;
    Events::of(&mesh).are_in_the_stream_once().await;
}

/// A customer whose ride has a driver.
async fn accepted(mesh: &Mesh) -> (Customer, String) {
    let mut customer = Customer::new(mesh, "C-cancel").await;
    let driver = Driver::new(mesh, "D-cancel").await;
    let allocation = customer.request().await.name;
    let open = driver.finds(&allocation).await;
    driver.accept(&open.name).await.expect("nobody else is there");
    (customer, allocation)
}

/// How a database goes away.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// It is killed, and started again.
    Killed,
    /// It is there and says nothing.
    Frozen,
}

/// Allocation has a database elsewhere, and goes on.
async fn a_database_in_the_middle_of_rides(end: End, length: Duration) {
    let elsewhere = Postgres::start(Durability::Fast).await.expect("starts");
    let url = elsewhere.database("allocation").await.expect("made");
    let setting = ("allocation", "TAXI_DATABASE__ALLOCATION__URL", url.as_str());
    let mut migrate = program(BIN.as_ref());
    let migrated = migrate.args(["migrate", setting.0]).env(setting.1, setting.2).status();
    assert!(migrated.expect("runs").success());
    let mut mesh = Mesh::serve_with(BIN, &[setting]).await;
    let (crowd, rides) = (Crowd::of(&mesh, length).await, Rides::half_way(&mesh).await);

    let pid = mesh.postgres().pid().expect("it runs");
    match end {
        End::Killed => mesh.postgres().kill().expect("killed"),
        End::Frozen => signal(pid, "STOP"),
    }
    let asking = crowd.ask(length);
    let rides = Arc::new(rides);
    let driving = tokio::spawn(busy(length, {
        let (rides, begin) = (rides.clone(), Instant::now());
        move |n| repeated(rides.clone(), n, begin)
    }));
    if is_noticed(length) {
        for context in ["driving", "payment", "dashboard"] {
            Health::of(&mesh, context).misses(&["database"]).await;
        }
        for context in ["allocation", "message"] {
            Health::of(&mesh, context).is_ready().await;
        }
    }
    let (asking, driving) = (asking.await.expect("asked"), driving.await.expect("driven"));
    match end {
        End::Killed => mesh.postgres().restart().await.expect("comes back"),
        End::Frozen => signal(pid, "CONT"),
    }

    for context in CONTEXTS {
        Health::of(&mesh, context).is_ready().await;
    }
    let asked = asking.join_all().await;
    assert!(asked.iter().all(|(_, answer)| answer.is_ok()), "it has a database of its own");
    let refused = driving.join_all().await.into_iter().filter(|command| command.is_refused(end));
    assert!(refused.count() > 0 || !is_noticed(length));
    rides.go_on().await;
    are_served(asked).await;
    rides.have_gone_on().await;
    Events::of(&mesh).with_database("allocation", &url).are_in_the_stream_once().await;
}

/// Sends a signal to all processes of Postgres; first to their parent, so that there are no more.
fn signal(postmaster: u32, name: &str) {
    // A child that has ended meanwhile needs no signal.
    let script = r#"kill -s "$1" "$2" || exit 1
        for child in $(cat "/proc/$2/task/$2/children"); do kill -s "$1" "$child"; done; true"#;
    let status = std::process::Command::new("sh")
        .args(["-c", script, "signal", name, &postmaster.to_string()])
        .status();
    assert!(status.expect("a shell").success());
}

/// A command, and how it was answered.
struct Command {
    /// When it was given, seen from the beginning of the outage.
    given: Duration,
    answer: Result<Driving, Status>,
}

async fn repeated(rides: Arc<Rides>, n: usize, begin: Instant) -> Command {
    Command { given: begin.elapsed(), answer: rides.command(n).await }
}

impl Command {
    /// Whether it was refused, and then in time and with an advice.
    fn is_refused(&self, end: End) -> bool {
        let Err(status) = &self.answer else { return false };
        // A statement that was under way when the database froze has nobody to answer it.
        let under_way = end == End::Frozen && self.given < Duration::from_secs(1);
        if !(under_way && [Code::Cancelled, Code::DeadlineExceeded].contains(&status.code())) {
            says_come_again(status);
        }
        true
    }
}

async fn everything_at_the_start(length: Duration) {
    let mut mesh = serve().await;
    let crowd = Crowd::of(&mesh, length).await;
    for context in CONTEXTS {
        mesh.kill(context);
    }
    mesh.kill_nats().await;
    mesh.postgres().kill().expect("it was running");
    let mut contexts = Vec::new();
    for context in CONTEXTS {
        let missing: &[_] = match RELATIONAL.contains(&context) {
            true => &["broker", "database"],
            false => &["broker"],
        };
        contexts.push((context, starts_without(&mut mesh, context, missing).await));
    }
    let asked = crowd.ask(length).await.expect("all have asked").join_all().await;
    for (_, answer) in &asked {
        says_come_again(answer.as_ref().expect_err("there is no database"));
    }

    mesh.postgres().restart().await.expect("comes back");
    for (context, health) in &contexts {
        health.misses(&["broker"]).await;
        assert_eq!(mesh.ended(context), None, "{context} waits");
    }
    mesh.start_nats().await;
    for (_, health) in &contexts {
        health.is_ready().await;
    }
    are_served(asked).await;
    let rides = Rides::half_way(&mesh).await;
    rides.go_on().await;
    rides.have_gone_on().await;
    Events::of(&mesh).are_in_the_stream_once().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_way_to_the_broker_is_borne() {
    let files = tempfile::tempdir().expect("a directory");
    let (binary, store_dir) = (nats_server_binary(), files.path().to_owned());
    let options = nats_server::Options { binary, store_dir, ..Default::default() };
    let nats = NatsServer::start(options).await.expect("starts");
    let mut proxy = Proxy::start(([127, 0, 0, 1], nats.port()).into()).expect("starts");
    let url = format!("nats://{}", proxy.address());
    let mesh = Mesh::serve_with(BIN, &CONTEXTS.map(|it| (it, "TAXI_BROKER__URL", &*url))).await;
    let rides = Rides::half_way(&mesh).await;
    let mut asked = Vec::new();
    for (fault, seconds) in [
        (Fault::Delay(Duration::from_millis(300)), 2),
        (Fault::Reset, 2),
        (Fault::BlackHole, 10),
        (Fault::Refuse, 2),
    ] {
        let length = Duration::from_secs(seconds);
        let crowd = Crowd::called(&mesh, &format!("{fault:?}"), length).await;
        proxy.set(fault);
        let asking = crowd.ask(length);
        rides.go_on().await;
        asked.extend(asking.await.expect("all have asked").join_all().await);
        proxy.set(Fault::Pass);
    }
    assert!(asked.iter().all(|(_, answer)| answer.is_ok()), "asking needs no broker");
    are_served(asked).await;
    rides.have_gone_on().await;
    Events::of(&mesh).with_broker(&nats.url()).are_in_the_stream_once().await;
}

/// Starts a context that cannot become ready, and waits until it says why.
async fn starts_without(mesh: &mut Mesh, context: &str, missing: &[&str]) -> Health {
    let port = testkit::free_port().expect("a port");
    mesh.set(context, "TAXI_LISTEN__ADMIN", &port.to_string());
    let health = Health::at(mesh, context, &format!("http://127.0.0.1:{port}"));
    tokio::select! {
        () = mesh.start_context(context) => panic!("{context} is ready without {missing:?}"),
        () = health.misses(missing) => {}
    }
    health
}
