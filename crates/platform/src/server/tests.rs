//! The whole stack, over a real connection, with tokens of a real issuer.

mod beside;

use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt as _};
use kernel::{Actor, Role};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataMap;
use tonic::server::Grpc;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::*;
use crate::auth::{AuthConfig, ServiceTokens};
use crate::call::{Call, Deadline};
use crate::client::{CallPolicy, Unary, channel, unary};
use crate::clock::SystemClock;
use crate::issuer::Issuer;
use crate::status::{reason, retry_after};

const ACCESS: Access = Access(&[
    ("Greet", &[Role::Operator, Role::Service]),
    ("Break", &[Role::Service]),
    ("Leak", &[Role::Service]),
    ("Wait", &[Role::Service]),
    ("Watch", &[Role::Service]),
    ("Forward", &[Role::Service]),
]);

/// A service of texts, made by hand.
#[derive(Clone)]
struct Kitchen {
    /// Told when somebody begins to wait.
    waiting: Arc<Notify>,
    /// Lets somebody who waits go on.
    go_on: Arc<Notify>,
    /// Itself, as a neighbour sees it.
    neighbour: Unary,
}

impl NamedService for Kitchen {
    const NAME: &'static str = "test.v1.Kitchen";
}

impl Kitchen {
    async fn answer(
        self,
        method: &str,
        request: Request<String>,
    ) -> Result<Response<String>, Status> {
        let call = Call::of(&request)?;
        let Actor { role, subject } = call.actor;
        match method {
            "Greet" => {
                Ok(Response::new(format!("{} {subject} {}", role.as_str(), request.get_ref())))
            }
            "Leak" => Err(Status::internal("password=hunter2")),
            "Break" => panic!("on purpose"),
            "Forward" => {
                let response = ask(self.neighbour, "Wait", "").await;
                assert!(Deadline::current().is_some());
                response.map(Response::new)
            }
            _ => {
                self.waiting.notify_one();
                self.go_on.notified().await;
                Ok(Response::new("done".to_owned()))
            }
        }
    }
}

impl Service<http::Request<tonic::body::Body>> for Kitchen {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let kitchen = self.clone();
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let method = path.rsplit('/').next().unwrap_or_default().to_owned();
            let mut grpc =
                Grpc::new(ProstCodec::<String, String>::default()).max_decoding_message_size(1024);
            if method == "Watch" {
                let watch = service_fn(async |_: Request<String>| {
                    let first = stream::iter([Ok::<_, Status>("first".to_owned())]);
                    let all: BoxStream<'static, _> = first.chain(stream::pending()).boxed();
                    Ok::<_, Status>(Response::new(all))
                });
                return Ok(grpc.server_streaming(watch, request).await);
            }
            let answer = service_fn(move |request: Request<String>| {
                let (kitchen, method) = (kitchen.clone(), method.clone());
                async move { kitchen.answer(&method, request).await }
            });
            Ok(grpc.unary(answer, request).await)
        })
    }
}

struct House {
    address: String,
    issuer: Issuer,
    readiness: Readiness,
    shutdown: Shutdown,
    waiting: Arc<Notify>,
    go_on: Arc<Notify>,
    served: JoinHandle<Result<(), ServeError>>,
}

impl House {
    async fn open(config: ServerConfig) -> House {
        let routes = |kitchen| Routes::new("kitchen").service(kitchen, ACCESS);
        House::with(config, routes).await
    }

