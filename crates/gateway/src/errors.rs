//! Errors as HTTP: `google.rpc.Status` in JSON, under the HTTP status of the one table in
//! [`platform::status`].
//!
//! Details are proto3 JSON with their `@type`. `RetryInfo` is also the header `Retry-After`, in whole
//! seconds and never too early; who must say who they are is told how by `WWW-Authenticate`, and who
//! came by the wrong method by `Allow`.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use platform::status::{DOMAIN, http_status_of, retry_after, status};
use prost::Message as _;
use prost_reflect::DescriptorPool;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _, pb};

use crate::json::AnyJson;
use crate::routes::Refusal;

/// The descriptors of `google.rpc`, which describe the details of errors.
static RPC: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(pb::FILE_DESCRIPTOR_SET).unwrap_or_default());

/// An error as it goes to an HTTP client.
#[derive(Debug)]
pub struct ErrorResponse {
    /// What gRPC calls it.
    pub code: Code,
    /// The status.
    pub status: StatusCode,
    /// The headers, `Content-Type` among them.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

/// The response for a request that reaches no rpc.
pub fn refused(refusal: Refusal, pool: &DescriptorPool) -> ErrorResponse {
    match refusal {
        Refusal::Rejected(rejection) => error(&status(rejection), pool),
        Refusal::WrongMethod { allow } => wrong_method(&allow, pool),
    }
}

/// The response for an rpc that failed. Details are read by `google.rpc` and by `pool`.
pub fn error(status: &Status, pool: &DescriptorPool) -> ErrorResponse {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(delay) = retry_after(status) {
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, seconds.into());
    }
    if status.code() == Code::Unauthenticated {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    ErrorResponse {
        code: status.code(),
        status: StatusCode::from_u16(http_status_of(status.code()))
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        headers,
        body: status_json(status, pool).to_string().into_bytes(),
    }
}

fn wrong_method(allow: &[Method], pool: &DescriptorPool) -> ErrorResponse {
    let allow: Vec<&str> = allow.iter().map(Method::as_str).collect();
    let allow = allow.join(", ");
    let message = format!("this path takes {allow}");
    let mut response = error(&detailed(Code::Unimplemented, "METHOD_NOT_ALLOWED", message), pool);
    // gRPC has no code for it, HTTP has.
    response.status = StatusCode::METHOD_NOT_ALLOWED;
    if let Ok(allow) = HeaderValue::from_str(&allow) {
        response.headers.insert(ALLOW, allow);
    }
    response
}

/// An error that no kind of rejection is.
pub(crate) fn detailed(code: Code, reason: &str, message: String) -> Status {
    Status::with_error_details(code, message, ErrorDetails::with_error_info(reason, DOMAIN, []))
}

/// `google.rpc.Status` as JSON.
pub(crate) fn status_json(status: &Status, pool: &DescriptorPool) -> Value {
    let details = pb::Status::decode(status.details()).unwrap_or_default().details;
    let details: Vec<Value> = details.iter().map(|any| detail(any, pool)).collect();
    json!({ "code": status.code() as i32, "message": status.message(), "details": details })
}

/// A detail. One of an unknown type keeps its bytes, so that the rest of the error is not lost.
fn detail(any: &prost_types::Any, pool: &DescriptorPool) -> Value {
    let known = AnyJson::of(&RPC, &any.type_url, &any.value)
        .or_else(|_| AnyJson::of(pool, &any.type_url, &any.value))
        .ok()
        .and_then(|any| serde_json::to_value(any).ok());
    known.unwrap_or_else(
        || json!({ "@type": any.type_url, "value": BASE64_STANDARD.encode(&any.value) }),
    )
}
