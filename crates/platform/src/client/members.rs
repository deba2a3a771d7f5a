//! The addresses behind a name, and who of them can be called now. Each has a task that keeps one
//! connection to it; calls go round those that are up. While none is, calls wait for those that are
//! being connected to, and are refused at once when there is nobody to wait for.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint, Error};
use tower::{BoxError, ServiceExt as _, service_fn};

use super::resent::is_unseen;

/// How long after a failure an address is tried again.
const PAUSE: Duration = Duration::from_millis(250);

/// Why nobody is called.
pub(super) const NOBODY: &str = "no address is behind the name";

/// Who is behind a name: for whoever finds that out.
#[derive(Clone)]
pub(super) struct Members(Arc<watch::Sender<Table>>);

/// The same, for whoever calls them.
#[derive(Clone)]
pub(super) struct Callable {
    table: watch::Receiver<Table>,
    next: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Table {
    /// Whether anybody has looked yet.
    is_known: bool,
    members: BTreeMap<SocketAddr, Member>,
}

struct Member {
    state: State,
    _task: AbortOnDropHandle<()>,
}

#[derive(Clone)]
enum State {
    Connecting,
    Up(Arc<Connection>),
    Down(Arc<Error>),
}

struct Connection {
    channel: Channel,
    /// Cancelled when it takes no more requests.
    over: CancellationToken,
}

impl Members {
    pub(super) fn new() -> (Members, Callable) {
        let (table, callable) = watch::channel(Table::default());
        let callable = Callable { table: callable, next: Arc::default() };
        (Members(Arc::new(table)), callable)
    }

    /// Somebody has looked: who is not there now is not waited for.
    pub(super) fn known(&self) {
        self.0.send_modify(|table| table.is_known = true);
    }

    /// Calls this address from now on. Is it there already, its new connection takes the place of the
    /// old one when it is made; calls that have begun go on.
    pub(super) fn insert(&self, address: SocketAddr, endpoint: Endpoint) {
        let task = AbortOnDropHandle::new(tokio::spawn(self.clone().keep(address, endpoint)));
        self.0.send_modify(|table| {
            let before = table.members.remove(&address).map(|member| member.state);
            let state = before.unwrap_or(State::Connecting);
            table.members.insert(address, Member { state, _task: task });
        });
    }

    /// Calls this address no more; calls that have begun go on.
    pub(super) fn remove(&self, address: SocketAddr) {
        self.0.send_modify(|table| drop(table.members.remove(&address)));
    }

    /// Calls nobody any more.
    pub(super) fn clear(&self) {
        self.0.send_modify(|table| table.members.clear());
    }

    /// Returns when nobody is left who could call.
    pub(super) async fn unused(&self) {
        self.0.closed().await;
    }

