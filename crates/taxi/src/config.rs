//! The configuration: `config.default.toml`, then a file, then the environment; later wins.
//!
//! `taxi dev` fills in what it starts itself; `taxi serve` insists that somebody has
//! ([`Settings::require`]).

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use platform::auth::AuthConfig;
use platform::broker::BrokerConfig;
use platform::client::CallPolicy;
use platform::config::Loaded;
use platform::db::DbConfig;
use platform::server::ServerConfig;
use serde::Deserialize;

use crate::contexts::{self, Name};
use crate::exit::Exit;
use crate::tls;

/// Every setting with its default, as a person reads them.
pub(crate) const DEFAULTS: &str = include_str!("config.default.toml");
/// What the environment variables start with.
pub(crate) const ENV_PREFIX: &str = "TAXI_";

/// Which file goes over the defaults.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Source {
    /// A configuration file (TOML).
    #[arg(long = "config", env = "TAXI_CONFIG", value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Source {
    /// Reads all layers.
    pub(crate) fn load(&self) -> Result<Loaded<Settings>, Exit> {
        let nothing = figment::value::Dict::new();
        Ok(platform::config::load(DEFAULTS, self.file.as_deref(), ENV_PREFIX, nothing)?)
    }
}

/// All settings; what they mean is written in `config.default.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) auth: AuthConfig,
    pub(crate) service: Service,
    pub(crate) broker: BrokerConfig,
    pub(crate) database: Databases,
    pub(crate) listen: Listen,
    pub(crate) server: ServerConfig,
    pub(crate) upstream: Upstream,
    pub(crate) tls: tls::Files,
    pub(crate) gateway: gateway::GatewayConfig,
    pub(crate) call: Calls,
    pub(crate) allocation: contexts::AllocationConfig,
    pub(crate) fare: contexts::FareConfig,
    pub(crate) payment: contexts::PaymentConfig,
    pub(crate) dashboard: contexts::DashboardConfig,
    pub(crate) message: contexts::MessageConfig,
}

/// Our own client of the issuer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Service {
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
}

/// A database for each context that needs one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Databases {
    pub(crate) allocation: DbConfig,
    pub(crate) driving: DbConfig,
    pub(crate) payment: DbConfig,
    pub(crate) dashboard: DbConfig,
}

/// Host and ports.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listen {
    pub(crate) host: IpAddr,
    pub(crate) allocation: u16,
    pub(crate) driving: u16,
    pub(crate) payment: u16,
    pub(crate) dashboard: u16,
    pub(crate) message: u16,
    pub(crate) gateway: u16,
    pub(crate) admin: u16,
}

/// Addresses of contexts, for their neighbours and for the gateway.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Upstream {
    pub(crate) allocation: String,
    pub(crate) driving: String,
    pub(crate) payment: String,
    pub(crate) dashboard: String,
    pub(crate) message: String,
}

/// How neighbours are called, method by method.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Calls {
    pub(crate) pay_fee: CallPolicy,
}

impl Settings {
    /// How driving asks for the fee.
    pub(crate) fn pay_fee(&self) -> Result<CallPolicy, Exit> {
        let policy = CallPolicy { deadline: self.payment.deadline, ..self.call.pay_fee };
        policy.check("call.pay_fee")?;
        Ok(policy)
    }

    /// Refuses to serve these contexts on assumptions: what they need has to be set.
    pub(crate) fn require(&self, contexts: &[Name]) -> Result<(), Exit> {
        if self.auth.issuer.is_empty() {
            return Err(Exit::config(
                "no issuer is configured, and nothing is served before it is known whose tokens \
                 count: set issuer in [auth], or TAXI_AUTH__ISSUER",
            ));
        }
        if !contexts.is_empty() {
            required("broker.url", &self.broker.url)?;
        }
        for context in contexts {
            if let Some(database) = context.database(&self.database) {
                check_database_url(&format!("database.{context}.url"), &database.url)?;
            }
        }
        if contexts.contains(&Name::Driving) {
            required("service.client_secret", &self.service.client_secret)?;
            platform::client::endpoints(&self.upstream.payment)
                .map_err(|error| Exit::config(format!("upstream.payment: {error}")))?;
            self.pay_fee()?;
        }
        if contexts.contains(&Name::Payment) {
            required("payment.provider_url", &self.payment.provider_url)?;
            self.payment.check().map_err(Exit::config)?;
        }
        Ok(())
    }
}

