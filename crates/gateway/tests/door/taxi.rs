//! The door before our own services, by their descriptors alone.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Request, Response};
use gateway::routes::RouteTable;
use gateway::{Gateway, GatewayConfig, Upstreams};
use platform::auth::{AuthConfig, Verifier};
use platform::client::balanced;
use platform::server::ServerConfig;
use prost_reflect::DescriptorPool;
use tower::ServiceExt as _;

fn pool() -> DescriptorPool {
    DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).expect("descriptors")
}

async fn ask(request: Request<Body>) -> Response<Body> {
    let pool = pool();
    let services: Vec<String> = pool.services().map(|it| it.full_name().to_owned()).collect();
    let upstreams =
        Upstreams::new().with("nobody", balanced("127.0.0.1:1").expect("an address"), services);
    let table = Arc::new(RouteTable::new(&pool).expect("good rules"));
    let verifier = Verifier::discover(AuthConfig::new("http://issuer.test", "taxi"));
    let (config, server) = (GatewayConfig::default(), ServerConfig::default());
    let gateway = Gateway::new(table, upstreams, verifier, config, server).expect("a gateway");
    gateway.router().oneshot(request).await.expect("an answer")
}

#[tokio::test]
async fn what_services_say_to_each_other_is_not_for_the_outside() {
    for rpc in pool().services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let public = rpc.options().extensions().any(|(it, _)| it.full_name() == "google.api.http");
        let path = format!("/{}/{}", rpc.parent_service().full_name(), rpc.name());
        let call = Request::post(&path).version(axum::http::Version::HTTP_2);
        let call = call.header("content-type", "application/grpc").body(Body::empty());
        let answer = ask(call.expect("a request")).await;
        // Of what is public, the token is asked for first.
        let code = if public { "16" } else { "12" };
        assert_eq!(answer.headers()["grpc-status"], code, "{path}");
        assert_eq!(public, rpc.name() != "PayFee", "{path}");
    }
}

#[tokio::test]
async fn every_rest_method_asks_who_calls() {
    for (method, path) in [
        (Method::POST, "/v1/allocations"),
        (Method::GET, "/v1/allocations/1"),
        (Method::POST, "/v1/drivings/1:accept"),
        (Method::GET, "/v1/drivingInfos:watch"),
        (Method::GET, "/v1/customers/1/messages"),
    ] {
        let request = Request::builder().method(method).uri(path).body(Body::empty());
        assert_eq!(ask(request.expect("a request")).await.status(), 401, "{path}");
    }
}
