//! The gateway in front of the whole mesh: a ride by REST, and the same contexts by gRPC.

use std::time::Duration;

use proto::allocation::v1::RequestAllocationRequest;
use proto::allocation::v1::allocation_service_client::AllocationServiceClient;
use proto::payment::v1::PayFeeRequest;
use proto::payment::v1::payment_service_client::PaymentServiceClient;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use testkit::{Backing, Mesh, Role, eventually};
use tonic::{Code, Request};

use crate::people::{SOON, dev, wish};

/// Somebody with a browser.
struct Browser {
    http: reqwest::Client,
    gateway: String,
    token: String,
}

impl Browser {
    async fn new(mesh: &Mesh, role: Role, subject: &str) -> Browser {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let token = mesh.token(role, subject).await;
        Browser { http, gateway: mesh.gateway().to_owned(), token }
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Response {
        let request = self.http.request(method, format!("{}{path}", self.gateway));
        let request = request.bearer_auth(&self.token).timeout(SOON);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        request.send().await.expect("an answer")
    }

    /// What a GET answers; it must succeed.
    async fn get(&self, path: &str) -> Value {
        let answer = self.send(Method::GET, path, None).await;
        let (status, body) = (answer.status(), answer.text().await.expect("a body"));
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// What a POST answers; it must succeed.
    async fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.send(Method::POST, path, Some(body)).await;
        assert!(answer.headers().contains_key("x-taxi-consistency-token"), "{path}");
        let (status, body) = (answer.status(), answer.text().await.expect("a body"));
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// Status and reason of a refusal.
    async fn refused(&self, path: &str, body: &Value) -> (u16, String) {
        let answer = self.send(Method::POST, path, Some(body)).await;
        let status = answer.status().as_u16();
        let error: Value = answer.json().await.expect("JSON");
        (status, error["details"][0]["reason"].as_str().unwrap_or_default().to_owned())
    }

    /// The first state that a watch shows.
    async fn watch(&self, path: &str) -> Value {
        let mut answer = self.send(Method::GET, path, None).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let mut line = Vec::new();
        while !line.contains(&b'\n') {
            let chunk = answer.chunk().await.expect("in time").expect("there is a state");
            line.extend_from_slice(&chunk);
        }
        let first = line.split(|byte| *byte == b'\n').next().expect("a line");
        serde_json::from_slice::<Value>(first).expect("JSON")["result"].clone()
    }

    /// What a GET answers once it is like this.
    async fn sees(&self, path: &str, like: impl Fn(&Value) -> bool) -> Value {
        eventually(SOON, || async {
            let seen = self.get(path).await;
            if like(&seen) { Ok(seen) } else { Err(seen) }
        })
        .await
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ride_by_rest_through_every_route() {
    let mesh = dev(Backing::Sqlite).await;
    let customer = Browser::new(&mesh, Role::Customer, "C1").await;
    let (driver, other) = tokio::join!(
        Browser::new(&mesh, Role::Driver, "D1"),
        Browser::new(&mesh, Role::Driver, "D2")
    );
    let operator = Browser::new(&mesh, Role::Operator, "O1").await;

    let wish = json!({"destination": {"address": "Misa"}});
    let asked = customer.post("/v1/allocations", &wish).await;
    assert_eq!(asked["state"], "STATE_REQUESTED");
    let allocation = text(&asked["name"]);
    assert_eq!(customer.get(&format!("/v1/{allocation}")).await["name"], asked["name"]);
    let own = customer.get("/v1/allocations?page_size=1&states=STATE_REQUESTED").await;
    assert_eq!(own["allocations"][0]["name"], asked["name"]);
    let again = customer.refused("/v1/allocations", &wish).await;
    assert_eq!(again, (400, "OPEN_ALLOCATION_EXISTS".to_owned()));

    let open =
        other.sees("/v1/drivings", |it| !it["drivings"].as_array().is_none_or(Vec::is_empty));
    let driving = text(&open.await["drivings"][0]["name"]);
    other.post(&format!("/v1/{driving}:decline"), &json!({"reason": "too far"})).await;
    let news = driver.watch("/v1/drivings:watch").await;
    assert_eq!(news["driving"]["name"], driving.as_str(), "{news}");
    driver.post(&format!("/v1/{driving}:accept"), &json!({})).await;
    let lost = other.refused(&format!("/v1/{driving}:accept"), &json!({})).await;
    assert_eq!(lost.0, 404, "what was declined is hidden: {lost:?}");
    driver.post(&format!("/v1/{driving}:start"), &json!({})).await;
    let too_late = customer.refused(&format!("/v1/{allocation}:cancel"), &json!({})).await;
    assert_eq!(too_late, (400, "DRIVING_ALREADY_STARTED".to_owned()));
    let finished = driver.post(&format!("/v1/{driving}:finish"), &json!({})).await;
    assert_eq!(finished["fare"]["units"], "1000", "{finished}");
    assert_eq!(customer.get(&format!("/v1/{driving}")).await["state"], "STATE_FINISHED");
    let ended = customer.watch(&format!("/v1/{allocation}:watch")).await;
    assert_eq!(ended["allocation"]["name"], allocation.as_str(), "{ended}");

    let paid = |it: &Value| it["payments"][0]["state"] == "STATE_APPROVED";
    let payments = customer.sees("/v1/payments", paid).await;
    let payment = text(&payments["payments"][0]["name"]);
    assert_eq!(customer.get(&format!("/v1/{payment}")).await["state"], "STATE_APPROVED");
    let settled = customer.refused(&format!("/v1/{payment}:settle"), &json!({})).await;
    assert_eq!(settled, (400, "PAYMENT_NOT_OUTSTANDING".to_owned()));
    let refund = json!({"amount": {"currencyCode": "KRW", "units": "400"}, "reason": "a detour"});
    assert_eq!(customer.refused(&format!("/v1/{payment}:refund"), &refund).await.0, 403);
    let refunded = operator.post(&format!("/v1/{payment}:refund"), &refund).await;
    assert_eq!(refunded["refundedAmount"]["units"], "400", "{refunded}");

    let info = allocation.replace("allocations/", "drivingInfos/");
    let path = format!("/v1/{info}");
    let shown = customer.sees(&path, |it| it["paymentStatus"] == "STATE_REFUNDED").await;
    assert_eq!(shown["driving"], driving.as_str());
    let infos = operator.get("/v1/drivingInfos").await;
    assert_eq!(infos["drivingInfos"][0]["name"], info.as_str());
    assert!(operator.get("/v1/drivingInfos:summary").await.is_object());
    assert!(operator.watch("/v1/drivingInfos:watch").await.is_object());
    let told = |it: &Value| it["messages"][0]["template"] == "TEMPLATE_PAYMENT_APPROVED";
    customer.sees("/v1/customers/C1/messages", told).await;

    let asked = customer.post("/v1/allocations", &wish).await;
    let cancelled =
        customer.post(&format!("/v1/{}:cancel", text(&asked["name"])), &json!({})).await;
    assert_eq!(cancelled["state"], "STATE_CANCELLED", "{cancelled}");
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_goes_through_the_same_door_and_internal_methods_do_not() {
    let mesh = dev(Backing::Sqlite).await;
    let address = mesh.gateway().trim_start_matches("http://").to_owned();
    let channel = platform::client::channel(&address);
    let token = |token: String| format!("Bearer {token}").parse().expect("a header");

    let mut request: Request<RequestAllocationRequest> = Request::new(wish("Misa"));
    let customer = token(mesh.token(Role::Customer, "C1").await);
    request.metadata_mut().insert("authorization", customer);
    request.set_timeout(Duration::from_secs(10));
    let answer = AllocationServiceClient::new(channel.clone()).request_allocation(request).await;
    assert!(answer.expect("asked").metadata().contains_key("x-taxi-consistency-token"));

    let mut request = Request::new(PayFeeRequest::default());
    let service = token(mesh.token(Role::Service, "driving").await);
    request.metadata_mut().insert("authorization", service);
    let refused = PaymentServiceClient::new(channel).pay_fee(request).await;
    assert_eq!(refused.expect_err("internal").code(), Code::Unimplemented);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_describes_itself() {
    let mesh = dev(Backing::Sqlite).await;
    let stranger = reqwest::Client::builder().no_proxy().build().expect("a client");
    let get = async |path: &str| {
        let answer = stranger.get(format!("{}{path}", mesh.gateway())).send().await;
        answer.expect("an answer").error_for_status().expect(path).text().await.expect("text")
    };
    let document: Value = serde_json::from_str(&get("/openapi.json").await).expect("JSON");
    assert!(document["paths"]["/v1/allocations"]["post"].is_object());
    assert!(get("/docs").await.contains("swagger"));
    assert_eq!(get("/livez").await, "alive\n");
}
