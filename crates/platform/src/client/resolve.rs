//! The channel to a neighbour by its name: behind the name there may be several addresses (a
//! headless service of Kubernetes), and they come and go.
//!
//! The name is resolved again and again. New addresses are called from then on, those that are gone
//! are not; while a resolution fails or finds nothing, the last addresses that were known stay.
//! Of two addresses at random, a call goes to the one that has less to do and can be connected to, and
//! again to another one when nobody has seen it.
//!
//! Several names, separated by commas, are one neighbour too: all addresses behind any of them. It is
//! called by the first.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;
use futures::{FutureExt as _, StreamExt as _};
use http::{Request, Response, Uri};
use tokio::net::lookup_host;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::transport::Endpoint;
use tower::balance::p2c::Balance;
use tower::buffer::Buffer;
use tower::discover::Change;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Layer as _, Service, ServiceExt as _};

use super::around::{Around, Middleware};
use super::member::Member;
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
/// Changes that nobody has looked at: the channel does when it is called.
const CHANGES: usize = 256;
/// Calls for which no address has been chosen yet.
const CALLS: usize = 1024;

const NOBODY: &str = "no address is behind the name";

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
    let (changes, told) = mpsc::channel(CHANGES);
    let members = ReceiverStream::new(told).map(Ok::<_, Infallible>);
    let channel = Buffer::new(Balance::new(members), CALLS);
    let (tell, known) = watch::channel(Known::NotYet);
    tokio::spawn(
        Follower { origin, tls, changes, tell, present: BTreeSet::new() }.run(resolver, period),
    );
    let channel = Around(WithAddress(known)).layer(channel);
    BoxCloneSyncService::new(Around(Resent).layer(channel))
}

/// What is known of the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    NotYet,
    None,
    Some,
}

/// Keeps the channel's addresses those behind the name.
struct Follower {
    origin: Uri,
    tls: Option<ClientTls>,
    changes: mpsc::Sender<Change<SocketAddr, Member>>,
    tell: watch::Sender<Known>,
    present: BTreeSet<SocketAddr>,
}

impl Follower {
    /// Goes on for as long as there is a channel.
    async fn run(mut self, resolver: impl Resolve, period: Duration) {
        let channel = self.changes.clone();
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
                    // Before the channel has them: it takes many only while it is called.
                    self.tell.send_replace(Known::Some);
                    self.follow(found).await;
                }
                let nothing = self.present.is_empty();
                if nothing {
                    self.tell.send_replace(Known::None);
                }
                tokio::select! {
                    () = sleep(if nothing { period.min(PERIOD_WITHOUT) } else { period }) => {}
                    () = changed(&mut self.tls) => self.renew().await,
                }
            }
        };
        tokio::select! {
            () = follow => {}
            () = channel.closed() => {}
        }
    }

    /// First what is new, so that there is always somebody to call.
    async fn follow(&mut self, found: BTreeSet<SocketAddr>) {
        for address in found.difference(&self.present) {
            if let Some(endpoint) = self.endpoint(*address) {
                tracing::debug!(name = %self.origin, %address, "a new address");
                let member = Member::new(endpoint);
                self.changes.send(Change::Insert(*address, member)).await.ok();
            }
        }
        for address in self.present.difference(&found) {
            tracing::debug!(name = %self.origin, %address, "an address is gone");
            self.changes.send(Change::Remove(*address)).await.ok();
        }
        self.present = found;
    }

    /// Each address once more: its new connection takes the place of the old one.
    async fn renew(&mut self) {
        let present = std::mem::take(&mut self.present);
        self.follow(present).await;
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

/// Waits until the name has been resolved, and refuses while nothing is behind it: the channel would
/// wait for ever.
#[derive(Clone)]
struct WithAddress(watch::Receiver<Known>);

impl<S> Middleware<Request<Body>, S> for WithAddress
where
    S: Service<Request<Body>, Response = Response<Body>, Error = BoxError> + Send,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = BoxError;

    async fn handle(
        mut self,
        request: Request<Body>,
        channel: S,
    ) -> Result<Response<Body>, BoxError> {
        match *self.0.wait_for(|known| *known != Known::NotYet).await? {
            Known::Some => {}
            Known::NotYet | Known::None => return Err(NOBODY.into()),
        }
        channel.oneshot(request).await
    }
}
