//! What goes wrong in a scenario, on purpose, and that it never outlives the demo.

use std::io;
use std::thread;
use std::time::Duration;

use tokio::runtime;
use tokio::time::timeout;

use super::scenario::Scenario;
use crate::cmd::fault::Door;
use crate::exit::Exit;
use crate::ready::Ready;

/// How long taking a fault back may take when the demo is interrupted.
const LAST_WORD: Duration = Duration::from_secs(3);

/// A fault, as `taxi fault` knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Its name.
    pub(super) name: &'static str,
    /// What it is set to.
    pub(super) value: &'static str,
    /// What can be seen of it.
    pub(super) effect: Effect,
}

/// What can be seen of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// No fee is taken at the finish, and driving's breaker opens.
    AllDeferred,
    /// Some fees are taken later.
    SomeDeferred,
    /// Some fees are declined.
    SomeDeclined,
}

impl Scenario {
    /// What goes wrong in it.
    pub(super) fn fault(self) -> Option<Fault> {
        let (name, value, effect) = match self {
            Scenario::PaymentDown => ("payment.down", "true", Effect::AllDeferred),
            Scenario::PaymentSlow => ("payment.latency", "2s", Effect::AllDeferred),
            Scenario::PaymentFlaky => ("provider.error_rate", "0.5", Effect::SomeDeferred),
            Scenario::PaymentDeclined => ("provider.declines", "0.7", Effect::SomeDeclined),
            Scenario::AnswerLost => ("provider.lose_answers", "0.5", Effect::SomeDeferred),
            Scenario::Happy | Scenario::Cancel | Scenario::DriverRace => return None,
        };
        Some(Fault { name, value, effect })
    }
}

impl Fault {
    /// As people set it.
    pub(super) fn setting(&self) -> String {
        format!("{}={}", self.name, self.value)
    }

    /// Refuses a mesh that has no faults to set, or where something goes wrong already.
    pub(super) async fn require_healthy(mesh: &Ready) -> Result<(), Exit> {
        let rows = Door::of(mesh)?.rows().await?;
        let set =
            rows.iter().filter_map(|row| Some(format!("{}={}", row.name, row.value.as_ref()?)));
        match set.collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => Ok(()),
            set => Err(Exit::failed(format!(
                "something goes wrong on purpose already ({set}): take it back with \
                 `taxi fault clear`"
            ))),
        }
    }

    /// Lets it happen, until it is taken back.
    pub(super) async fn set(&self, mesh: &Ready) -> Result<Set, Exit> {
        let door = Door::of(mesh)?;
        // From here on, for even a request that fails may have done it.
        let set = Set { name: self.name, mesh: Some(mesh.clone()) };
        door.set(self.name, self.value).await?;
        Ok(set)
    }
}

/// A fault that is set. However the demo ends, by an error, a panic or an interruption: this takes
/// it back.
#[derive(Debug)]
pub(super) struct Set {
    name: &'static str,
    /// Where, until it is taken back.
    mesh: Option<Ready>,
}

impl Set {
    /// All is well again.
    pub(super) async fn take_back(mut self) -> Result<(), Exit> {
        let Some(mesh) = &self.mesh else { return Ok(()) };
        Door::of(mesh)?.clear(self.name).await?;
        self.mesh = None;
        Ok(())
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        let Some(mesh) = self.mesh.take() else { return };
        let name = self.name;
        // Nobody awaits anything any more, so it is done right now, on a thread of its own.
        let cleared = thread::spawn(move || clear_now(&mesh, name)).join();
        if !matches!(cleared, Ok(Ok(()))) {
            eprintln!("{name} may still be set: take it back with `taxi fault clear {name}`");
        }
    }
}

fn clear_now(mesh: &Ready, name: &str) -> io::Result<()> {
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let clear = async { Door::of(mesh)?.clear(name).await };
        let cleared = timeout(LAST_WORD, clear).await?;
        cleared.map_err(|exit| io::Error::other(exit.to_string()))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::http::Method;
    use axum::routing::any;

    use super::*;

    const FAULT: Fault = Fault { name: "it.down", value: "true", effect: Effect::AllDeferred };

    /// A mesh whose door notes what it is asked for.
    async fn mesh() -> (Ready, Arc<Mutex<Vec<Method>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let note = asked.clone();
        let asks = move |method: Method| async move {
            note.lock().expect("nobody panics").push(method);
        };
        let router = Router::new().route("/dev/faults/it.down", any(asks));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, router).await });
        (Ready { gateway: Some(format!("http://{address}")), ..Ready::default() }, asked)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_set_is_taken_back_once() {
        let (mesh, asked) = mesh().await;
        FAULT.set(&mesh).await.expect("set").take_back().await.expect("taken back");
        assert_eq!(*asked.lock().expect("a list"), [Method::PUT, Method::DELETE]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn whoever_forgets_it_takes_it_back() {
        let (mesh, asked) = mesh().await;
        drop(FAULT.set(&mesh).await.expect("set"));
        assert_eq!(*asked.lock().expect("a list"), [Method::PUT, Method::DELETE]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_panic_takes_it_back() {
        let (mesh, asked) = mesh().await;
        let panicking = tokio::spawn(async move {
            let _set = FAULT.set(&mesh).await.expect("set");
            panic!("a defect of the demo");
        });
        assert!(panicking.await.is_err());
        assert_eq!(*asked.lock().expect("a list"), [Method::PUT, Method::DELETE]);
    }

    #[tokio::test]
    async fn without_a_door_there_are_no_faults() {
        let refused = FAULT.set(&Ready::default()).await.expect_err("no door").to_string();
        assert!(refused.starts_with("faults are for development"), "{refused}");
    }
}
