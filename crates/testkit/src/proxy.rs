//! A TCP proxy that can be told to misbehave.
//!
//! It has a thread and a runtime of its own: a test that blocks (a `Drop` that waits for a mesh to
//! drain, say) does not stop the traffic.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const REBIND_DEADLINE: Duration = Duration::from_secs(10);
const REBIND_PAUSE: Duration = Duration::from_millis(5);

/// What happens on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: bytes pass.
    Pass,
    /// Bytes pass later, each way.
    Delay(Duration),
    /// Connections are taken and kept, no byte passes. After healing the bytes held back pass, as
    /// after a network partition that TCP has bridged.
    BlackHole,
    /// Connections are reset, the present ones and every new one.
    Reset,
    /// Nobody listens; present connections are reset.
    Refuse,
}

/// A door in front of `upstream`. Dropping it closes the door.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    upstream: watch::Sender<SocketAddr>,
    orders: Option<watch::Sender<(u64, Fault)>>,
    obeyed: mpsc::Receiver<u64>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Opens a door on a port chosen by the kernel.
    ///
    /// # Errors
    /// When there is no port or no thread.
    pub fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (orders, order) = watch::channel((0, Fault::Pass));
        let (upstream, target) = watch::channel(upstream);
        let (obey, obeyed) = mpsc::channel();
        let thread =
            std::thread::Builder::new().name("fault-proxy".to_owned()).spawn(move || {
                if let Err(error) = runtime.block_on(serve(listener, address, target, order, &obey))
                {
                    eprintln!("the fault proxy on {address} gave up: {error}");
                }
            })?;
        Ok(Self { address, upstream, orders: Some(orders), obeyed, thread: Some(thread) })
    }

    /// Where clients connect.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends new connections somewhere else; present ones stay where they are.
    pub fn redirect(&self, upstream: SocketAddr) {
        self.upstream.send_replace(upstream);
    }

    /// Changes what happens, for present and new connections. When it returns, it is in force.
    ///
    /// # Panics
    /// When the proxy has died, which is an error of the test's own world.
    pub fn set(&mut self, fault: Fault) {
        let mut number = 0;
        if let Some(orders) = &self.orders {
            orders.send_modify(|order| {
                number = order.0 + 1;
                *order = (number, fault);
            });
        }
        while self.obeyed.recv().expect("the fault proxy runs") < number {}
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Without its orders the thread ends, and every connection with it.
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(
    listener: std::net::TcpListener,
    address: SocketAddr,
    upstream: watch::Receiver<SocketAddr>,
    mut order: watch::Receiver<(u64, Fault)>,
    obey: &mpsc::Sender<u64>,
) -> io::Result<()> {
    let mut listener = Some(TcpListener::from_std(listener)?);
    let mut connections = JoinSet::new();
    loop {
        let (number, fault) = *order.borrow_and_update();
        listener = match (fault, listener) {
            (Fault::Refuse, _) => None,
            (_, None) => Some(rebind(address).await?),
            (_, open) => open,
        };
        if matches!(fault, Fault::Reset | Fault::Refuse) {
            // Each connection sees the order itself and resets; gone when this returns.
            while connections.join_next().await.is_some() {}
        }
        // The test that no longer listens has dropped the proxy.
        let _ = obey.send(number);
        loop {
            tokio::select! {
                changed = order.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return Ok(()),
                },
                accepted = accept(listener.as_ref()) => {
                    // A client that left before it was let in is no concern of ours.
                    if let Ok(client) = accepted {
                        let upstream = *upstream.borrow();
                        connections.spawn(connection(client, upstream, order.clone()));
                    }
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => Ok(listener.accept().await?.0),
        None => std::future::pending().await,
    }
}

/// The same port again; it can be in use by somebody's outgoing connection for a moment.
async fn rebind(address: SocketAddr) -> io::Result<TcpListener> {
    let end = Instant::now() + REBIND_DEADLINE;
    loop {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        match socket.bind(address) {
            Ok(()) => return socket.listen(1024),
            Err(error) if Instant::now() >= end => return Err(error),
            Err(_) => sleep(REBIND_PAUSE).await,
        }
    }
}

async fn connection(
    mut client: TcpStream,
    upstream: SocketAddr,
    mut order: watch::Receiver<(u64, Fault)>,
) {
    if breaks(order.borrow_and_update().1) {
        let _ = client.set_zero_linger();
        return;
    }
    let Ok(mut server) = TcpStream::connect(upstream).await else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let (up, down) = (order.clone(), order.clone());
        let both = async {
            tokio::join!(pipe(from_client, to_server, up), pipe(from_server, to_client, down));
        };
        tokio::select! {
            () = both => return,
            // An error says that the proxy is dropped: then nothing matters any more.
            _ = order.wait_for(|(_, fault)| breaks(*fault)) => {}
        }
    }
    // Closing with zero linger is how one sends a reset.
    let _ = (client.set_zero_linger(), server.set_zero_linger());
}

const fn breaks(fault: Fault) -> bool {
    matches!(fault, Fault::Reset | Fault::Refuse)
}

/// One direction, until it is closed.
async fn pipe(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut order: watch::Receiver<(u64, Fault)>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        let fault = order.borrow_and_update().1;
        if let Fault::Delay(delay) = fault {
            sleep(delay).await;
        }
        let passes = |(_, fault): &(u64, Fault)| *fault != Fault::BlackHole;
        if order.wait_for(passes).await.is_err() || read == 0 {
            let _ = to.shutdown().await;
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    /// A server that says everything back.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        address
    }

    async fn say(stream: &mut TcpStream, what: &[u8]) -> io::Result<()> {
        stream.write_all(what).await?;
        let mut heard = vec![0; what.len()];
        stream.read_exact(&mut heard).await?;
        assert_eq!(heard, what);
        Ok(())
    }

    const SHORT: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn it_passes_delays_and_holds_back() {
        let mut proxy = Proxy::start(echo().await).expect("starts");
        let mut stream = TcpStream::connect(proxy.address()).await.expect("connects");
        say(&mut stream, b"hello").await.expect("passes");

        proxy.set(Fault::Delay(SHORT));
        let begin = Instant::now();
        say(&mut stream, b"late").await.expect("passes");
        assert!(begin.elapsed() >= 2 * SHORT, "{:?}", begin.elapsed());

        proxy.set(Fault::BlackHole);
        stream.write_all(b"held").await.expect("buffered");
        let mut heard = [0; 4];
        assert!(timeout(SHORT, stream.read_exact(&mut heard)).await.is_err());
        proxy.set(Fault::Pass);
        stream.read_exact(&mut heard).await.expect("healed");
        assert_eq!(&heard, b"held");
    }

    /// Over a connection of its own, which may be reset before it is seen to be made.
    async fn say_anew(proxy: &Proxy, words: &[u8]) -> io::Result<()> {
        say(&mut TcpStream::connect(proxy.address()).await?, words).await
    }

    #[tokio::test]
    async fn it_resets_refuses_and_heals() {
        let mut proxy = Proxy::start(echo().await).expect("starts");
        let mut stream = TcpStream::connect(proxy.address()).await.expect("connects");
        say(&mut stream, b"hello").await.expect("passes");

        proxy.set(Fault::Reset);
        assert!(say(&mut stream, b"gone").await.is_err());
        assert!(say_anew(&proxy, b"gone").await.is_err());

        proxy.set(Fault::Refuse);
        let refused = TcpStream::connect(proxy.address()).await.expect_err("nobody is there");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);

        proxy.set(Fault::Pass);
        let mut healed = TcpStream::connect(proxy.address()).await.expect("connects");
        say(&mut healed, b"again").await.expect("passes");
    }

    #[tokio::test]
    async fn it_follows_an_upstream_that_moves() {
        let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let mut proxy = Proxy::start(gone.local_addr().expect("bound")).expect("starts");
        drop(gone);
        assert!(say_anew(&proxy, b"nobody").await.is_err());
        proxy.redirect(echo().await);
        let mut stream = TcpStream::connect(proxy.address()).await.expect("connects");
        say(&mut stream, b"moved").await.expect("passes");
        proxy.set(Fault::Reset);
    }

    #[tokio::test]
    async fn a_closed_side_closes_the_other() {
        let proxy = Proxy::start(echo().await).expect("starts");
        let mut stream = TcpStream::connect(proxy.address()).await.expect("connects");
        say(&mut stream, b"hello").await.expect("passes");
        stream.shutdown().await.expect("closed");
        let mut rest = Vec::new();
        let end = timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
        assert_eq!(end.expect("in time").expect("an orderly end"), 0);
    }
}