    /// A house that offers more than its kitchen.
    async fn with(config: ServerConfig, routes: impl FnOnce(Kitchen) -> Routes) -> House {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let issuer =
            Issuer::new(format!("http://{}", listener.local_addr().expect("an address")), "house");
        let router = issuer.clone().router();
        tokio::spawn(async move { axum::serve(listener, router).await });

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (readiness, shutdown) = (Readiness::new(), Shutdown::new());
        let (waiting, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let neighbour = neighbour(&address, &issuer, Duration::from_secs(20));
        let kitchen = Kitchen { waiting: waiting.clone(), go_on: go_on.clone(), neighbour };
        let served = tokio::spawn(serve(
            listener,
            vec![routes(kitchen)],
            Verifier::discover(AuthConfig::new(issuer.url(), "house")),
            readiness.clone(),
            &[],
            config,
            shutdown.clone(),
        ));
        House { address, issuer, readiness, shutdown, waiting, go_on, served }
    }

    fn neighbour(&self, deadline: Duration) -> Unary {
        neighbour(&self.address, &self.issuer, deadline)
    }

    /// Asks as anybody would, with these headers.
    async fn ask(&self, method: &str, headers: &[(&'static str, &str)]) -> Result<String, Status> {
        let mut request = Request::new("tea".to_owned());
        for (name, value) in headers {
            request.metadata_mut().insert(*name, value.parse().expect("a header value"));
        }
        ask_with(channel(&self.address), method, request).await
    }

    fn bearer(&self, role: Role) -> String {
        format!("Bearer {}", self.issuer.sign("K1", role))
    }
}

fn neighbour(address: &str, issuer: &Issuer, deadline: Duration) -> Unary {
    let tokens = ServiceTokens::new(issuer.url(), "kitchen", "dev");
    unary("cook", channel(address), tokens, CallPolicy::once(deadline))
}

fn path(method: &str) -> PathAndQuery {
    format!("/test.v1.Kitchen/{method}").parse().expect("a path")
}

async fn ask(stack: Unary, method: &str, text: &str) -> Result<String, Status> {
    ask_with(stack, method, Request::new(text.to_owned())).await
}

async fn ask_with<S>(stack: S, method: &str, request: Request<String>) -> Result<String, Status>
where
    S: tonic::client::GrpcService<tonic::body::Body>,
    S::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<tonic::codegen::StdError>,
{
    let mut grpc = tonic::client::Grpc::new(stack);
    grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let codec = ProstCodec::<String, String>::default();
    Ok(grpc.unary(request, path(method), codec).await?.into_inner())
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>) -> (Code, String) {
    let status = outcome.expect_err("a refusal");
    (status.code(), reason(&status).expect("every error has a reason"))
}

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_neighbour_is_answered_and_known() {
    let house = House::open(ServerConfig::default()).await;
    let answer = ask(house.neighbour(PATIENCE), "Greet", "tea").await;
    assert_eq!(answer.expect("an answer"), "service kitchen tea");
}

#[tokio::test]
async fn only_those_in_the_table_get_in() {
    let house = House::open(ServerConfig::default()).await;
    let operator = house.bearer(Role::Operator);
    let ask =
        async |method, headers: &[(&'static str, &str)]| refused(house.ask(method, headers).await);
    assert_eq!(ask("Greet", &[]).await, (Code::Unauthenticated, "TOKEN_MISSING".to_owned()));
    let wrong = [("authorization", "Bearer nonsense")];
    assert_eq!(ask("Greet", &wrong).await, (Code::Unauthenticated, "TOKEN_INVALID".to_owned()));
    let operator = [("authorization", operator.as_str())];
    assert_eq!(house.ask("Greet", &operator).await.expect("in the table"), "operator K1 tea");
    assert_eq!(
        ask("Wait", &operator).await,
        (Code::PermissionDenied, "ROLE_NOT_ALLOWED".to_owned())
    );
    // The service would answer, but nobody said who may ask.
    assert_eq!(ask("Hidden", &operator).await, (Code::Unimplemented, "UNKNOWN_METHOD".to_owned()));
}

#[tokio::test]
async fn a_defect_is_an_internal_error_and_costs_one_request() {
    let house = House::open(ServerConfig::default()).await;
    for method in ["Break", "Leak"] {
        let status = ask(house.neighbour(PATIENCE), method, "").await.expect_err("a defect");
        assert_eq!((status.code(), status.message()), (Code::Internal, "internal error"));
        assert_eq!(reason(&status).as_deref(), Some("INTERNAL"));
    }
    assert!(ask(house.neighbour(PATIENCE), "Greet", "tea").await.is_ok());
}

#[tokio::test]
async fn a_message_that_is_too_large_is_said_to_be() {
    let house = House::open(ServerConfig::default()).await;
    let outcome = ask(house.neighbour(PATIENCE), "Greet", &"x".repeat(2048)).await;
    assert_eq!(refused(outcome), (Code::InvalidArgument, "MESSAGE_TOO_LARGE".to_owned()));
}

#[tokio::test]
async fn nobody_waits_longer_than_asked_for() {
    let late = (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned());
    let house = House::open(ServerConfig::default()).await;
    // The client's policy,
    let hasty = house.neighbour(Duration::from_millis(50));
    assert_eq!(refused(ask(hasty, "Wait", "").await), late);
    // the client's request, told to a server that any client could have asked,
    let service = house.bearer(Role::Service);
    let raw = Request::from_parts(
        MetadataMap::from_headers(http::HeaderMap::from_iter([
            (http::header::AUTHORIZATION, service.parse().expect("a header value")),
            (crate::call::GRPC_TIMEOUT, "50m".parse().expect("a header value")),
        ])),
        Default::default(),
        String::new(),
    );
    assert_eq!(refused(ask_with(house.neighbour(PATIENCE), "Wait", raw).await), late);
    // the caller's caller,
    let soon = Deadline(tokio::time::Instant::now() + Duration::from_millis(50));
    let outcome = soon.scope(ask(house.neighbour(PATIENCE), "Forward", "")).await;
    assert_eq!(refused(outcome), late);
    let over = Deadline(tokio::time::Instant::now());
    assert_eq!(refused(over.scope(ask(house.neighbour(PATIENCE), "Greet", "")).await), late);
    // and the server's own limit.
    let config = ServerConfig { request_timeout: Duration::from_millis(50), ..Default::default() };
    let strict = House::open(config).await;
    assert_eq!(refused(ask(strict.neighbour(PATIENCE), "Wait", "").await), late);
}

#[tokio::test]
async fn too_much_is_refused_at_once() {
    let house = House::open(ServerConfig { concurrency: 1, ..Default::default() }).await;
    let first = tokio::spawn(ask(house.neighbour(PATIENCE), "Wait", ""));
    house.waiting.notified().await;
    let status = ask(house.neighbour(PATIENCE), "Greet", "tea").await.expect_err("no room");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(reason(&status).as_deref(), Some("OVERLOADED"));
    assert_eq!(retry_after(&status), Some(Duration::from_secs(1)));
    assert!(health(&house, "").await.is_ok(), "an overloaded house is alive");
    first.abort();
}

async fn health(house: &House, service: &str) -> Result<i32, Status> {
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = HealthClient::new(channel(&house.address)).check(request).await?;
    Ok(answer.into_inner().status)
}

#[tokio::test]
async fn health_follows_readiness_and_needs_no_token() {
    let house = House::open(ServerConfig::default()).await;
    let watch = HealthCheckRequest { service: Kitchen::NAME.to_owned() };
    let mut client = HealthClient::new(channel(&house.address));
    let mut watch = client.watch(watch).await.expect("a stream").into_inner();
    let mut next = async || watch.message().await.map(|it| it.expect("no end yet").status);
    let (serving, not_serving) = (ServingStatus::Serving as i32, ServingStatus::NotServing as i32);
    assert_eq!(next().await.expect("a status"), not_serving);
    house.readiness.set("database", true);
    assert_eq!(next().await.expect("a status"), serving);
    assert_eq!(health(&house, "").await.expect("a status"), serving);
    house.readiness.set("database", false);
    assert_eq!(next().await.expect("a status"), not_serving);
    assert_eq!(health(&house, "liveness").await.expect("a status"), serving, "it is alive");
    let unknown = health(&house, "nobody.v1.Nothing").await;
    assert_eq!(refused(unknown), (Code::NotFound, "NOT_FOUND".to_owned()));
}

#[tokio::test]
async fn a_drain_ends_streams_and_lets_requests_finish() {
    let house = House::open(ServerConfig::default()).await;
    house.readiness.set("database", true);
    let mut grpc = tonic::client::Grpc::new(channel(&house.address));
    grpc.ready().await.expect("a connection");
    let mut request = Request::new(String::new());
    let bearer = house.bearer(Role::Service).parse().expect("a header value");
    request.metadata_mut().insert("authorization", bearer);
    let codec = ProstCodec::<String, String>::default();
    let watch = grpc.server_streaming(request, path("Watch"), codec).await.expect("a stream");
    let mut watch = watch.into_inner();
    assert_eq!(watch.message().await.expect("an item").as_deref(), Some("first"));

    let in_flight = tokio::spawn(ask(house.neighbour(PATIENCE), "Wait", ""));
    house.waiting.notified().await;

    house.shutdown.trigger();
    let end = watch.message().await.expect_err("the end");
    assert_eq!((end.code(), reason(&end).as_deref()), (Code::Unavailable, Some("SHUTTING_DOWN")));
    assert!(!house.readiness.is_ready());
    house.go_on.notify_one();
    assert_eq!(in_flight.await.expect("no panic").expect("an answer"), "done");
    drop((watch, grpc));
    house.served.await.expect("no panic").expect("a clean end");
    let nobody = neighbour(&house.address, &house.issuer, PATIENCE);
    let outcome = refused(ask(nobody, "Greet", "tea").await);
    assert_eq!(outcome, (Code::Unavailable, "SERVICE_UNAVAILABLE".to_owned()));
}

#[tokio::test]
async fn reflection_lists_what_is_here_and_needs_no_token() {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    let house = House::open(ServerConfig::default()).await;
    let mut client = ServerReflectionClient::new(channel(&house.address));
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = client.server_reflection_info(stream::iter([list])).await.expect("a stream");
    let answer = answers.into_inner().message().await.expect("an answer").expect("one");
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("not a list: {answer:?}");
    };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, [Kitchen::NAME, HEALTH, REFLECTION[0], REFLECTION[1]]);
}

#[tokio::test]
async fn the_admin_port_says_what_is_not_ready_and_has_metrics() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    let (readiness, shutdown) = (Readiness::new(), Shutdown::new());
    let serving = readiness.serving();
    let backlogs = Backlogs::new(Arc::new(SystemClock));
    let admin = tokio::spawn(admin(listener, readiness.clone(), backlogs, shutdown.clone()));
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let ask = async |path: &str| {
        let answer = http.get(format!("{base}{path}")).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    assert_eq!(ask("/livez").await, (200, "alive\n".to_owned()));
    assert_eq!(ask("/readyz").await, (503, "not ready: nothing has been checked yet\n".to_owned()));
    readiness.set("database", true);
    readiness.set("broker", false);
    assert_eq!(ask("/readyz").await, (503, "not ready: broker\n".to_owned()));
    readiness.set("broker", true);
    assert_eq!(ask("/readyz").await, (200, "ready\n".to_owned()));
    metrics::lease_changed("kitchen.relay", true);
    let (code, text) = ask("/metrics").await;
    assert_eq!(code, 200);
    assert!(text.contains("taxi_leases_held{name=\"kitchen.relay\"} 1\n"), "{text}");
    shutdown.trigger();
    readiness.drain();
    assert_eq!(ask("/readyz").await, (503, "not ready: draining\n".to_owned()));
    drop((serving, http));
    admin.await.expect("no panic").expect("a clean end");
}
