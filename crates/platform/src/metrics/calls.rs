//! Rpcs: how many, how they end, how long they take; on the side that answers and on the side that
//! asks.
//!
//! A call is measured when its answer has come to its end, so that a stream counts when it ends. One
//! that nobody waits for any more is `CANCELLED`.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::{LazyLock, PoisonError, RwLock};
use std::task::{Context, Poll, ready};

use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::{Counter, Histogram, One, UpDown};
use crate::status::upper_snake;

static SERVED: Histogram =
    Histogram::new("rpc.server.call.duration", "Duration of calls, until the end of the answer");
static ASKED: Histogram =
    Histogram::new("rpc.client.call.duration", "Duration of calls to neighbours, retries included");
static ACTIVE: UpDown =
    UpDown::new("taxi.server.calls.active", "{call}", "Calls that are being answered");
static REFUSED: Counter =
    Counter::new("taxi.server.refused", "{call}", "Calls refused because of a limit");

/// The method of a call of something that there is not: strangers must not make up labels.
pub const OTHER: &str = "_OTHER";

/// A server begins: its series start at zero.
pub(crate) fn server_starts() {
    REFUSED.add(0, [("limit", "concurrency")]);
}

/// There was no room for a call.
pub(crate) fn no_room() {
    REFUSED.add(1, [("limit", "concurrency")]);
}

/// The methods of a server, by the paths they are called at.
#[derive(Debug, Default)]
pub struct Methods(HashMap<String, &'static str>);

impl Methods {
    /// Those of these services, as far as the descriptors know them.
    pub(crate) fn of<'a>(
        services: &[&str],
        descriptors: impl IntoIterator<Item = &'a [u8]>,
    ) -> Methods {
        let files =
            descriptors.into_iter().filter_map(|bytes| FileDescriptorSet::decode(bytes).ok());
        let mut names = Vec::new();
        for file in files.flat_map(|set| set.file) {
            for service in &file.service {
                let of = format!("{}.{}", file.package(), service.name());
                if services.contains(&of.as_str()) {
                    names.extend(service.method.iter().map(|it| format!("{of}/{}", it.name())));
                }
            }
        }
        Methods::named(names)
    }

    /// Those of these names, `package.Service/Method`.
    pub fn named(names: impl IntoIterator<Item = String>) -> Methods {
        Methods(names.into_iter().map(|name| (format!("/{name}"), kept(&name))).collect())
    }

    /// What is called at this path.
    pub fn at(&self, path: &str) -> &'static str {
        self.0.get(path).copied().unwrap_or(OTHER)
    }
}

static NAMES: LazyLock<RwLock<HashSet<&'static str>>> = LazyLock::new(RwLock::default);

/// A name for the life of the process; only for those of which there are few.
pub fn kept(name: &str) -> &'static str {
    let known = |names: &HashSet<&'static str>| names.get(name).copied();
    if let Some(name) = known(&NAMES.read().unwrap_or_else(PoisonError::into_inner)) {
        return name;
    }
    let mut names = NAMES.write().unwrap_or_else(PoisonError::into_inner);
    known(&names).unwrap_or_else(|| {
        let name: &'static str = name.to_owned().leak();
        names.insert(name);
        name
    })
}

/// A call under way, which is measured when this is dropped.
#[derive(Debug)]
pub struct Call {
    side: &'static Histogram,
    method: &'static str,
    start: Instant,
    code: Code,
    _active: Option<One<1>>,
}

impl Call {
    /// We answer it.
    pub(crate) fn served(method: &'static str) -> Call {
        let active = Some(ACTIVE.one([("rpc.method", method)]));
        Call {
            side: &SERVED,
            method,
            start: Instant::now(),
            code: Code::Cancelled,
            _active: active,
        }
    }

    /// We ask, for a method at this path, which is one of a few.
    pub fn asked(path: &str) -> Call {
        let method = kept(path.trim_start_matches('/'));
        Call { side: &ASKED, method, start: Instant::now(), code: Code::Cancelled, _active: None }
    }

    /// What it is a call of.
    pub(crate) fn method(&self) -> &'static str {
        self.method
    }

    /// Goes on until the end of the answer.
    pub fn follow<B: http_body::Body>(self, response: Response<B>) -> Response<Followed<B, Call>> {
        Followed::grpc(response, self)
    }
}

impl Watcher for Call {
    fn ended(mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let code = if std::thread::panicking() { Code::Internal } else { self.code };
        let labels = [
            ("rpc.system.name", "grpc"),
            ("rpc.method", self.method),
            ("rpc.response.status_code", upper_snake(code)),
        ];
        self.side.record(self.start.elapsed(), labels);
    }
}

/// Somebody who wants to know how an answer ends. That it does not is told by a drop.
pub trait Watcher {
    /// It has ended with this code.
    fn ended(self, code: Code);
}

/// The body of an answer, with somebody who wants to know how it ends.
#[derive(Debug)]
pub struct Followed<B: http_body::Body, W: Watcher> {
    body: B,
    watcher: Option<W>,
    /// What an end without trailers means.
    silent: Code,
}

impl<B: http_body::Body, W: Watcher> Followed<B, W> {
    /// Tells of an answer over gRPC: its end is in the trailers, or there is nothing but the headers.
    pub fn grpc(response: Response<B>, watcher: W) -> Response<Followed<B, W>> {
        let mut watcher = Some(watcher);
        if let Some(code) = code_in(response.headers()) {
            end(&mut watcher, code);
        }
        // Whoever breaks off without a word is gone.
        response.map(|body| Followed { body, watcher, silent: Code::Unavailable })
    }

    /// Tells of an answer over plain HTTP: that it comes to its end.
    pub fn plain(response: Response<B>, watcher: W, code: Code) -> Response<Followed<B, W>> {
        response.map(|body| Followed { body, watcher: Some(watcher), silent: code })
    }
}

fn end(watcher: &mut Option<impl Watcher>, code: Code) {
    if let Some(watcher) = watcher.take() {
        watcher.ended(code);
    }
}

/// A body that breaks off may say why.
fn code_of(error: &(impl Any + Sized)) -> Code {
    let status = (error as &dyn Any).downcast_ref::<Status>();
    status.map_or(Code::Unavailable, Status::code)
}

fn code_in(headers: &HeaderMap) -> Option<Code> {
    Some(Code::from_bytes(headers.get(Status::GRPC_STATUS)?.as_bytes()))
}

impl<B, W> http_body::Body for Followed<B, W>
where
    B: http_body::Body + Unpin,
    B::Error: 'static,
    W: Watcher + Unpin,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let code = match &frame {
            Some(Ok(frame)) => frame.trailers_ref().and_then(code_in),
            Some(Err(error)) => Some(code_of(error)),
            None => Some(self.silent),
        };
        if let Some(code) = code {
            end(&mut self.watcher, code);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Servers do not ask for more of a body that has come to its end.
impl<B: http_body::Body, W: Watcher> Drop for Followed<B, W> {
    fn drop(&mut self) {
        if self.body.is_end_stream() {
            end(&mut self.watcher, self.silent);
        }
    }
}
