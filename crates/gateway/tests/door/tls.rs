//! The door over TLS, and services behind it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use platform::client::balanced_over;
use platform::tls::{ClientFiles, ClientTls, ServerFiles, ServerTls};
use reqwest::{Method, RequestBuilder};
use tempfile::TempDir;
use testkit::{Authority, Certified, eventually};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::transport::{
    Certificate, Channel, ClientTlsConfig, Endpoint, Identity, ServerTlsConfig,
};
use tonic_prost::ProstCodec;

use crate::client::{Answer, unary};
use crate::house::{House, LONG, Plan};
use crate::kitchen::{Dish, GetRequest, Replica, Seen};

const GET: &str = "/door.v1.Kitchen/GetDish";
/// How often files are looked at.
const OFTEN: Duration = Duration::from_millis(20);

/// A directory with the files of a server.
struct Files {
    directory: TempDir,
    files: ServerFiles,
}

impl Files {
    fn of(authority: &Authority) -> Files {
        let directory = tempfile::tempdir().expect("a directory");
        let (certificate, key) = authority.certify("the door").write(directory.path(), "door");
        Files { directory, files: ServerFiles { certificate, key, client_ca: PathBuf::new() } }
    }

    /// Clients need a certificate of this authority.
    fn for_clients_of(authority: &Authority) -> Files {
        let mut files = Files::of(authority);
        files.files.client_ca = files.directory.path().join("clients.pem");
        std::fs::write(&files.files.client_ca, authority.certificate()).expect("written");
        files
    }

    fn replace(&self, certified: &Certified) {
        certified.write(self.directory.path(), "door");
    }

    async fn open(&self) -> House {
        self.open_with(Plan::default()).await
    }

    async fn open_with(&self, plan: Plan) -> House {
        let tls = ServerTls::load("gateway", &self.files, OFTEN).expect("good files");
        House::with(Plan { tls, ..plan }).await
    }
}

impl House {
    /// A REST request of a guest who trusts this authority, and shows this certificate.
    fn secured(&self, trusted: &Authority, shown: Option<&Certified>) -> RequestBuilder {
        let ca = reqwest::Certificate::from_pem(trusted.certificate().as_bytes());
        let mut http = reqwest::Client::builder().no_proxy().tls_built_in_root_certs(false);
        http = http.add_root_certificate(ca.expect("a certificate"));
        if let Some(shown) = shown {
            let identity = format!("{}{}", shown.certificate, shown.key);
            let identity = reqwest::Identity::from_pem(identity.as_bytes());
            http = http.identity(identity.expect("an identity"));
        }
        let url = format!("https://{}/v1/dishes/1", self.address);
        let http = http.build().expect("a client");
        http.request(Method::GET, url).bearer_auth(self.token("guest"))
    }

    /// A channel of a guest who does.
    fn secured_channel(&self, trusted: &Authority, shown: Option<&Certified>) -> Channel {
        let ca = Certificate::from_pem(trusted.certificate());
        let mut tls = ClientTlsConfig::new().ca_certificate(ca).domain_name("localhost");
        if let Some(shown) = shown {
            tls = tls.identity(Identity::from_pem(&shown.certificate, &shown.key));
        }
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address));
        let endpoint = endpoint.expect("an address").tls_config(tls).expect("good certificates");
        endpoint.connect_lazy()
    }
}

/// Whether a new connection of somebody who trusts this authority is answered.
async fn answers(house: &House, trusted: &Authority) -> bool {
    house.secured(trusted, None).send().await.is_ok_and(|answer| answer.status() == 200)
}

#[tokio::test]
async fn rest_and_grpc_over_tls() {
    let authority = Authority::new();
    let files = Files::of(&authority);
    let house = files.open().await;
    let rest = Answer::of(house.secured(&authority, None)).await;
    assert_eq!((rest.status, &rest.json["heard"]["x-forwarded-proto"]), (200, &"https".into()));
    let grpc = Grpc::new(house.secured_channel(&authority, None));
    let dish = unary::<_, Dish>(grpc, GET, house.call(GetRequest::default())).await;
    assert_eq!(dish.expect("a dish").get_ref().heard["x-forwarded-proto"], "https");
    house.get("/v1/dishes/1").send().await.expect_err("not without TLS");
    let stranger = house.secured(&Authority::new(), None).send().await;
    stranger.expect_err("nobody who does not know our authority trusts us");
}

#[tokio::test]
async fn a_certificate_is_replaced_and_open_connections_go_on() {
    let (first, second, third) = (Authority::new(), Authority::new(), Authority::new());
    let files = Files::of(&first);
    let house = files.open().await;
    let mut guest = Guest::talk(&house, house.secured_channel(&first, None)).await;
    assert_eq!(guest.say("before").await, "before");

    files.replace(&second.certify("the door"));
    eventually(LONG, || async { answers(&house, &second).await.then_some(()).ok_or("not yet") })
        .await;
    assert!(!answers(&house, &first).await, "new connections see the new certificate");
    assert_eq!(guest.say("after").await, "after", "the old one goes on");

    // What cannot be used is not, however long it lies there.
    let broken = [
        Certified { certificate: "nonsense".to_owned(), ..second.certify("the door") },
        Certified { key: first.certify("another").key, ..second.certify("the door") },
    ];
    for broken in broken {
        files.replace(&broken);
        let start = Instant::now();
        while start.elapsed() < 10 * OFTEN {
            assert!(answers(&house, &second).await, "the last good certificate is shown");
        }
    }
    files.replace(&third.certify("the door"));
    eventually(LONG, || async { answers(&house, &third).await.then_some(()).ok_or("not yet") })
        .await;
    assert_eq!(guest.say("at last").await, "at last");
}

