//! The services behind the door, as replicas that can be killed.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::{Stream, StreamExt as _, stream};
use kernel::Rejection;
use platform::status::status;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::body::Body;
use tonic::metadata::KeyAndValueRef;
use tonic::server::{Grpc, NamedService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CookRequest {
    #[prost(string, tag = "1")]
    pub(crate) table: String,
    #[prost(string, tag = "2")]
    pub(crate) dish: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GetRequest {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WatchDishesRequest {
    #[prost(string, tag = "1")]
    pub(crate) resume_token: String,
    #[prost(int32, tag = "2")]
    pub(crate) count: i32,
    #[prost(int32, tag = "3")]
    pub(crate) size: i32,
    #[prost(bool, tag = "4")]
    pub(crate) fail: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Dish {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) cook: String,
    #[prost(string, tag = "3")]
    pub(crate) resume_token: String,
    #[prost(map = "string, string", tag = "4")]
    pub(crate) heard: HashMap<String, String>,
    #[prost(string, tag = "5")]
    pub(crate) filling: String,
}

/// What the services have seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Calls that have reached a service.
    pub(crate) calls: AtomicUsize,
    /// Who has got the last one.
    pub(crate) last: Mutex<&'static str>,
    /// Elements that a stream has given.
    pub(crate) sent: AtomicUsize,
    /// Calls and streams that nobody waits for any more.
    pub(crate) dropped: AtomicUsize,
}

impl Seen {
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    pub(crate) fn dropped(&self) -> usize {
        self.dropped.load(Ordering::SeqCst)
    }
}

/// Counts when it is dropped.
struct Noticed(Arc<Seen>);

impl Drop for Noticed {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

/// A process with both services. It runs on threads of its own, so that it can be killed.
pub(crate) struct Replica {
    pub(crate) address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Replica {
    pub(crate) async fn start(cook: &'static str, seen: &Arc<Seen>) -> Replica {
        Replica::with(cook, seen, Server::builder()).await
    }

    /// One that speaks TLS.
    pub(crate) async fn secured(seen: &Arc<Seen>, tls: ServerTlsConfig) -> Replica {
        let server = Server::builder().tls_config(tls).expect("good certificates");
        Replica::with("anna", seen, server).await
    }

    async fn with(cook: &'static str, seen: &Arc<Seen>, mut server: Server) -> Replica {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a listener");
        let address = listener.local_addr().expect("an address");
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(1).enable_all().build().expect("threads");
        let service = Pantry { cook, seen: seen.clone() };
        runtime.spawn(async move {
            let (health, doctor) = tonic_health::server::health_reporter();
            for name in [Kitchen::NAME, Cellar::NAME] {
                health.set_service_status(name, tonic_health::ServingStatus::Serving).await;
            }
            let listener = TcpListener::from_std(listener).expect("a listener");
            let server = server
                .add_service(doctor)
                .add_service(Kitchen(service.clone()))
                .add_service(Cellar(service));
            server.serve_with_incoming(TcpIncoming::from(listener)).await.expect("a server");
        });
        Replica { address, runtime: Some(runtime) }
    }

    /// Ends everything at once; connections break off.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.kill();
    }
}

#[derive(Clone)]
struct Kitchen(Pantry);

impl NamedService for Kitchen {
    const NAME: &'static str = "door.v1.Kitchen";
}

#[derive(Clone)]
struct Cellar(Pantry);

impl NamedService for Cellar {
    const NAME: &'static str = "door.v1.Cellar";
}

/// What both services do.
#[derive(Clone)]
struct Pantry {
    cook: &'static str,
    seen: Arc<Seen>,
}

type Answer = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

macro_rules! answers {
    ($service:ident) => {
        impl Service<http::Request<Body>> for $service {
            type Response = http::Response<Body>;
            type Error = Infallible;
            type Future = Answer;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: http::Request<Body>) -> Answer {
                let pantry = self.0.clone();
                Box::pin(async move { Ok(pantry.answer(request).await) })
            }
        }
    };
}

answers!(Kitchen);
answers!(Cellar);

impl Pantry {
    async fn answer(self, request: http::Request<Body>) -> http::Response<Body> {
        *self.seen.last.lock().expect("no panic") = self.cook;
        self.seen.calls.fetch_add(1, Ordering::SeqCst);
        let path = request.uri().path().to_owned();
        match path.rsplit('/').next().unwrap_or_default() {
            "Cook" => {
                let cook = service_fn(move |request| self.clone().cook(request));
                Grpc::new(ProstCodec::<Dish, CookRequest>::default()).unary(cook, request).await
            }
            "GetDish" | "GetWine" | "Burn" => {
                let get = service_fn(move |request| self.clone().get(request));
                Grpc::new(ProstCodec::<Dish, GetRequest>::default()).unary(get, request).await
            }
            "WatchDishes" => {
                let watch = service_fn(move |request| self.clone().watch(request));
                let codec = ProstCodec::<Dish, WatchDishesRequest>::default();
                Grpc::new(codec).server_streaming(watch, request).await
            }
            "Chat" => {
                let chat = service_fn(move |request| self.clone().chat(request));
                Grpc::new(ProstCodec::<Dish, Dish>::default()).streaming(chat, request).await
            }
            _ => Status::unimplemented("no such method").into_http(),
        }
    }

    fn dish<T>(&self, name: &str, request: &Request<T>) -> Dish {
        let text = |pair: KeyAndValueRef<'_>| match pair {
            KeyAndValueRef::Ascii(name, value) => {
                Some((name.to_string(), value.to_str().ok()?.to_owned()))
            }
            KeyAndValueRef::Binary(..) => None,
        };
        let heard = request.metadata().iter().filter_map(text).collect();
        Dish { name: name.to_owned(), cook: self.cook.to_owned(), heard, ..Dish::default() }
    }

    async fn cook(self, request: Request<CookRequest>) -> Result<Response<Dish>, Status> {
        let CookRequest { table, dish } = request.get_ref();
        if dish == "fateful" && self.seen.calls() == 1 {
            std::future::pending::<()>().await;
        }
        let mut response = Response::new(self.dish(&format!("{table}/{dish}"), &request));
        response.metadata_mut().insert("x-taxi-consistency-token", "t1".parse().expect("ascii"));
        response.metadata_mut().insert("colour", "red".parse().expect("ascii"));
        Ok(response)
    }

    async fn get(self, request: Request<GetRequest>) -> Result<Response<Dish>, Status> {
        let name = request.get_ref().name.clone();
        match name.as_str() {
            "dishes/missing" => {
                let mut missing = status(Rejection::not_found("DISH_NOT_FOUND", "dish"));
                missing.metadata_mut().insert("colour", "blue".parse().expect("ascii"));
                Err(missing)
            }
            "dishes/slow" => {
                let _noticed = Noticed(self.seen);
                std::future::pending().await
            }
            // Whoever is asked first never gets to answer.
            "dishes/fateful" if self.seen.calls() == 1 => std::future::pending().await,
            name => Ok(Response::new(self.dish(name, &request))),
        }
    }

    async fn watch(self, request: Request<WatchDishesRequest>) -> Result<Response<Dishes>, Status> {
        let WatchDishesRequest { resume_token, count, size, fail } = request.get_ref().clone();
        let first = resume_token.parse::<usize>().map_or(1, |last| last + 1);
        let last = if count == 0 { usize::MAX } else { count as usize };
        let (noticed, template) =
            (Noticed(self.seen.clone()), self.dish("dishes/watched", &request));
        let dishes = stream::iter(first..=last).map(move |number| {
            self.seen.sent.fetch_add(1, Ordering::SeqCst);
            let filling = "x".repeat(size as usize);
            Ok(Dish { resume_token: number.to_string(), filling, ..template.clone() })
        });
        let closed = status(Rejection::precondition("KITCHEN_CLOSED", "closed"));
        let end = if fail { Some(Err(closed)) } else { None };
        let dishes: Dishes = match count {
            // The first one at once, then nothing for as long as somebody waits.
            0 => Box::pin(dishes.take(1).chain(stream::pending())),
            _ => Box::pin(dishes.chain(stream::iter(end))),
        };
        Ok(Response::new(Box::pin(dishes.inspect(move |_| {
            let _kept = &noticed;
        }))))
    }

    async fn chat(self, request: Request<Streaming<Dish>>) -> Result<Response<Dishes>, Status> {
        let cook = self.cook.to_owned();
        let noticed = Noticed(self.seen);
        let echo = request.into_inner().map(move |dish| {
            let _kept = &noticed;
            dish.map(|dish| Dish { cook: cook.clone(), ..dish })
        });
        Ok(Response::new(Box::pin(echo)))
    }
}

type Dishes = Pin<Box<dyn Stream<Item = Result<Dish, Status>> + Send>>;
