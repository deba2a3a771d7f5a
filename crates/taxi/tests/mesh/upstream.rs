//! A replica behind the gateway that is killed under load: nobody gets a wrong answer, and traffic
//! comes back to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kernel::Uuid;
use proto::allocation::v1::GetAllocationRequest;
use reqwest::{Method, StatusCode};
use sea_orm::{ConnectionTrait as _, Database, Statement};
use serde_json::{Value, json};
use testkit::{AllocationClient, Bearer, Known, Mesh, Role, eventually};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::people::{SOON, reason, wish};

/// Customers at the same time, half of them by REST, half by gRPC.
const CUSTOMERS: usize = 4;
/// How soon after one car each of them wants the next.
const PACE: Duration = Duration::from_millis(25);
/// How often a replica is killed.
const KILLS: usize = 3;
/// How many cars everybody gets while a replica is away, and again when it is back.
const CARS: usize = 2;
/// Far from what the test does: limits are not what it is about.
const LIMITS: [(&str, &str); 5] = [
    ("TAXI_ALLOCATION__MAX_OPEN_PER_CUSTOMER", "100000"),
    ("TAXI_GATEWAY__PER_PRINCIPAL__PER_SECOND", "100000"),
    ("TAXI_GATEWAY__PER_PRINCIPAL__BURST", "100000"),
    ("TAXI_GATEWAY__PER_ADDRESS__PER_SECOND", "100000"),
    ("TAXI_GATEWAY__PER_ADDRESS__BURST", "100000"),
];

/// What one try came to; anything else fails the test.
enum Try {
    /// The name of the allocation.
    Answered(String),
    /// `UNAVAILABLE`, with a reason, and when to come back.
    Away,
}

/// How a customer speaks to the gateway.
#[derive(Clone)]
enum Phone {
    Rest { http: reqwest::Client, gateway: String, token: String },
    Grpc(AllocationClient),
}

impl Phone {
    /// Asks for a car, under this request id.
    async fn ask(&mut self, id: Uuid) -> Try {
        match self {
            Phone::Rest { .. } => {
                let body = json!({"destination": {"address": "Misa"}});
                self.send(Method::POST, "/v1/allocations", Some((id, body))).await
            }
            Phone::Grpc(client) => {
                let mut request = wish("Misa");
                request.request_id = id.to_string();
                answer(client.request_allocation(request).await.map(|it| it.into_inner().name))
            }
        }
    }

    /// Looks at an allocation.
    async fn look(&mut self, name: &str) -> Try {
        match self {
            Phone::Rest { .. } => self.send(Method::GET, &format!("/v1/{name}"), None).await,
            Phone::Grpc(client) => {
                let request = GetAllocationRequest { name: name.to_owned() };
                answer(client.get_allocation(request).await.map(|it| it.into_inner().name))
            }
        }
    }

    async fn send(&self, method: Method, path: &str, body: Option<(Uuid, Value)>) -> Try {
        let Phone::Rest { http, gateway, token } = self else { unreachable!("asked by REST") };
        let request = http.request(method, format!("{gateway}{path}")).bearer_auth(token);
        let request = match body {
            Some((id, body)) => request.header("idempotency-key", id.to_string()).json(&body),
            None => request,
        };
        let response = request.timeout(SOON).send().await.expect("the gateway answers");
        let (status, retry) = (response.status(), response.headers().get("retry-after").cloned());
        let said: Value = response.json().await.expect("JSON");
        match status {
            StatusCode::OK => Try::Answered(said["name"].as_str().expect("a name").to_owned()),
            StatusCode::SERVICE_UNAVAILABLE => {
                let details = said["details"].as_array().expect("details");
                assert!(details.iter().any(|detail| detail["reason"].is_string()), "{said}");
                assert!(retry.is_some(), "{said}");
                Try::Away
            }
            status => panic!("{path}: {status}: {said}"),
        }
    }
}

fn answer(answered: Result<String, Status>) -> Try {
    match answered {
        Ok(name) => Try::Answered(name),
        Err(status) => {
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
            assert!(!reason(&status).starts_with("no reason"), "{status:?}");
            assert!(platform::status::retry_after(&status).is_some(), "{status:?}");
            Try::Away
        }
    }
}

/// Somebody who asks for cars, one after the other, and remembers what they were told.
struct Customer {
    phone: Phone,
    asked: Vec<(Uuid, String)>,
    refused: usize,
}

impl Customer {
    /// One car: asked for until there is an answer, then once more, then looked at.
    async fn round(&mut self) {
        let id = Uuid::from_u128(self.asked.len() as u128 + 1);
        let name = self.asks(id).await;
        assert_eq!(self.asks(id).await, name, "the same request has the same answer");
        for (_, name) in self.asked.iter().rev().take(2).cloned().collect::<Vec<_>>() {
            assert_eq!(self.looks(&name).await, name);
        }
        self.asked.push((id, name));
    }

