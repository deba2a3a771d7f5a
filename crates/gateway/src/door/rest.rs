//! REST: a request becomes a call, and its answer JSON. In the order of the code: is there such a
//! method, who asks, what do they say, the call.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::LengthLimitError;
use kernel::Rejection;
use platform::server::MAX_MESSAGE_BYTES;
use platform::status::status;
use prost::Message as _;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::{Code, Status, Streaming};

use super::Door;
use super::answer::written;
use super::client::Client;
use super::grpc::no_method;
use super::measure::Seen;
use super::time::Time;
use crate::errors::{self, ErrorResponse, detailed};
use crate::headers;
use crate::routes::Route;
use crate::stream::Format;
use crate::transcode;
use crate::upstream::{Terms, Upstream, broke};

/// After so much silence a stream of events says that it is still there.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// What goes to the service.
struct Call<'a> {
    route: &'a Route,
    upstream: &'a Upstream,
    message: Bytes,
    metadata: HeaderMap,
    terms: Terms,
}

/// Answers a request.
pub(super) async fn call(door: &Door, request: Request) -> Response {
    let head = request.method() == Method::HEAD;
    let response = answer(door, request).await.unwrap_or_else(written);
    if head { without_body(response) } else { response }
}

async fn answer(door: &Door, request: Request) -> Result<Response, ErrorResponse> {
    let pool = door.routes.pool();
    let reject = |rejection: Rejection| errors::error(&status(rejection), pool);
    let (client, seen) = (Client::of(&request), Seen::of(&request));
    let (parts, body) = request.into_parts();
    let found = door.routes.find(&parts.method, parts.uri.path());
    let found = found.map_err(|refusal| errors::refused(refusal, pool))?;
    let route = found.route;
    let method = door.methods.get(&route.grpc_path);
    let method = method.ok_or_else(|| errors::error(&no_method(&route.grpc_path), pool))?;
    seen.method(method.name);
    seen.routed(&route.template);

    let principal = door.admit(&parts.headers).await.map_err(reject)?;
    let time = Time::of(&parts.headers, door.config.timeout, door.most).map_err(reject)?;
    let body_by = time.answer_by.min(Instant::now() + door.config.body_timeout);
    let body = timeout_at(body_by, read(body)).await;
    let body = body.unwrap_or(Err(Unread::Late)).map_err(|unread| unread.error(pool))?;
    let message = transcode::message(&found, parts.uri.query(), &parts.headers, &body);
    let message = Bytes::from(message.map_err(reject)?.encode_to_vec());
    let metadata = headers::metadata(&parts.headers, client.peer).map_err(reject)?;

    let terms = match method.streaming {
        true => {
            let slot = door.limits.stream(&principal).map_err(reject)?;
            time.of_stream(door.draining.clone(), slot)
        }
        false => time.of_message(),
    };
    let call = Call { route, upstream: &method.upstream, message, metadata, terms };
    let answered = match method.streaming {
        true => call.stream(door, Format::accepted(accept(&parts.headers)), seen).await,
        false => call.unary(parts.method.is_safe()).await,
    };
    answered.map_err(|status| {
        let mut error = errors::error(&status, pool);
        error.headers.extend(headers::headers(status.metadata().as_ref()));
        error
    })
}

