//! One trace from the client's request to the last consumer, as a collector hears it from processes of
//! their own.

mod collector;

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};
use testkit::{CONTEXTS, Mesh, Role, eventually, free_port};

use self::collector::{Collector, Span};
use crate::people::SOON;

/// The client's own span: the whole ride.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const ROOT: &str = "b7ad6b7169203331";
/// What nobody shall read in a trace.
const ADDRESS: &str = "396 Gangnam-daero";
const CUSTOMER: &str = "kim-misook";
const DRIVER: &str = "park-jisung";

/// From the root on, each below the one before.
const ASKING: [&str; 6] = [
    "taxi-gateway server POST /v1/allocations",
    "taxi-gateway client taxi.allocation.v1.AllocationService/RequestAllocation",
    "taxi-allocation server taxi.allocation.v1.AllocationService/RequestAllocation",
    "taxi-allocation producer publish \
     taxi.events.{shard}.allocation.AllocationRequested.{aggregate}",
    "taxi-driving consumer process taxi.events.{shard}.allocation.AllocationRequested.{aggregate}",
    "taxi-driving producer publish taxi.events.{shard}.driving.DrivingOpened.{aggregate}",
];
const FINISHING: [&str; 7] = [
    "taxi-gateway server POST /v1/{name=drivings/*}:finish",
    "taxi-gateway client taxi.driving.v1.DrivingService/FinishDriving",
    "taxi-driving server taxi.driving.v1.DrivingService/FinishDriving",
    "taxi-driving client taxi.payment.v1.PaymentService/PayFee",
    "taxi-driving client taxi.payment.v1.PaymentService/PayFee",
    "taxi-payment server taxi.payment.v1.PaymentService/PayFee",
    "taxi-payment client POST /v1/charges",
];
const COMMITTING: [&str; 4] =
    [FINISHING[0], FINISHING[1], FINISHING[2], "taxi-driving client COMMIT driving"];
const FINISHED: &str = "taxi.events.{shard}.driving.DrivingFinished.{aggregate}";

/// Somebody who is part of a trace.
struct Phone {
    http: reqwest::Client,
    gateway: String,
    token: String,
}

impl Phone {
    async fn new(mesh: &Mesh, gateway: &str, role: Role, subject: &str) -> Phone {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let token = mesh.token(role, subject).await;
        Phone { http, gateway: gateway.to_owned(), token }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Value {
        let request = request.header("traceparent", format!("00-{TRACE}-{ROOT}-01"));
        let answer = request.bearer_auth(&self.token).timeout(SOON).send().await;
        let answer = answer.expect("an answer").error_for_status().expect("it succeeds");
        answer.json().await.expect("JSON")
    }

    async fn get(&self, path: &str) -> Value {
        self.send(self.http.get(format!("{}{path}", self.gateway))).await
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.send(self.http.post(format!("{}{path}", self.gateway)).json(&body)).await
    }
}

/// A whole ride by REST, and a look at what the customer was told.
async fn ride(mesh: &Mesh, gateway: &str) {
    let customer = Phone::new(mesh, gateway, Role::Customer, CUSTOMER).await;
    let driver = Phone::new(mesh, gateway, Role::Driver, DRIVER).await;
    customer.post("/v1/allocations", json!({"destination": {"address": ADDRESS}})).await;
    let open = eventually(SOON, || async {
        let open = driver.get("/v1/drivings").await;
        open["drivings"][0]["name"].as_str().map(str::to_owned).ok_or(open)
    })
    .await;
    for step in ["accept", "start", "finish"] {
        driver.post(&format!("/v1/{open}:{step}"), json!({})).await;
    }
    eventually(SOON, || async {
        let told = customer.get(&format!("/v1/customers/{CUSTOMER}/messages")).await;
        let paid = told["messages"][0]["template"] == "TEMPLATE_PAYMENT_APPROVED";
        if paid { Ok(()) } else { Err(told) }
    })
    .await;
}

/// The spans of the ride, by their parents.
struct Tree<'a> {
    below: HashMap<&'a str, Vec<&'a Span>>,
}

impl<'a> Tree<'a> {
    fn of(spans: &'a [Span]) -> Tree<'a> {
        let mut below = HashMap::<&str, Vec<&Span>>::new();
        for span in spans.iter().filter(|span| span.trace == TRACE) {
            below.entry(&span.parent).or_default().push(span);
        }
        Tree { below }
    }

    /// The last of spans that are called like this, each below the one before.
    fn find(&self, titles: &[&str]) -> Result<&'a Span, String> {
        self.find_below(ROOT, titles).ok_or_else(|| format!("no {titles:#?} in:\n{self}"))
    }

    fn find_below(&self, parent: &str, titles: &[&str]) -> Option<&'a Span> {
        let (first, rest) = titles.split_first()?;
        let below = self.below.get(parent)?;
        let mut found = below.iter().copied().filter(|span| span.title() == *first);
        match rest {
            [] => found.next(),
            rest => found.find_map(|span| self.find_below(&span.id, rest)),
        }
    }

    fn write(
        &self,
        f: &mut std::fmt::Formatter<'_>,
        parent: &str,
        depth: usize,
    ) -> std::fmt::Result {
        for span in self.below.get(parent).into_iter().flatten() {
            writeln!(f, "{:1$}{2}", "", 2 * depth, span.title())?;
            self.write(f, &span.id, depth + 1)?;
        }
        Ok(())
    }
}

impl std::fmt::Display for Tree<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.write(f, ROOT, 0)
    }
}

