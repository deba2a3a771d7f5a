//! A whole house: an issuer, replicas, and the door before them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gateway::routes::RouteTable;
use gateway::{Gateway, GatewayConfig, Upstreams};
use kernel::Role;
use platform::auth::{AuthConfig, Verifier};
use platform::client::{Balanced, balanced};
use platform::issuer::Issuer;
use platform::server::ServerConfig;
use platform::shutdown::Shutdown;
use platform::tls::{Listener, ServerTls};
use prost_reflect::DescriptorPool;
use protox::Compiler;
use protox::file::{ChainFileResolver, GoogleFileResolver, IncludeFileResolver};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

use crate::kitchen::{Replica, Seen};

pub(crate) const KITCHEN: &str = "door.v1.Kitchen";
pub(crate) const CELLAR: &str = "door.v1.Cellar";
/// More than any test takes.
pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) struct House {
    pub(crate) issuer: Issuer,
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: Shutdown,
    pub(crate) served: JoinHandle<()>,
    pub(crate) seen: Arc<Seen>,
    /// Kitchens, then the cellar.
    pub(crate) kitchens: Vec<Replica>,
    pub(crate) cellar: Replica,
}

/// What of a house can be otherwise.
pub(crate) struct Plan {
    pub(crate) config: GatewayConfig,
    pub(crate) server: ServerConfig,
    pub(crate) kitchens: &'static [&'static str],
    pub(crate) beside: axum::Router,
    pub(crate) tls: Option<ServerTls>,
    /// Who answers for the kitchen instead of its replicas.
    pub(crate) instead: Option<Balanced>,
}

impl Default for Plan {
    fn default() -> Plan {
        let open_methods = vec![format!("{KITCHEN}/Chat")];
        Plan {
            config: GatewayConfig { open_methods, ..GatewayConfig::default() },
            server: ServerConfig::default(),
            kitchens: &["anna"],
            beside: axum::Router::new(),
            tls: None,
            instead: None,
        }
    }
}

impl House {
    pub(crate) async fn open() -> House {
        House::with(Plan::default()).await
    }

    pub(crate) async fn with(plan: Plan) -> House {
        let (issuer, verifier) = issuer().await;
        let seen = Arc::new(Seen::default());
        let mut kitchens = Vec::new();
        for cook in plan.kitchens {
            kitchens.push(Replica::start(cook, &seen).await);
        }
        let cellar = Replica::start("carl", &seen).await;
        let kitchen = plan.instead.unwrap_or_else(|| channel(&kitchens));
        let upstreams = Upstreams::new().with("the kitchen", kitchen, [KITCHEN]).with(
            "the cellar",
            channel(std::slice::from_ref(&cellar)),
            [CELLAR],
        );
        let table = Arc::new(RouteTable::new(&protos()).expect("good rules"));
        let gateway = Gateway::new(table, upstreams, verifier, plan.config, plan.server);
        let gateway = gateway.expect("a gateway").beside(plan.beside);
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = tcp.local_addr().expect("an address");
        let shutdown = Shutdown::new();
        let listener = Listener { tcp, tls: plan.tls };
        let served = tokio::spawn(gateway.serve(listener, shutdown.clone()));
        House { issuer, address, shutdown, served, seen, kitchens, cellar }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn token(&self, subject: &str) -> String {
        self.issuer.sign(subject, Role::Customer)
    }

    /// A channel to the door.
    pub(crate) fn channel(&self) -> Channel {
        Endpoint::from_shared(self.url("")).expect("an address").connect_lazy()
    }
}

async fn issuer() -> (Issuer, Verifier) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let issuer = Issuer::new(url.clone(), "house");
    let router = issuer.clone().router();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (issuer, Verifier::discover(AuthConfig::new(url, "house")))
}

/// A channel to any of these.
fn channel(replicas: &[Replica]) -> Balanced {
    let addresses: Vec<String> = replicas.iter().map(|it| it.address.to_string()).collect();
    balanced(&addresses.join(",")).expect("addresses")
}

pub(crate) fn protos() -> DescriptorPool {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut resolver = ChainFileResolver::new();
    resolver.add(IncludeFileResolver::new(here.join("tests/proto")));
    resolver.add(IncludeFileResolver::new(here.join("../../proto/vendor")));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).include_source_info(true);
    compiler.open_file("door.proto").expect("a proto that compiles");
    let set = compiler.encode_file_descriptor_set();
    DescriptorPool::decode(set.as_slice()).expect("what protox has checked")
}
