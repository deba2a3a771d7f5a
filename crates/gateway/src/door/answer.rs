//! Answers in the client's own protocol.

use axum::body::Body;
use axum::response::Response;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use prost_reflect::DescriptorPool;
use tonic::Status;

use crate::errors::{self, ErrorResponse};

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// HTTP and JSON.
    Rest,
    /// gRPC, or gRPC-Web that has become it.
    Grpc,
}

impl Kind {
    /// What a request is, by its `Content-Type`.
    pub(super) fn of(headers: &HeaderMap) -> Kind {
        let kind = headers.get(CONTENT_TYPE).map_or(&[][..], |kind| kind.as_bytes());
        match kind.strip_prefix(b"application/grpc") {
            Some([] | [b'+' | b';' | b'-', ..]) => Kind::Grpc,
            _ => Kind::Rest,
        }
    }

    /// An error.
    pub(super) fn error(self, status: &Status, pool: &DescriptorPool) -> Response {
        match self {
            Kind::Rest => written(errors::error(status, pool)),
            Kind::Grpc => status.clone().into_http(),
        }
    }
}

/// An error over HTTP.
pub(super) fn written(error: ErrorResponse) -> Response {
    let mut response = Response::new(Body::from(error.body));
    *response.status_mut() = error.status;
    *response.headers_mut() = error.headers;
    // For who measures: HTTP has fewer words.
    response.extensions_mut().insert(error.code);
    response
}