/// What a span says of itself.
fn says(span: &Span, expected: &[(&str, &str)]) {
    let expected: BTreeMap<&str, &str> = expected.iter().copied().collect();
    let seen: BTreeMap<&str, &str> =
        span.attributes.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    for (key, value) in &expected {
        assert_eq!(seen.get(key), Some(value), "{key} of {span:?}: {seen:#?}");
    }
}

/// That every step of the ride has been heard.
fn is_whole(spans: &[Span]) -> Result<(), String> {
    let tree = Tree::of(spans);
    tree.find(&ASKING)?;
    tree.find(&COMMITTING)?;
    tree.find(&FINISHING)?;
    let publication = [FINISHING[0], FINISHING[1], FINISHING[2]].map(str::to_owned);
    let publication =
        [publication.to_vec(), vec![format!("taxi-driving producer publish {FINISHED}")]];
    let publication: Vec<String> = publication.concat();
    let publication: Vec<&str> = publication.iter().map(String::as_str).collect();
    let published = tree.find(&publication)?;
    let consumer = format!("taxi-allocation consumer process {FINISHED}");
    tree.find(&[&publication[..], &[&consumer]].concat())?;
    let link = (TRACE.to_owned(), published.id.clone());
    let folded = spans.iter().filter(|span| span.title().starts_with("taxi-dashboard consumer"));
    let mut linked = folded.filter(|span| span.links.contains(&link));
    linked.next().map(|_| ()).ok_or_else(|| "the view is not linked to it".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ride_is_one_trace_from_rest_to_the_last_consumer() {
    let collector = Collector::start().await;
    let nobody = format!("http://127.0.0.1:{}", free_port().expect("a port"));
    let mut settings: Vec<(&str, &str, &str)> = Vec::new();
    for context in CONTEXTS {
        let endpoint = if context == "message" { &nobody } else { &collector.endpoint };
        settings.push((context, "OTEL_EXPORTER_OTLP_ENDPOINT", endpoint));
        settings.push((context, "OTEL_BSP_SCHEDULE_DELAY", "100"));
    }
    let mut mesh = Mesh::serve_with(env!("CARGO_BIN_EXE_taxi"), &settings).await;
    // Its spans are sent when it ends, and no sooner.
    mesh.set("gateway", "OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint);
    mesh.set("gateway", "OTEL_BSP_SCHEDULE_DELAY", "3600000");
    let gateway = mesh.start_gateway().await;
    ride(&mesh, &gateway).await;
    assert!(!collector.spans().iter().any(|span| span.title().starts_with("taxi-gateway")));
    mesh.stop("gateway").await;

    eventually(SOON, || async { is_whole(&collector.spans()) }).await;
    let spans = collector.spans();
    let tree = Tree::of(&spans);
    println!("{tree}");
    let ids: Vec<&str> = spans.iter().map(|span| span.id.as_str()).collect();
    for span in spans.iter().filter(|span| span.trace == TRACE) {
        let has_parent = span.parent == ROOT || ids.contains(&span.parent.as_str());
        assert!(has_parent, "{span:?} hangs in the air:\n{tree}");
        assert!(!span.failed, "{span:?}: {:?}", span.attributes);
    }
    what_they_say(&tree);
    let raw = collector.raw();
    for personal in [ADDRESS, CUSTOMER, DRIVER, "Gangnam"] {
        assert!(!raw.contains(personal), "{personal} is in a trace");
    }
    // Message has had a collector that is not there, and much to tell it.
    eventually(SOON, || async { lines_about_the_collector(&mesh) }).await;
    mesh.stop("message").await;
    lines_about_the_collector(&mesh).expect("still one");
}

fn what_they_say(tree: &Tree<'_>) {
    let span = |titles: &[&str]| tree.find(titles).expect("it is whole");
    says(
        span(&ASKING[..1]),
        &[
            ("http.request.method", "POST"),
            ("http.route", "/v1/allocations"),
            ("http.response.status_code", "200"),
        ],
    );
    for depth in [2, 3, 4, 5, 6] {
        let of_pay_fee = depth > 3;
        let method = match of_pay_fee {
            true => "taxi.payment.v1.PaymentService/PayFee",
            false => "taxi.driving.v1.DrivingService/FinishDriving",
        };
        let status = ("rpc.response.status_code", "OK");
        says(
            span(&FINISHING[..depth]),
            &[("rpc.system.name", "grpc"), ("rpc.method", method), status],
        );
    }
    says(
        span(&FINISHING),
        &[("url.template", "/v1/charges"), ("http.response.status_code", "200")],
    );
    says(
        span(&COMMITTING),
        &[
            ("db.system.name", "postgresql"),
            ("db.operation.name", "COMMIT"),
            ("db.collection.name", "driving"),
        ],
    );
    let template = "taxi.events.{shard}.allocation.AllocationRequested.{aggregate}";
    let (sent, heard) = (span(&ASKING[..4]), span(&ASKING[..5]));
    for (span, name, kind) in [(sent, "publish", "send"), (heard, "process", "process")] {
        says(
            span,
            &[
                ("messaging.system", "nats"),
                ("messaging.operation.name", name),
                ("messaging.operation.type", kind),
                ("messaging.destination.template", template),
            ],
        );
    }
    says(heard, &[("messaging.consumer.group.name", "driving")]);
    for key in ["messaging.message.id", "messaging.destination.name"] {
        assert_eq!(sent.attributes[key], heard.attributes[key]);
    }
}

/// One says that it is away, and none more.
fn lines_about_the_collector(mesh: &Mesh) -> Result<(), String> {
    let log = std::fs::read_to_string(mesh.ready().data.join("message.log")).expect("a log");
    let count = |word| log.lines().filter(|line| line.contains(word)).count();
    match (count("traces are not exported"), count("opentelemetry")) {
        (1, 0) => Ok(()),
        _ => Err(log),
    }
}
