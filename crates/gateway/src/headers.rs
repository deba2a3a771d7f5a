//! HTTP headers into gRPC metadata, and metadata into headers.
//!
//! | header of the request | metadata |
//! |---|---|
//! | `Authorization`, `Accept-Language`, `Idempotency-Key`, `Grpc-Timeout`, `traceparent`, `tracestate` | the same |
//! | `Grpc-Metadata-<name>` | `<name>`, unless it is one of those that mean something to us |
//! | `X-Forwarded-For`, `-Host`, `-Proto` | the same, with what this door saw of the client |
//!
//! Of the metadata of an answer, `x-taxi-consistency-token` keeps its name; everything else is
//! `Grpc-Metadata-<name>`, but for what belongs to gRPC or to the connection.

use std::net::IpAddr;

use http::header::{ACCEPT_LANGUAGE, AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderName, HeaderValue};
use kernel::Rejection;
use platform::call::{CONSISTENCY_TOKEN_HEADER, IDEMPOTENCY_KEY_HEADER};

use crate::scalar;

const PREFIX: &str = "grpc-metadata-";
pub(crate) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// What only a proxy says.
pub(crate) const FORWARDED: [HeaderName; 4] =
    [FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO, HeaderName::from_static("forwarded")];

/// Request headers that are metadata under their own names.
const IN: [HeaderName; 6] = [
    AUTHORIZATION,
    ACCEPT_LANGUAGE,
    HeaderName::from_static(IDEMPOTENCY_KEY_HEADER),
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

/// Metadata that are response headers under their own names.
const OUT: [HeaderName; 1] = [HeaderName::from_static(CONSISTENCY_TOKEN_HEADER)];

/// Names that belong to a connection or to the framing of a message, never to its metadata.
const RESERVED: [&str; 15] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Those of them without which a gRPC call is none.
const GRPC_FRAMING: [&str; 2] = ["content-type", "te"];

/// What this door saw of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where the connection comes from.
    pub address: IpAddr,
    /// Whether it is TLS.
    pub tls: bool,
}

/// The metadata that a request carries to its rpc.
pub fn metadata(headers: &HeaderMap, peer: Peer) -> Result<HeaderMap, Rejection> {
    let mut metadata = HeaderMap::new();
    for (name, value) in headers {
        if IN.contains(name) {
            metadata.append(name, value.clone());
        } else if let Some(inner) = name.as_str().strip_prefix(PREFIX) {
            let Some(inner) = passed_on(inner) else { continue };
            if inner.as_str().ends_with("-bin") && !is_base64(value) {
                return Err(Rejection::invalid(
                    name.as_str(),
                    "INVALID_METADATA",
                    "must be base64, as all metadata whose name ends in -bin",
                ));
            }
            metadata.append(inner, value.clone());
        }
    }
    forwarded(headers, peer, &mut metadata);
    Ok(metadata)
}

/// The metadata of a call that is gRPC already: all of it, but for what belongs to the connection.
pub(crate) fn passed_through(headers: &HeaderMap, peer: Peer) -> HeaderMap {
    let kept = |name: &HeaderName| {
        GRPC_FRAMING.contains(&name.as_str()) || !RESERVED.contains(&name.as_str())
    };
    let mut metadata = HeaderMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| kept(name)) {
        metadata.append(name, value.clone());
    }
    forwarded(headers, peer, &mut metadata);
    metadata
}

/// The name under which client-made metadata travels on. What has a header of its own may come only
/// by that one: the door looks at it there, and nobody shall slip another one past it.
fn passed_on(name: &str) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    let text = name.as_str();
    let taken = IN.contains(&name)
        || RESERVED.contains(&text)
        || text.starts_with("grpc-")
        || text.starts_with("x-forwarded-");
    (!taken).then_some(name)
}

fn is_base64(value: &HeaderValue) -> bool {
    value.to_str().is_ok_and(|text| scalar::base64(text).is_some())
}

