//! __Names__ through the front door: the whole product, asked by REST.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Backing, Mesh, Role, eventually};

/// How long anything may take that has to happen eventually.
const SOON: Duration = Duration::from_secs(30);

/// Somebody with a token.
struct Caller<'a> {
    mesh: &'a Mesh,
    token: String,
}

impl<'a> Caller<'a> {
    async fn known(mesh: &'a Mesh, role: Role, subject: &str) -> Caller<'a> {
        Caller { mesh, token: mesh.token(role, subject).await }
    }

    async fn get(&self, path: &str) -> Value {
        let request = self.mesh.http().get(format!("{}/v1/{path}", self.mesh.gateway()));
        self.answer(request).await
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let request = self.mesh.http().post(format!("{}/v1/{path}", self.mesh.gateway()));
        self.answer(request.json(body)).await
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Value {
        let answer = request.bearer_auth(&self.token).send().await.expect("an answer");
        let (status, body) = (answer.status(), answer.text().await.expect("a body"));
        assert!(status.is_success(), "{status}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }
}

#[tokio::test]
async fn a_customer_writes_one_and_a_ride_brings_one() {
    let mesh = Mesh::start(env!("CARGO_BIN_EXE_taxi"), Backing::Sqlite).await;
    let customer = Caller::known(&mesh, Role::Customer, "C1").await;
    let driver = Caller::known(&mesh, Role::Driver, "D1").await;

    let written = customer.post("__names__", &json!({"note": "well driven"})).await;
    let name = written["name"].as_str().expect("a name");
    assert_eq!(customer.get(name).await, written);

    let place = json!({"destination": {"address": "Misa"}});
    let ride = customer.post("allocations", &place).await;
    let driving = eventually(SOON, || async {
        let open = driver.get("drivings").await;
        open["drivings"][0]["name"].as_str().map(str::to_owned).ok_or("no driving is open")
    })
    .await;
    for verb in ["accept", "start", "finish"] {
        driver.post(&format!("{driving}:{verb}"), &json!({})).await;
    }
    let listed = eventually(SOON, || async {
        let listed = customer.get("__names__").await["__names__"].take();
        if listed[0]["allocation"] == ride["name"] { Ok(listed) } else { Err(listed) }
    })
    .await;
    assert_eq!(listed[1], written, "newest first");
}
