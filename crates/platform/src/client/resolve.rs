//! The channel to a neighbour by its name: behind the name there may be several addresses (a
//! headless service of Kubernetes), and they come and go.
//!
//! The name is resolved again and again. New addresses are called from then on, those that are gone
//! are not; while a resolution fails or finds nothing, the last addresses that were known stay.
//! Calls go round the addresses that can be connected to, and again to the next one when nobody has
//! seen them.
//!
//! Several names, separated by commas, are one neighbour too: all addresses behind any of them. It is
//! called by the first.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::join_all;
use http::{Request, Response, Uri};
use tokio::net::lookup_host;
use tokio::time::{sleep, timeout};
use tonic::body::Body;
use tonic::transport::Endpoint;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Layer as _, service_fn};

use super::around::Around;
use super::members::{Callable, Members, NOBODY};
use super::resent::Resent;
use super::{InvalidEndpoint, endpoints, tuned};
use crate::status::Chain;
use crate::tls::ClientTls;

/// How often a name is resolved,
const PERIOD: Duration = Duration::from_secs(5);
/// and how often while nothing is behind it.
const PERIOD_WITHOUT: Duration = Duration::from_secs(1);
/// How long a resolution may take.
const RESOLUTION_TIMEOUT: Duration = Duration::from_secs(2);

/// A channel to all addresses behind a name.
pub type Balanced = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

/// A channel to all addresses behind a name, `host:port` or `https://host:port`, or behind several,
/// separated by commas. Nobody has to be up before anybody else: while there is no address, calls are
/// `UNAVAILABLE` at once.
pub fn balanced(names: &str) -> Result<Balanced, InvalidEndpoint> {
    balanced_over(&ClientTls::default(), names)
}

/// The same, with this TLS for `https://host:port`. Whoever answers has to have a certificate for the
/// first name. When the TLS changes, so do the connections; calls that have begun go on.
pub fn balanced_over(tls: &ClientTls, names: &str) -> Result<Balanced, InvalidEndpoint> {
    let endpoints = endpoints(names)?;
    let origin = endpoints.first().map(|endpoint| endpoint.uri().clone()).unwrap_or_default();
    let authority = |endpoint: &Endpoint| endpoint.uri().authority().map(ToString::to_string);
    let names = Dns(endpoints.iter().filter_map(authority).collect());
    let tls = (origin.scheme_str() == Some("https")).then(|| tls.clone());
    Ok(follow(origin, tls, names, PERIOD))
}

/// Tells the addresses behind a name.
pub(super) trait Resolve: Send + Sync + 'static {
    fn resolve(&self) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;
}

/// The operating system's resolver, for each `host:port`.
struct Dns(Vec<String>);

impl Resolve for Dns {
    /// One name that is not resolved does not hide the others.
    async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let resolved = join_all(self.0.iter().map(lookup_host)).await;
        let (found, failed): (Vec<_>, Vec<_>) = resolved.into_iter().partition(Result::is_ok);
        match failed.into_iter().find_map(Result::err).filter(|_| found.is_empty()) {
            Some(error) => Err(error),
            None => Ok(found.into_iter().flatten().flatten().collect()),
        }
    }
}

/// A channel that follows a resolver. `origin` is what the neighbour is called by, with `tls` if it is
/// `https`.
pub(super) fn follow(
    origin: Uri,
    tls: Option<ClientTls>,
    resolver: impl Resolve,
    period: Duration,
) -> Balanced {
    let (members, callable) = Members::new();
    let follower = Follower { origin, tls, members, present: BTreeSet::new() };
    tokio::spawn(follower.run(resolver, period));
    let channel = service_fn(move |request| Callable::send(callable.clone(), request));
    BoxCloneSyncService::new(Around(Resent).layer(channel))
}

/// Keeps the channel's addresses those behind the name.
struct Follower {
    origin: Uri,
    tls: Option<ClientTls>,
    members: Members,
    present: BTreeSet<SocketAddr>,
}

impl Follower {
    /// Goes on for as long as there is a channel.
    async fn run(mut self, resolver: impl Resolve, period: Duration) {
        let members = self.members.clone();
        let follow = async {
            let mut well = true;
            loop {
                let resolved = timeout(RESOLUTION_TIMEOUT, resolver.resolve()).map(|it| it?).await;
                let found = resolved.and_then(somebody);
                if let Err(error) = &found
                    && well
                {
                    tracing::warn!(name = %self.origin, %error, "a name is not resolved");
                }
                well = found.is_ok();
                if let Ok(found) = found {
                    self.follow(found);
                }
                self.members.known();
                let nothing = self.present.is_empty();
                tokio::select! {
                    () = sleep(if nothing { period.min(PERIOD_WITHOUT) } else { period }) => {}
                    () = changed(&mut self.tls) => self.renew(),
                }
            }
        };
        tokio::select! {
            () = follow => {}
            () = members.unused() => {}
        }
        // Their tasks know each other by it.
        members.clear();
    }

    /// First what is new, so that there is always somebody to call.
    fn follow(&mut self, found: BTreeSet<SocketAddr>) {
        let gone: Vec<SocketAddr> = self.present.difference(&found).copied().collect();
        for address in found {
            if !self.present.contains(&address)
                && let Some(endpoint) = self.endpoint(address)
            {
                tracing::debug!(name = %self.origin, %address, "a new address");
                self.members.insert(address, endpoint);
                self.present.insert(address);
            }
        }
        for address in gone {
            tracing::debug!(name = %self.origin, %address, "an address is gone");
            self.members.remove(address);
            self.present.remove(&address);
        }
    }

    /// Each address once more: its new connection takes the place of the old one.
    fn renew(&self) {
        for address in &self.present {
            if let Some(endpoint) = self.endpoint(*address) {
                self.members.insert(*address, endpoint);
            }
        }
    }

    fn endpoint(&self, address: SocketAddr) -> Option<Endpoint> {
        let scheme = self.origin.scheme_str().unwrap_or("http");
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}")).ok()?;
        let endpoint = tuned(endpoint).origin(self.origin.clone());
        let Some(tls) = &self.tls else { return Some(endpoint) };
        let secured = tls.apply(endpoint, self.origin.host().unwrap_or_default());
        if let Err(error) = &secured {
            tracing::error!(name = %self.origin, error = %Chain(error), "no TLS for a name");
        }
        secured.ok()
    }
}

/// Waits until connections have to be made anew.
async fn changed(tls: &mut Option<ClientTls>) {
    match tls {
        Some(tls) => tls.changed().await,
        None => std::future::pending().await,
    }
}

fn somebody(found: Vec<SocketAddr>) -> io::Result<BTreeSet<SocketAddr>> {
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, NOBODY));
    }
    Ok(found.into_iter().collect())
}
