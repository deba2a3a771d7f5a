//! One address in front of several replicas: what a Service is in Kubernetes.
//!
//! It works on connections, not on requests: whoever is connected stays with one replica. Like a
//! [`Proxy`](crate::Proxy) it has a thread and a runtime of its own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// An address whose connections go to its backends in turns; one that refuses is passed over.
/// Dropping it closes the address.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    backends: Backends,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Those who are in service; the first is next.
#[derive(Clone, Debug, Default)]
struct Backends(Arc<Mutex<Vec<SocketAddr>>>);

impl Backends {
    fn lock(&self) -> MutexGuard<'_, Vec<SocketAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everybody in service, beginning with whose turn it is.
    fn in_turn(&self) -> Vec<SocketAddr> {
        let mut backends = self.lock();
        let turn = backends.clone();
        if !backends.is_empty() {
            backends.rotate_left(1);
        }
        turn
    }
}

impl Balancer {
    /// Opens an address on a port chosen by the kernel, with nobody behind it yet.
    ///
    /// # Errors
    /// When there is no port or no thread.
    pub fn start() -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let backends = Backends::default();
        let (stop, stopped) = oneshot::channel();
        let served = backends.clone();
        let thread = std::thread::Builder::new().name("balancer".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    failed = serve(listener, &served) => if let Err(error) = failed {
                        eprintln!("the balancer on {address} gave up: {error}");
                    },
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, backends, stop: Some(stop), thread: Some(thread) })
    }

    /// Where clients connect.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes a replica into service.
    pub fn add(&self, backend: SocketAddr) {
        let mut backends = self.backends.lock();
        if !backends.contains(&backend) {
            backends.push(backend);
        }
    }

    /// Takes a replica out of service; its present connections stay.
    pub fn remove(&self, backend: SocketAddr) {
        self.backends.lock().retain(|other| *other != backend);
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: std::net::TcpListener, backends: &Backends) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A client that left before it was let in is no concern of ours.
                if let Ok((client, _)) = accepted {
                    connections.spawn(connection(client, backends.in_turn()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(mut client: TcpStream, backends: Vec<SocketAddr>) {
    for backend in backends {
        if let Ok(mut server) = TcpStream::connect(backend).await {
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let _ = copy_bidirectional(&mut client, &mut server).await;
            return;
        }
    }
    // Nobody is in service: as if nobody had listened.
    let _ = client.set_zero_linger();
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A server that says this to everybody.
    async fn saying(word: &'static [u8; 1]) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(word).await;
            }
        });
        address
    }

    async fn heard(balancer: &Balancer) -> io::Result<u8> {
        TcpStream::connect(balancer.address()).await?.read_u8().await
    }

    #[tokio::test]
    async fn replicas_take_turns_and_those_that_refuse_are_passed_over() {
        let balancer = Balancer::start().expect("starts");
        assert!(heard(&balancer).await.is_err(), "nobody is in service");

        let one = saying(b"1").await;
        balancer.add(one);
        balancer.add(saying(b"2").await);
        let mut both = [0; 2];
        for word in &mut both {
            *word = heard(&balancer).await.expect("an answer");
        }
        both.sort_unstable();
        assert_eq!(&both, b"12");

        balancer.remove(one);
        let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        balancer.add(gone.local_addr().expect("bound"));
        drop(gone);
        for _ in 0..4 {
            assert_eq!(heard(&balancer).await.expect("the other answers"), b'2');
        }
    }
}
