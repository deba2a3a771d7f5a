//! What can be set.

use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;
use platform::config::duration;
use serde::{Deserialize, Serialize};

/// How the door treats its callers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayConfig {
    /// How long an answer may take when the caller does not say.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// Methods without a `google.api.http` rule that can be called by gRPC all the same:
    /// `package.Service/Method`.
    pub open_methods: Vec<String>,
    /// The web pages that may call: `https://app.example.com`, or `*` for all.
    pub cors_origins: Vec<String>,
    /// The networks of proxies whose `X-Forwarded-*` count.
    pub trusted_proxies: Vec<IpNet>,
    /// Requests of one principal.
    pub per_principal: Rate,
    /// Requests from one address.
    pub per_address: Rate,
    /// Streams of one principal at the same time.
    pub streams_per_principal: usize,
    /// Connections at the same time; more have to wait.
    pub connections: usize,
    /// Connections from one address that is no trusted proxy; more are closed.
    pub connections_per_address: usize,
    /// How long a client may take for the headers of a request.
    #[serde(with = "duration")]
    pub header_timeout: Duration,
    /// How long a client may take for the body of a request.
    #[serde(with = "duration")]
    pub body_timeout: Duration,
    /// How long a client may take nothing of what we have for it.
    #[serde(with = "duration")]
    pub write_timeout: Duration,
}

/// How many requests are allowed: so many each second, and so many at once after a pause.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// In the long run.
    pub per_second: NonZeroU32,
    /// At once.
    pub burst: NonZeroU32,
}

impl Rate {
    /// A rate with a burst of twice as many.
    const fn twice(per_second: NonZeroU32) -> Rate {
        Rate { per_second, burst: per_second.saturating_add(per_second.get()) }
    }
}

impl Default for GatewayConfig {
    fn default() -> GatewayConfig {
        const FIFTY: NonZeroU32 = NonZeroU32::MIN.saturating_add(49);
        const THOUSAND: NonZeroU32 = NonZeroU32::MIN.saturating_add(999);
        GatewayConfig {
            timeout: Duration::from_secs(15),
            open_methods: Vec::new(),
            cors_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            per_principal: Rate::twice(FIFTY),
            per_address: Rate::twice(THOUSAND),
            streams_per_principal: 20,
            connections: 10_000,
            connections_per_address: 500,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(20),
        }
    }
}