/// Refuses an empty value.
pub(crate) fn required(key: &str, value: &str) -> Result<(), Exit> {
    if value.is_empty() {
        let variable = format!("{ENV_PREFIX}{}", key.replace('.', "__").to_uppercase());
        return Err(Exit::config(format!("{key} is not set: set it in a file, or as {variable}")));
    }
    Ok(())
}

/// Refuses what is no address of a database; `key` is how the person who set it knows it.
pub(crate) fn check_database_url(key: &str, url: &str) -> Result<(), Exit> {
    required(key, url)?;
    let parsed = reqwest::Url::parse(url);
    match parsed.as_ref().map(reqwest::Url::scheme) {
        Ok("postgres" | "postgresql" | "sqlite") => Ok(()),
        _ => Err(bad_database_url(key)),
    }
}

/// The sentence about a database URL that is none. It does not repeat it: there is a password in it.
pub(crate) fn bad_database_url(key: &str) -> Exit {
    Exit::config(format!(
        "{key} is no database URL: it must look like postgres://user:password@host/database or \
         sqlite://path/to/file.db"
    ))
}

/// The URL of an SQLite file.
pub(crate) fn sqlite_url(file: &Path) -> String {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let mut url = "sqlite://".to_owned();
    for letter in file.to_string_lossy().chars() {
        match letter {
            '%' | '?' | '#' | ' ' => url.push_str(&format!("%{:02X}", u32::from(letter))),
            letter => url.push(letter),
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_complete() {
        let settings = platform::config::load::<Settings>(
            DEFAULTS,
            None,
            "NOBODY_SETS_THIS_",
            figment::value::Dict::new(),
        );
        let settings = settings.expect("complete").value;
        assert_eq!(settings.listen.allocation, 8081);
        let refused = settings.require(&[Name::Allocation]).expect_err("no issuer").to_string();
        assert!(refused.contains("no issuer is configured"), "{refused}");
    }

    #[test]
    fn a_policy_that_makes_no_sense_is_refused_with_its_key() {
        let pay_fee = |overrides: figment::value::Dict| {
            platform::config::load::<Settings>(DEFAULTS, None, "NOBODY_SETS_THIS_", overrides)
                .expect("well-formed")
                .value
                .pay_fee()
        };
        let policy = pay_fee(figment::value::Dict::new()).expect("the defaults make sense");
        assert_eq!((policy.deadline.as_millis(), policy.attempts), (800, 3));
        assert_eq!(policy.breaker, platform::breaker::BreakerConfig::default());
        let short = figment::util::map! { "deadline" => "600ms" };
        let refused = pay_fee(figment::util::map! { "payment".to_owned() => short.into() });
        assert_eq!(
            refused.expect_err("too short").to_string(),
            "call.pay_fee.attempt_timeout is 650ms: it must be above 0 and at most what the whole \
             call may take, 600ms"
        );
    }

    #[test]
    fn a_database_url_is_checked_without_being_repeated() {
        for url in ["postgres://u:hunter2@h/d", "postgresql://h/d", "sqlite:///a/b.db"] {
            assert!(check_database_url("k", url).is_ok(), "{url}");
        }
        for url in ["mysql://u:hunter2@h/d", "hunter2", "postgres//u:hunter2@h"] {
            let refused = check_database_url("--database-url-driving", url).expect_err(url);
            let refused = refused.to_string();
            assert!(refused.starts_with("--database-url-driving is no database URL"), "{refused}");
            assert!(!refused.contains("hunter2"), "{refused}");
        }
        let refused = check_database_url("database.driving.url", "").expect_err("not set");
        assert!(refused.to_string().contains("TAXI_DATABASE__DRIVING__URL"), "{refused}");
    }

    #[test]
    fn any_path_is_an_sqlite_url() {
        assert_eq!(sqlite_url(Path::new("/a b/100%?#.db")), "sqlite:///a%20b/100%25%3F%23.db");
    }
}
