//! The port: HTTP/1.1 and HTTP/2 (with prior knowledge), told apart by their first bytes.
//!
//! The end, in order: health says no, load balancers get a moment to notice, no new connections,
//! streams end with `UNAVAILABLE` so that their clients carry on elsewhere, requests in flight get a
//! while to finish.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use platform::shutdown::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tower::{ServiceExt as _, service_fn};

use super::patient::Patient;
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
    pub async fn serve(self, listener: TcpListener, shutdown: Shutdown) {
        let port = Port {
            router: self.router(),
            builder: builder(&self.door.config),
            door: self.door.clone(),
            cut: CancellationToken::new(),
        };
        let watched = GracefulShutdown::new();
        let ending = async {
            shutdown.cancelled().await;
            self.door.serving.send_replace(false);
            sleep(self.server.drain_delay).await;
        };
        tokio::select! {
            () = port.accept(&listener, &watched) => {}
            () = ending => {}
        }
        drop(listener);
        self.door.draining.cancel();
        if tokio::time::timeout(self.server.drain, watched.shutdown()).await.is_err() {
            tracing::warn!(after = ?self.server.drain, "cut requests that were still in flight");
        }
        port.cut.cancel();
    }
}

/// What a connection is served with.
struct Port {
    router: Router,
    builder: Builder<TokioExecutor>,
    door: Arc<Door>,
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
    async fn accept(&self, listener: &TcpListener, watched: &GracefulShutdown) {
        let room = Arc::new(Semaphore::new(self.door.config.connections));
        loop {
            // It fails when the semaphore is closed, which nobody does.
            let Ok(room) = room.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, address)) => match self.slot(address.ip().to_canonical()) {
                    Ok(slot) => self.welcome(stream, address, watched.watcher(), (room, slot)),
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

    fn welcome(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        watcher: Watcher,
        room: (OwnedSemaphorePermit, Option<Slot>),
    ) {
        // Without it, small answers wait for the client's acknowledgement of the one before.
        stream.set_nodelay(true).ok();
        let heard = Arc::new(AtomicBool::new(false));
        let (router, hears) = (self.router.clone(), heard.clone());
        let service = service_fn(move |request: http::Request<_>| {
            hears.store(true, Ordering::Relaxed);
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(address));
            router.clone().oneshot(request)
        });
        let service = TowerToHyperService::new(service);
        let io = TokioIo::new(Patient::new(stream, self.door.config.write_timeout));
        let connection = self.builder.serve_connection(io, service).into_owned();
        let connection = watcher.watch(connection);
        let (cut, patience) = (self.cut.clone(), self.door.config.header_timeout);
        tokio::spawn(async move {
            let _room = room;
            // Whoever says nothing at all, or not even which HTTP it is.
            let silent = async {
                sleep(patience).await;
                if heard.load(Ordering::Relaxed) {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                outcome = connection => {
                    if let Err(error) = outcome {
                        tracing::debug!(%error, "a connection broke");
                    }
                }
                () = silent => tracing::debug!(%address, "a client said nothing in time"),
                () = cut.cancelled() => {}
            }
        });
    }
}