    /// Keeps a connection to one address.
    async fn keep(self, address: SocketAddr, endpoint: Endpoint) {
        loop {
            match endpoint.connect_with_connector(once(address)).await {
                Ok(channel) => {
                    let over = CancellationToken::new();
                    let connection = Arc::new(Connection { channel, over: over.clone() });
                    self.turn(address, State::Up(connection));
                    over.cancelled().await;
                    self.turn(address, State::Connecting);
                }
                Err(error) => {
                    self.turn(address, State::Down(Arc::new(error)));
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Notes how an address is. An older connection is kept for as long as there is no newer one.
    fn turn(&self, address: SocketAddr, state: State) {
        self.0.send_if_modified(|table| {
            let Some(member) = table.members.get_mut(&address) else { return false };
            if member.state.is_up() && !matches!(state, State::Up(_)) {
                return false;
            }
            member.state = state;
            true
        });
    }
}

/// Connects to an address, and never again: a channel would connect anew by itself, and keep its
/// requests waiting meanwhile though somebody else could serve them.
fn once(
    address: SocketAddr,
) -> impl tower::Service<Uri, Response = TokioIo<TcpStream>, Error = io::Error, Future: Send> {
    let mut is_new = true;
    service_fn(move |_: Uri| {
        let is_first = std::mem::take(&mut is_new);
        async move {
            if !is_first {
                return Err(io::Error::new(io::ErrorKind::NotConnected, "the connection is over"));
            }
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        }
    })
}

impl State {
    fn is_up(&self) -> bool {
        matches!(self, State::Up(connection) if !connection.over.is_cancelled())
    }
}

impl Callable {
    /// Sends a request to the next address that is up.
    pub(super) async fn send(mut self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let connection = self.chosen().await?;
        let answer = connection.channel.clone().oneshot(request).await.map_err(BoxError::from);
        if answer.as_ref().is_err_and(is_unseen) {
            connection.over.cancel();
        }
        answer
    }

    async fn chosen(&mut self) -> Result<Arc<Connection>, BoxError> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        loop {
            let choice = self.table.borrow_and_update().choice(turn);
            match choice {
                Some(choice) => return choice,
                None => self.table.changed().await?,
            }
        }
    }
}

impl Table {
    /// Whom to call when it is this turn, or why nobody; nothing while that will be known in a moment.
    fn choice(&self, turn: usize) -> Option<Result<Arc<Connection>, BoxError>> {
        let states = || self.members.values().map(|member| &member.state);
        let up = states().filter(|state| state.is_up()).count();
        if up > 0 {
            let mut ups = states().filter(|state| state.is_up());
            return match ups.nth(turn % up) {
                Some(State::Up(connection)) => Some(Ok(connection.clone())),
                _ => None,
            };
        }
        let refusal = |state: &State| match state {
            State::Down(error) => Some(Unreachable(error.clone())),
            State::Connecting | State::Up(_) => None,
        };
        if !self.is_known || states().any(|state| refusal(state).is_none()) {
            return None;
        }
        Some(Err(states().find_map(refusal).map_or_else(|| NOBODY.into(), BoxError::from)))
    }
}

/// No connection can be made.
#[derive(Debug)]
struct Unreachable(Arc<Error>);

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the address cannot be reached")
    }
}

impl std::error::Error for Unreachable {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    async fn refused() -> Arc<Error> {
        let nobody = Endpoint::from_static("http://127.0.0.1:1").connect().await;
        Arc::new(nobody.expect_err("a port that nobody may listen on"))
    }

    fn up() -> State {
        let channel = Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
        State::Up(Arc::new(Connection { channel, over: CancellationToken::new() }))
    }

    fn table<const N: usize>(states: [State; N]) -> Table {
        let member =
            |state| Member { state, _task: AbortOnDropHandle::new(tokio::spawn(pending())) };
        let addresses = (1..).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let members = addresses.zip(states.into_iter().map(member)).collect();
        Table { is_known: true, members }
    }

    /// Who is called in the next turns: their number, - for a refusal, ? for one who has to wait.
    fn turns(table: &Table) -> String {
        let number = |chosen: &Connection| {
            let is_it = |member: &Member| matches!(&member.state, State::Up(up) if std::ptr::eq(up.as_ref(), chosen));
            table.members.values().position(is_it).expect("one of them").to_string()
        };
        let turn = |turn| match table.choice(turn) {
            Some(Ok(connection)) => number(&connection),
            Some(Err(_)) => "-".to_owned(),
            None => "?".to_owned(),
        };
        (0..4).map(turn).collect()
    }

    #[tokio::test]
    async fn calls_go_round_those_that_are_up_and_wait_for_those_that_may_be() {
        let error = refused().await;
        let down = || State::Down(error.clone());
        let over = || match up() {
            State::Up(connection) => {
                connection.over.cancel();
                State::Up(connection)
            }
            other => other,
        };
        for (states, expected) in [
            (table([up(), up(), up()]), "0120"),
            (table([down(), up(), State::Connecting, up()]), "1313"),
            (table([down(), State::Connecting]), "????"),
            (table([down(), over()]), "????"),
            (table([over(), up()]), "1111"),
            (table([down(), down()]), "----"),
            (table([]), "----"),
            (Table::default(), "????"),
        ] {
            assert_eq!(turns(&states), expected);
        }
    }
}
