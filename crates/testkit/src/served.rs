//! One context's services behind the platform's own server, with an issuer of tokens.

use kernel::Role;
use platform::auth::{AuthConfig, ServiceTokens, Verifier};
use platform::issuer::{Issuer, SECRET};
use platform::server::{Readiness, Routes, ServerConfig, serve};
use platform::shutdown::Shutdown;
use proto::payment::v1::payment_service_client::PaymentServiceClient;
use tokio::net::TcpListener;

use crate::{Bearer, PaymentClient};

const AUDIENCE: &str = "house";

/// Routes that are served on loopback, until this is dropped.
pub struct Served {
    address: String,
    issuer: Issuer,
    shutdown: Shutdown,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

impl Served {
    /// Serves these routes.
    ///
    /// # Panics
    /// When there is no port left.
    pub async fn start(routes: Routes) -> Self {
        let (issuer_at, issuer_url) = listener().await;
        let issuer = Issuer::new(format!("http://{issuer_url}"), AUDIENCE);
        let router = issuer.clone().router();
        tokio::spawn(async move { axum::serve(issuer_at, router).await });

        let (listener, address) = listener().await;
        let shutdown = Shutdown::new();
        tokio::spawn(serve(
            listener,
            vec![routes],
            Verifier::discover(AuthConfig::new(issuer.url(), AUDIENCE)),
            Readiness::new(),
            proto::FILE_DESCRIPTOR_SET,
            ServerConfig::default(),
            shutdown.clone(),
        ));
        Self { address, issuer, shutdown }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where a service gets its tokens.
    #[must_use]
    pub fn tokens(&self, service: &str) -> ServiceTokens {
        ServiceTokens::new(self.issuer.url(), service, SECRET)
    }

    /// A plain client of the payment context, with a service's token.
    #[must_use]
    pub fn payment(&self, service: &str) -> PaymentClient {
        let bearer = Bearer::new(&self.issuer.sign(service, Role::Service));
        PaymentServiceClient::with_interceptor(platform::client::channel(&self.address), bearer)
    }
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    (listener, address)
}