impl Call<'_> {
    /// One message. A read that broke on the way is asked once more: it has had no effect, and there
    /// may be another replica.
    async fn unary(self, safe: bool) -> Result<Response, Status> {
        let Call { route, upstream, message, metadata, terms } = self;
        let ask = || {
            let mut metadata = metadata.clone();
            terms.tell(&mut metadata);
            upstream.unary(&route.grpc_path, message.clone(), metadata, terms.clone())
        };
        let answer = match ask().await {
            Err(status) if safe && broke(&status) => ask().await?,
            answer => answer?,
        };
        let (metadata, message, _) = answer.into_parts();
        let mut response = Response::new(Body::from(transcode::response(route, &message)?));
        *response.headers_mut() = headers::headers(&metadata.into_headers());
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        Ok(response)
    }

    /// A stream, each element as soon as it comes and as fast as the client takes it. When the
    /// client goes away, so does the call.
    async fn stream(self, door: &Door, format: Format, seen: Seen) -> Result<Response, Status> {
        let Call { route, upstream, message, mut metadata, terms } = self;
        terms.tell(&mut metadata);
        let answer = upstream.stream(&route.grpc_path, message, metadata, terms).await?;
        let (metadata, elements, _) = answer.into_parts();
        let frames = Frames { route: route.clone(), format, elements, seen };
        let frames = stream::unfold(Some(frames), {
            let routes = door.routes.clone();
            move |frames| {
                let routes = routes.clone();
                async move { Some(frames?.next(routes.pool()).await) }
            }
        });
        let frames = futures::StreamExt::map(frames, Ok::<_, Infallible>);
        let mut response = Response::new(Body::from_stream(frames));
        let headers = response.headers_mut();
        *headers = headers::headers(&metadata.into_headers());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        Ok(response)
    }
}

/// A stream on its way to the client.
struct Frames {
    route: Route,
    format: Format,
    elements: Streaming<Bytes>,
    seen: Seen,
}

impl Frames {
    /// The next frame, and what comes after it.
    async fn next(mut self, pool: &prost_reflect::DescriptorPool) -> (Bytes, Option<Frames>) {
        let element = match self.format {
            Format::Ndjson => self.elements.message().await,
            Format::Sse => match timeout(HEARTBEAT, self.elements.message()).await {
                Ok(element) => element,
                // A comment: it keeps proxies from closing, and finds out who is gone.
                Err(_) => return (Bytes::from_static(b":\n\n"), Some(self)),
            },
        };
        let frame = match element {
            Ok(Some(element)) => self.format.element(&self.route, &element),
            Ok(None) => return (Bytes::from_static(self.format.end()), None),
            Err(status) => Err(status),
        };
        match frame {
            Ok(frame) => (frame.into(), Some(self)),
            Err(status) => {
                self.seen.failed(status.code());
                (self.format.error(&status, pool).into(), None)
            }
        }
    }
}

/// Why a body has not been read.
enum Unread {
    TooLarge,
    Late,
    Broken,
}

async fn read(body: Body) -> Result<Bytes, Unread> {
    to_bytes(body, MAX_MESSAGE_BYTES).await.map_err(|error| {
        let source = std::error::Error::source(&error);
        match source.is_some_and(|source| source.is::<LengthLimitError>()) {
            true => Unread::TooLarge,
            false => Unread::Broken,
        }
    })
}

impl Unread {
    /// With the HTTP status that says it better than the code does.
    fn error(self, pool: &prost_reflect::DescriptorPool) -> ErrorResponse {
        let of_the_whole = |rejection| status(Rejection { field: None, ..rejection });
        let (http, status) = match self {
            Unread::TooLarge => {
                let message = format!("a body has at most {} KiB", MAX_MESSAGE_BYTES / 1024);
                let large = Rejection::invalid("", "MESSAGE_TOO_LARGE", message);
                (StatusCode::PAYLOAD_TOO_LARGE, of_the_whole(large))
            }
            Unread::Late => {
                let message = "the body of the request did not come in time".to_owned();
                let late = detailed(Code::DeadlineExceeded, "BODY_TIMEOUT", message);
                (StatusCode::REQUEST_TIMEOUT, late)
            }
            Unread::Broken => {
                let message = "the body of the request broke off";
                let broken = Rejection::invalid("", "MALFORMED_MESSAGE", message);
                (StatusCode::BAD_REQUEST, of_the_whole(broken))
            }
        };
        let mut error = errors::error(&status, pool);
        error.status = http;
        error
    }
}

fn accept(headers: &HeaderMap) -> Option<&str> {
    headers.get(ACCEPT).and_then(|accept| accept.to_str().ok())
}

/// The answer to HEAD: as long as that to GET would be, but not there.
fn without_body(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    if let Some(length) = http_body::Body::size_hint(&body).exact() {
        parts.headers.insert(CONTENT_LENGTH, length.into());
    }
    Response::from_parts(parts, Body::empty())
}
