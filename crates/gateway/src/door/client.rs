//! Where a request comes from.
//!
//! The connection tells the peer. What `X-Forwarded-For` tells counts only from a proxy that is
//! trusted, and only as far back as there are such: the first address that is none is the client.
//! From anybody else those headers are a claim, and are taken off.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::HOST;
use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;

use super::Door;
use crate::headers::{FORWARDED, FORWARDED_FOR, Peer};

/// The proxies that are believed.
pub(super) struct Proxies(Vec<IpNet>);

/// Of a request that has come over TLS: one of its extensions.
#[derive(Clone, Copy)]
pub(super) struct OverTls;

/// Who is on the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Client {
    /// Where the connection comes from: a proxy, perhaps.
    pub(super) peer: Peer,
    /// Where the request comes from.
    pub(super) address: IpAddr,
}

impl Client {
    /// The client of a request that has come through [`known`].
    pub(super) fn of(request: &Request) -> Client {
        let unknown = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let nobody = Client { peer: Peer { address: unknown, tls: false }, address: unknown };
        request.extensions().get().copied().unwrap_or(nobody)
    }
}

impl Proxies {
    pub(super) fn new(trusted: Vec<IpNet>) -> Proxies {
        Proxies(trusted)
    }

    /// Whether this is one of them.
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|net| net.contains(&address))
    }

    /// The last address that is no trusted proxy's, from us outwards.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let told: Vec<&str> = headers
            .get_all(FORWARDED_FOR)
            .iter()
            .flat_map(|value| value.to_str().unwrap_or_default().split(','))
            .collect();
        let mut client = peer;
        for hop in told.iter().rev() {
            if !self.trusts(client) {
                break;
            }
            match hop.trim().parse::<IpAddr>() {
                Ok(address) => client = address.to_canonical(),
                Err(_) => break,
            }
        }
        client
    }
}

/// Finds out who the client is, and takes off what only a trusted proxy may say.
pub(super) async fn known(
    State(door): State<Arc<Door>>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>() {
        let peer = peer.ip().to_canonical();
        if !door.proxies.trusts(peer) {
            FORWARDED.iter().for_each(|name| {
                request.headers_mut().remove(name);
            });
        }
        let address = door.proxies.client(peer, request.headers());
        // HTTP/2 says it in the address of the request.
        let authority = request.uri().authority().map(|authority| authority.as_str());
        let host = authority.and_then(|authority| HeaderValue::from_str(authority).ok());
        if let Some(host) = host {
            request.headers_mut().entry(HOST).or_insert(host);
        }
        let tls = request.extensions().get::<OverTls>().is_some();
        request.extensions_mut().insert(Client { peer: Peer { address: peer, tls }, address });
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_are_believed() {
        let proxies = Proxies::new(vec!["10.0.0.0/8".parse().expect("a net")]);
        for (peer, told, client) in [
            ("192.0.2.1", vec![], "192.0.2.1"),
            ("192.0.2.1", vec!["198.51.100.1"], "192.0.2.1"),
            ("10.0.0.1", vec![], "10.0.0.1"),
            ("10.0.0.1", vec!["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", vec!["203.0.113.9, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", vec!["203.0.113.9", "198.51.100.1, 10.0.0.2"], "198.51.100.1"),
            ("10.0.0.1", vec!["198.51.100.1, unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", vec!["2001:db8::1"], "2001:db8::1"),
        ] {
            let value = |told: &str| (FORWARDED_FOR, HeaderValue::try_from(told).expect("text"));
            let mut headers = HeaderMap::new();
            for told in &told {
                let (name, value) = value(told);
                headers.append(name, value);
            }
            let seen = proxies.client(peer.parse().expect("an address"), &headers);
            assert_eq!(seen.to_string(), client, "{peer} {told:?}");
        }
    }
}