/// Says who the client is, behind what proxies before us have said.
fn forwarded(headers: &HeaderMap, peer: Peer, metadata: &mut HeaderMap) {
    let mut hops: Vec<String> = headers
        .get_all(FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .map(str::to_owned)
        .collect();
    hops.push(peer.address.to_string());
    if let Ok(hops) = HeaderValue::from_str(&hops.join(", ")) {
        metadata.insert(FORWARDED_FOR, hops);
    }
    if let Some(host) = headers.get(FORWARDED_HOST).or_else(|| headers.get(HOST)) {
        metadata.insert(FORWARDED_HOST, host.clone());
    }
    let proto = HeaderValue::from_static(if peer.tls { "https" } else { "http" });
    let proto = headers.get(FORWARDED_PROTO).cloned().unwrap_or(proto);
    metadata.insert(FORWARDED_PROTO, proto);
}

/// The headers that the metadata of an answer becomes.
pub fn headers(metadata: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in metadata {
        let text = name.as_str();
        if OUT.contains(name) {
            headers.append(name, value.clone());
        } else if !RESERVED.contains(&text)
            && !text.starts_with("grpc-")
            && let Ok(name) = HeaderName::try_from(format!("{PREFIX}{text}"))
        {
            headers.append(name, value.clone());
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: Peer = Peer { address: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), tls: false };

    fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: HeaderName = name.parse().expect("a name");
            map.append(name, HeaderValue::from_static(value));
        }
        map
    }

    fn pairs(map: &HeaderMap) -> Vec<(&str, &str)> {
        let pair = |(name, value)| -> (&str, &str) {
            let (name, value): (&HeaderName, &HeaderValue) = (name, value);
            (name.as_str(), value.to_str().expect("text"))
        };
        let mut pairs: Vec<_> = map.iter().map(pair).collect();
        pairs.sort_unstable();
        pairs
    }

    /// What becomes of one header.
    fn one(name: &'static str, value: &'static str) -> Vec<(String, String)> {
        let mut metadata = metadata(&map(&[(name, value)]), PEER).expect("good headers");
        for name in [FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO] {
            metadata.remove(name);
        }
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        pairs(&metadata).into_iter().map(owned).collect()
    }

    #[test]
    fn headers_with_a_meaning_keep_their_names() {
        for (name, value) in [
            ("Authorization", "Bearer x"),
            ("Accept-Language", "ko"),
            ("Idempotency-Key", "\"1\""),
            ("Grpc-Timeout", "100m"),
            ("traceparent", "00-1-2-01"),
            ("tracestate", "a=b"),
        ] {
            assert_eq!(one(name, value), [(name.to_lowercase(), value.to_owned())]);
        }
    }

    #[test]
    fn other_headers_need_the_prefix() {
        let passed = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        assert_eq!(one("Grpc-Metadata-Colour", "red"), passed("colour", "red"));
        assert_eq!(one("Grpc-Metadata-Key-Bin", "AAE"), passed("key-bin", "AAE"));
        for name in ["Colour", "Cookie", "User-Agent", "Accept", "Content-Type", "Connection"] {
            assert_eq!(one(name, "red"), [], "{name}");
        }
    }

    #[test]
    fn the_prefix_slips_nothing_past_the_door() {
        for name in [
            "Grpc-Metadata-Authorization",
            "Grpc-Metadata-Grpc-Timeout",
            "Grpc-Metadata-Grpc-Status",
            "Grpc-Metadata-X-Forwarded-For",
            "Grpc-Metadata-Traceparent",
            "Grpc-Metadata-Host",
            "Grpc-Metadata-Te",
            "Grpc-Metadata-Content-Type",
            "Grpc-Metadata-Connection",
            "Grpc-Metadata-",
        ] {
            assert_eq!(one(name, "x"), [], "{name}");
        }
    }

    #[test]
    fn binary_metadata_is_base64() {
        let headers = map(&[("Grpc-Metadata-Key-Bin", "!")]);
        let rejection = metadata(&headers, PEER).expect_err("no base64");
        assert_eq!(rejection.reason, "INVALID_METADATA");
        assert_eq!(rejection.field.as_deref(), Some("grpc-metadata-key-bin"));
    }

    #[test]
    fn the_client_is_added_behind_the_proxies() {
        let seen = metadata(&map(&[("Host", "taxi.example")]), PEER).expect("good headers");
        assert_eq!(
            pairs(&seen),
            [
                ("x-forwarded-for", "127.0.0.1"),
                ("x-forwarded-host", "taxi.example"),
                ("x-forwarded-proto", "http")
            ]
        );
        let headers = map(&[
            ("Host", "inner"),
            ("X-Forwarded-For", "10.0.0.1, 10.0.0.2"),
            ("X-Forwarded-For", "10.0.0.3"),
            ("X-Forwarded-Host", "outer"),
            ("X-Forwarded-Proto", "https"),
        ]);
        assert_eq!(
            pairs(&metadata(&headers, PEER).expect("good headers")),
            [
                ("x-forwarded-for", "10.0.0.1, 10.0.0.2, 10.0.0.3, 127.0.0.1"),
                ("x-forwarded-host", "outer"),
                ("x-forwarded-proto", "https")
            ]
        );
    }

    #[test]
    fn answers_show_their_metadata_and_nothing_of_grpc() {
        let metadata = map(&[
            ("x-taxi-consistency-token", "t"),
            ("colour", "red"),
            ("set-cookie", "a=b"),
            ("grpc-status", "0"),
            ("grpc-encoding", "gzip"),
            ("content-type", "application/grpc"),
            ("date", "today"),
            ("trailer", "x"),
            ("transfer-encoding", "chunked"),
        ]);
        assert_eq!(
            pairs(&headers(&metadata)),
            [
                ("grpc-metadata-colour", "red"),
                ("grpc-metadata-set-cookie", "a=b"),
                ("x-taxi-consistency-token", "t")
            ]
        );
    }
}
