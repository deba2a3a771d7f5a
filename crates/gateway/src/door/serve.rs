//! The port: HTTP/1.1 and HTTP/2 (with prior knowledge, or as agreed upon in the handshake of TLS),
//! told apart by their first bytes.
//!
//! A connection that has grown old is closed when its requests are done, so that clients come round to
//! replicas that are new.
//!
//! The end, in order: health says no, load balancers get a moment to notice, no new connections,
//! streams end with `UNAVAILABLE` so that their clients carry on elsewhere, requests in flight get a
//! while to finish.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use futures::{FutureExt as _, TryFutureExt as _};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use platform::server::LAST_GUESTS;
use platform::shutdown::Shutdown;
use platform::tls::{Listener, ServerTls, TlsStream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{ServiceExt as _, service_fn};

use super::client::OverTls;
use super::measure;
use super::patient::Patient;
use super::unread::Unread;
use super::{Door, Gateway, GatewayConfig, Slot};

/// The largest header list we take.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// Streams at once on one connection.
const MAX_STREAMS: u32 = 200;
/// After this much silence we ask whether the other end is still there,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// and close when it does not answer within this time.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long we wait when no connection can be accepted: mostly for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

impl Gateway {
    /// Serves until the process is asked to stop, then drains.
    pub async fn serve(self, listener: impl Into<Listener>, shutdown: Shutdown) {
        let Listener { tcp: listener, tls } = listener.into();
        let port = Port {
            router: self.router(),
            builder: builder(&self.door.config),
            door: self.door.clone(),
            tls,
            connection_age: self.server.connection_age,
            cut: CancellationToken::new(),
        };
        let conversations = TaskTracker::new();
        let ending = async {
            shutdown.cancelled().await;
            self.door.serving.send_replace(false);
            sleep(self.server.drain_delay).await;
        };
        tokio::select! {
            () = port.accept(&listener, &conversations) => {}
            () = ending => {}
        }
        // Whoever has connected already, and only waits to be accepted, would be cut.
        port.accept(&listener, &conversations).now_or_never();
        drop(listener);
        sleep(LAST_GUESTS).await;
        self.door.draining.cancel();
        conversations.close();
        if tokio::time::timeout(self.server.drain, conversations.wait()).await.is_err() {
            tracing::warn!(after = ?self.server.drain, "cut requests that were still in flight");
        }
        port.cut.cancel();
    }
}

/// What a connection is served with.
#[derive(Clone)]
struct Port {
    router: Router,
    builder: Builder<TokioExecutor>,
    door: Arc<Door>,
    tls: Option<ServerTls>,
    connection_age: Duration,
    /// Ends what has not ended in time.
    cut: CancellationToken,
}

fn builder(config: &GatewayConfig) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .max_buf_size(MAX_HEADER_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    builder
}

/// An address has all the connections it may have.
struct TooMany;

impl Port {
    /// Accepts for as long as it is let.
    async fn accept(&self, listener: &TcpListener, conversations: &TaskTracker) {
        let room = Arc::new(Semaphore::new(self.door.config.connections));
        loop {
            // It fails when the semaphore is closed, which nobody does.
            let Ok(room) = room.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, address)) => match self.slot(address.ip().to_canonical()) {
                    Ok(slot) => {
                        conversations.spawn(self.clone().welcome(stream, address, (room, slot)));
                    }
                    Err(TooMany) => tracing::debug!(%address, "too many connections"),
                },
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// A proxy stands for many clients: its connections are not counted.
    fn slot(&self, address: IpAddr) -> Result<Option<Slot>, TooMany> {
        match self.door.proxies.trusts(address) {
            true => Ok(None),
            false => self.door.limits.connection(address).map(Some).ok_or(TooMany),
        }
    }

    async fn welcome(
        self,
        stream: TcpStream,
        address: SocketAddr,
        room: (OwnedSemaphorePermit, Option<Slot>),
    ) {
        let (_room, _counted) = (room, measure::connection());
        // Without it, small answers wait for the client's acknowledgement of the one before.
        stream.set_nodelay(true).ok();
        let stream = Patient::new(stream, self.door.config.write_timeout);
        match &self.tls {
            None => self.converse(stream, Client { address, tls: false }).await,
            Some(tls) => match self.shake_hands(tls, stream).await {
                Ok(stream) => self.converse(stream, Client { address, tls: true }).await,
                Err(error) => tracing::debug!(%address, %error, "a handshake failed"),
            },
        }
    }

    /// The handshake, for as long as a client may take, and we go on.
    async fn shake_hands(
        &self,
        tls: &ServerTls,
        stream: Patient,
    ) -> io::Result<TlsStream<Patient>> {
        tokio::select! {
            shaken = tls.accept(stream, self.door.config.header_timeout) => shaken,
            () = self.door.draining.cancelled() => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    /// Answers the requests of a connection, until either end has had enough.
    async fn converse<I>(&self, stream: I, client: Client)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let heard = Arc::new(AtomicBool::new(false));
        let unread = Unread::default();
        let (router, hears, answers) = (self.router.clone(), heard.clone(), unread.clone());
        let service = service_fn(move |request: http::Request<_>| {
            hears.store(true, Ordering::Relaxed);
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(client.address));
            if client.tls {
                request.extensions_mut().insert(OverTls);
            }
            let answers = answers.clone();
            router.clone().oneshot(request).map_ok(move |answer| answers.watch(answer))
        });
        let service = TowerToHyperService::new(service);
        let connection = self.builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        // What has begun may end, and the client goes elsewhere with the rest.
        let farewell = async {
            tokio::select! {
                () = sleep(self.connection_age) => {}
                () = self.door.draining.cancelled() => {}
            }
        };
        let conversation = async {
            tokio::select! {
                outcome = connection.as_mut() => return outcome,
                () = farewell => {}
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        };
        // Whoever says nothing at all, or not even which HTTP it is.
        let silent = async {
            sleep(self.door.config.header_timeout).await;
            if heard.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            outcome = conversation => {
                if let Err(error) = outcome {
                    tracing::debug!(%error, "a connection broke");
                }
            }
            () = unread.for_longer_than(self.door.config.write_timeout) => {
                tracing::debug!(address = %client.address, "a client reads no more of an answer");
            }
            () = silent => tracing::debug!(address = %client.address, "a client said nothing in time"),
            () = self.cut.cancelled() => {}
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy)]
struct Client {
    address: SocketAddr,
    tls: bool,
}
