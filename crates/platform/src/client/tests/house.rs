//! A real server that does as it is told, and dies at once when it is dropped.

use std::convert::Infallible;
use std::future::ready;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt as _};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyStream, StreamBody};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request as Call, Status};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

use super::tokens;
use crate::client::{CallPolicy, Unary, balanced, unary};

pub(super) type Codec = ProstCodec<String, String>;

/// It says goodbye again and again, as servers do that are deployed.
const CONNECTION_AGE: Duration = Duration::from_millis(20);

/// What a server does with a call.
#[derive(Clone)]
pub(super) enum Answer {
    Served,
    Refused(Status),
    /// Not a word.
    Nothing,
    /// Everything but the trailers.
    NoEnd,
}

/// From the number of the call, from 0, to what becomes of it.
type Script = Arc<dyn Fn(usize) -> Answer + Send + Sync>;

/// A server, on a runtime of its own: it can die at once, with its connections.
#[derive(Clone)]
struct Kitchen {
    script: Script,
    seen: Arc<Mutex<Vec<http::HeaderMap>>>,
    count: Arc<AtomicUsize>,
}

impl NamedService for Kitchen {
    const NAME: &'static str = "test.v1.Kitchen";
}

impl Service<Request<Body>> for Kitchen {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.seen.lock().expect("no panic").push(request.headers().clone());
        let answer = (self.script)(self.count.fetch_add(1, Ordering::SeqCst));
        Box::pin(async move {
            let served = |answer: Result<String, Status>| async {
                let serve = service_fn(move |_: Call<String>| {
                    ready(answer.clone().map(tonic::Response::new))
                });
                Grpc::new(Codec::default()).unary(serve, request).await
            };
            Ok(match answer {
                Answer::Served => served(Ok("served".to_owned())).await,
                Answer::Refused(status) => served(Err(status)).await,
                Answer::Nothing => std::future::pending().await,
                Answer::NoEnd => served(Ok("served".to_owned())).await.map(without_end),
            })
        })
    }
}

/// Data, and then nothing more.
fn without_end(body: Body) -> Body {
    let is_data = |frame: &Result<Frame<Bytes>, Status>| frame.as_ref().is_ok_and(Frame::is_data);
    let data = BodyStream::new(body).filter(move |frame| ready(is_data(frame)));
    Body::new(StreamBody::new(data.chain(stream::pending())))
}

pub(super) struct House {
    pub(super) address: SocketAddr,
    kitchen: Kitchen,
    runtime: Option<Runtime>,
}

impl House {
    pub(super) fn open(script: impl Fn(usize) -> Answer + Send + Sync + 'static) -> House {
        House::at("127.0.0.1", script)
    }

    pub(super) fn at(
        host: &str,
        script: impl Fn(usize) -> Answer + Send + Sync + 'static,
    ) -> House {
        House::until(CONNECTION_AGE, host, script)
    }

    /// Connections get this old.
    pub(super) fn until(
        age: Duration,
        host: &str,
        script: impl Fn(usize) -> Answer + Send + Sync + 'static,
    ) -> House {
        let listener = std::net::TcpListener::bind((host, 0)).expect("a port");
        listener.set_nonblocking(true).expect("not blocking");
        let address = listener.local_addr().expect("an address");
        let kitchen =
            Kitchen { script: Arc::new(script), seen: Arc::default(), count: Arc::default() };
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime");
        let service = kitchen.clone();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            Server::builder()
                .max_connection_age(age)
                .add_service(service)
                .serve_with_incoming(TcpIncoming::from(listener))
                .await
        });
        House { address, kitchen, runtime: Some(runtime) }
    }

    /// How often it was called.
    pub(super) fn count(&self) -> usize {
        self.kitchen.count.load(Ordering::SeqCst)
    }

    pub(super) fn seen(&self, call: usize, header: &str) -> Option<String> {
        let seen = self.kitchen.seen.lock().expect("no panic");
        Some(seen[call].get(header)?.to_str().expect("text").to_owned())
    }

    pub(super) async fn stack(&self, policy: CallPolicy) -> Unary {
        unary(
            "cook",
            balanced(&self.address.to_string()).expect("an address"),
            tokens().await,
            policy,
        )
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.runtime.take().expect("until now").shutdown_background();
    }
}