/// Somebody who talks on one connection.
struct Guest {
    say: mpsc::Sender<Dish>,
    heard: tonic::Streaming<Dish>,
}

impl Guest {
    async fn talk(house: &House, channel: Channel) -> Guest {
        let (say, said) = mpsc::channel(1);
        let mut grpc = Grpc::new(channel);
        grpc.ready().await.expect("a connection");
        let path = "/door.v1.Kitchen/Chat".parse().expect("a path");
        say.send(Dish::default()).await.expect("heard");
        let request = house.call(ReceiverStream::new(said));
        let heard = grpc.streaming(request, path, ProstCodec::<Dish, Dish>::default()).await;
        let mut heard = heard.expect("a stream").into_inner();
        heard.message().await.expect("the stream goes on").expect("an answer");
        Guest { say, heard }
    }

    async fn say(&mut self, name: &str) -> String {
        let dish = Dish { name: name.to_owned(), ..Dish::default() };
        self.say.send(dish).await.expect("heard");
        self.heard.message().await.expect("the stream goes on").expect("an answer").name
    }
}

#[tokio::test]
async fn clients_need_a_certificate_where_one_is_asked_for() {
    let authority = Authority::new();
    let files = Files::for_clients_of(&authority);
    let house = files.open().await;
    let known = authority.certify("a guest");
    assert_eq!(Answer::of(house.secured(&authority, Some(&known))).await.status, 200);
    let grpc = Grpc::new(house.secured_channel(&authority, Some(&known)));
    let dish = unary::<_, Dish>(grpc, GET, house.call(GetRequest::default())).await;
    assert!(dish.is_ok(), "{dish:?}");
    let unknown = Authority::new().certify("a stranger");
    for shown in [None, Some(&unknown)] {
        house.secured(&authority, shown).send().await.expect_err("no handshake");
    }
}

#[tokio::test]
async fn who_does_not_shake_hands_keeps_nobody_waiting() {
    let authority = Authority::new();
    let files = Files::of(&authority);
    let mut plan = Plan::default();
    plan.config.header_timeout = Duration::from_millis(500);
    let house = files.open_with(plan).await;
    let mut silent = TcpStream::connect(house.address).await.expect("a connection");
    assert!(answers(&house, &authority).await);
    let mut byte = [0];
    let end = tokio::time::timeout(LONG, silent.read(&mut byte)).await.expect("it is closed");
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

#[tokio::test]
async fn services_are_called_by_tls_with_the_certificate_of_the_moment() {
    let authority = Authority::new();
    let ca = || Certificate::from_pem(authority.certificate());
    let server = authority.certify("the kitchen");
    let server = Identity::from_pem(&server.certificate, &server.key);
    let server = ServerTlsConfig::new().identity(server).client_ca_root(ca());
    let kitchen = Replica::secured(&Arc::new(Seen::default()), server).await;

    let directory = tempfile::tempdir().expect("a directory");
    let stranger = Authority::new().certify("the door");
    let (certificate, key) = stranger.write(directory.path(), "door");
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, authority.certificate()).expect("written");
    let files = ClientFiles { ca, certificate, key };
    let tls = ClientTls::load("upstream", &files, OFTEN).expect("good files");
    let instead = balanced_over(&tls, &format!("https://localhost:{}", kitchen.address.port()));
    let instead = Some(instead.expect("an address"));
    let house = House::with(Plan { instead, ..Plan::default() }).await;

    let refused = Answer::of(house.get("/v1/dishes/1")).await;
    assert_eq!((refused.status, refused.reason()), (503, "SERVICE_UNAVAILABLE"));
    authority.certify("the door").write(directory.path(), "door");
    eventually(LONG, || async {
        let answer = Answer::of(house.get("/v1/dishes/1")).await;
        if answer.status == 200 { Ok(()) } else { Err(answer.json) }
    })
    .await;
    // What has begun goes on while connections are made anew.
    let mut guest = Guest::talk(&house, house.channel()).await;
    authority.certify("the door").write(directory.path(), "door");
    let start = Instant::now();
    while start.elapsed() < 10 * OFTEN {
        assert_eq!(Answer::of(house.get("/v1/dishes/1")).await.status, 200);
        assert_eq!(guest.say("meanwhile").await, "meanwhile");
    }
}

#[tokio::test]
async fn files_that_make_no_tls_are_refused_at_the_start() {
    let authority = Authority::new();
    let kept = Files::for_clients_of(&authority);
    let good = kept.files.clone();
    let load =
        |files: &ServerFiles| ServerTls::load("gateway", files, OFTEN).map(|tls| tls.is_some());
    assert!(!load(&ServerFiles::default()).expect("no TLS is wanted"));
    let nowhere = PathBuf::from("/nowhere/door.pem");
    let empty = PathBuf::new;
    for (files, why) in [
        (ServerFiles { key: empty(), ..good.clone() }, "certificate and key go together"),
        (ServerFiles { certificate: empty(), ..good.clone() }, "certificate and key go together"),
        (
            ServerFiles { certificate: empty(), key: empty(), ..good.clone() },
            "client_ca is set, but no certificate",
        ),
        (ServerFiles { certificate: nowhere, ..good }, "cannot read /nowhere/door.pem"),
    ] {
        let refused = load(&files).expect_err(why).to_string();
        assert!(refused.starts_with(why), "{refused}");
    }
}