    async fn asks(&mut self, id: Uuid) -> String {
        let end = Instant::now() + SOON;
        loop {
            match self.phone.ask(id).await {
                Try::Answered(name) => return name,
                Try::Away => self.refused += 1,
            }
            assert!(Instant::now() < end, "the other replica is there all the time");
        }
    }

    /// A read by REST is repeated by the gateway, so it succeeds; a gRPC client repeats it.
    async fn looks(&mut self, name: &str) -> String {
        let end = Instant::now() + SOON;
        loop {
            match self.phone.look(name).await {
                Try::Answered(name) => return name,
                Try::Away => self.refused += 1,
            }
            assert!(matches!(self.phone, Phone::Grpc(_)), "a read was not repeated");
            assert!(Instant::now() < end, "the other replica is there all the time");
        }
    }
}

/// All customers, until they are asked to stop.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<Vec<AtomicUsize>>,
    customers: JoinSet<Customer>,
}

impl Load {
    async fn start(mesh: &Mesh, gateway: &str) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new((0..CUSTOMERS).map(|_| AtomicUsize::new(0)).collect::<Vec<_>>());
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let channel = Channel::from_shared(gateway.to_owned()).expect("a URI").connect_lazy();
        let mut customers = JoinSet::new();
        for n in 0..CUSTOMERS {
            let token = mesh.token(Role::Customer, &format!("C{n}")).await;
            let phone = match n % 2 {
                0 => Phone::Rest { http: http.clone(), gateway: gateway.to_owned(), token },
                _ => {
                    let known = Known::new(channel.clone(), Bearer::new(&token));
                    Phone::Grpc(AllocationClient::new(known))
                }
            };
            let mut customer = Customer { phone, asked: Vec::new(), refused: 0 };
            let (stop, done) = (stop.clone(), done.clone());
            customers.spawn(async move {
                let mut pace = tokio::time::interval(PACE);
                while !stop.load(Ordering::Relaxed) {
                    pace.tick().await;
                    customer.round().await;
                    done[n].fetch_add(1, Ordering::Relaxed);
                }
                customer
            });
        }
        Load { stop, done, customers }
    }

    /// Waits until everybody has got something done.
    async fn goes_on(&mut self) {
        let before: Vec<usize> = self.counts();
        eventually(SOON, || {
            let since: Vec<usize> =
                self.counts().iter().zip(&before).map(|(now, before)| now - before).collect();
            let over = self.customers.try_join_next();
            async move {
                assert!(over.is_none(), "a customer has given up: {:?}", over.map(|it| it.err()));
                if since.iter().all(|done| *done >= CARS) { Ok(()) } else { Err(since) }
            }
        })
        .await;
    }

    fn counts(&self) -> Vec<usize> {
        self.done.iter().map(|done| done.load(Ordering::Relaxed)).collect()
    }

    async fn end(self) -> Vec<Customer> {
        self.stop.store(true, Ordering::Relaxed);
        self.customers.join_all().await
    }
}

/// How many there are, whoever has heard of them.
async fn allocations(mesh: &Mesh) -> usize {
    let database = Database::connect(mesh.database_url("allocation")).await.expect("it is there");
    let backend = database.get_database_backend();
    let count = Statement::from_string(backend, "SELECT count(*) FROM allocation");
    let row = database.query_one_raw(count).await.expect("counted").expect("a row");
    usize::try_from(row.try_get_by_index::<i64>(0).expect("a number")).expect("no less than none")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_replica_costs_no_answer_and_comes_back() {
    let settings = LIMITS.map(|(name, value)| ("allocation", name, value));
    let mut mesh = Mesh::serve_with(env!("CARGO_BIN_EXE_taxi"), &settings).await;
    for (name, value) in LIMITS {
        mesh.set("gateway", name, value);
    }
    let (second, address) = mesh.start_replica("allocation").await;
    let both = format!("{},{address}", mesh.ready().grpc["allocation"]);
    mesh.set("gateway", "TAXI_UPSTREAM__ALLOCATION", &both);
    let gateway = mesh.start_gateway().await;

    let mut load = Load::start(&mesh, &gateway).await;
    load.goes_on().await;
    // In turn: while one is away, all goes to the one that has come back.
    for replica in ["allocation", &second].into_iter().cycle().take(KILLS) {
        mesh.kill(replica);
        load.goes_on().await;
        mesh.start_context(replica).await;
        load.goes_on().await;
    }
    let customers = load.end().await;

    let refused: usize = customers.iter().map(|it| it.refused).sum();
    let asked: usize = customers.iter().map(|it| it.asked.len()).sum();
    println!("{asked} cars were asked for, {refused} tries were refused and repeated");
    for customer in &customers {
        let mut names: Vec<&String> = customer.asked.iter().map(|(_, name)| name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), customer.asked.len(), "each request had an effect of its own");
    }
    assert_eq!(allocations(&mesh).await, asked, "each request had one effect");
}
