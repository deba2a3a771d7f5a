//! Small HTTP servers: the development parts.

use axum::Router;
use platform::shutdown::Shutdown;
use tokio::net::TcpListener;

/// Serves until everything stops.
pub(crate) fn serve(name: &'static str, listener: TcpListener, router: Router, stop: &Shutdown) {
    let stopped = stop.clone();
    let serving = axum::serve(listener, router)
        .with_graceful_shutdown(async move { stopped.cancelled().await });
    stop.spawn(name, async move {
        if let Err(error) = serving.await {
            tracing::error!(name, %error, "cannot serve");
        }
    });
}
