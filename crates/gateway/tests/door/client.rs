//! Clients before the door.

use prost::Message;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::house::House;

/// The answer to a REST request: status, headers, JSON.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) json: Value,
}

impl Answer {
    pub(crate) async fn of(request: RequestBuilder) -> Answer {
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.expect("a body");
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Answer { status, headers, json }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// The reason of an error.
    pub(crate) fn reason(&self) -> &str {
        reason(&self.json)
    }
}

/// The reason of a `google.rpc.Status`.
pub(crate) fn reason(status: &Value) -> &str {
    let details = status["details"].as_array().expect("google.rpc.Status");
    let reason = details.iter().find_map(|detail| detail["reason"].as_str());
    reason.expect("an ErrorInfo")
}

impl House {
    /// A REST request without a token.
    pub(crate) fn stranger(&self, method: Method, path: &str) -> RequestBuilder {
        reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client")
            .request(method, self.url(path))
    }

    /// A REST request of a guest.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.stranger(method, path).bearer_auth(self.token("guest"))
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    /// A gRPC client and a guest's request.
    pub(crate) fn grpc<T>(&self, message: T) -> (Grpc<Channel>, Request<T>) {
        (Grpc::new(self.channel()), self.call(message))
    }

    pub(crate) fn call<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let token = format!("Bearer {}", self.token("guest"));
        let token: MetadataValue<_> = token.parse().expect("ascii");
        request.metadata_mut().insert("authorization", token);
        request
    }

    /// A unary call by a guest.
    pub(crate) async fn unary<Q, A>(&self, path: &str, message: Q) -> Result<Response<A>, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let (grpc, request) = self.grpc(message);
        unary(grpc, path, request).await
    }
}

pub(crate) async fn unary<Q, A>(
    mut grpc: Grpc<Channel>,
    path: &str,
    request: Request<Q>,
) -> Result<Response<A>, Status>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    grpc.ready().await.expect("a connection");
    grpc.unary(request, path.parse().expect("a path"), ProstCodec::<Q, A>::default()).await
}

pub(crate) async fn stream<Q, A>(
    mut grpc: Grpc<Channel>,
    path: &str,
    request: Request<Q>,
) -> Result<Streaming<A>, Status>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    grpc.ready().await.expect("a connection");
    let codec = ProstCodec::<Q, A>::default();
    let path = path.parse().expect("a path");
    Ok(grpc.server_streaming(request, path, codec).await?.into_inner())
}
