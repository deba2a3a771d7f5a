//! Layered configuration: defaults, a file, the environment, the command line; later wins.
//!
//! Start strict: a key that nobody knows is an error, in one sentence that names the key and where
//! it came from. Structs of configuration therefore derive `Deserialize` with
//! `#[serde(deny_unknown_fields)]`, and write durations with [`duration`]:
//!
//! ```
//! # use std::time::Duration;
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Kitchen {
//!     #[serde(with = "platform::config::duration")]
//!     patience: Duration,
//! }
//! let kitchen = platform::config::load::<Kitchen>(
//!     r#"patience = "10m""#,
//!     None,
//!     "KITCHEN_",
//!     figment::value::Dict::new(),
//! )?;
//! assert_eq!(kitchen.value.patience, Duration::from_secs(600));
//! # Ok::<(), platform::config::ConfigError>(())
//! ```

use std::path::Path;

use figment::providers::{Env, Format as _, Serialized, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Where the defaults come from, in messages.
const DEFAULTS: &str = "the defaults";
/// Where the overrides come from, in messages.
const COMMAND_LINE: &str = "the command line";
/// Variables with the prefix that are not configuration: whom the command line trusts, where the file
/// is, and the log filter.
const NOT_CONFIGURATION: &[&str] = &["ca", "config", "log"];
/// What stands for a value that nobody should read.
const MASK: &str = "********";

/// Why there is no configuration: sentences for a person, one a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    /// A value makes no sense, for a reason that only its reader knows.
    pub fn new(sentence: impl Into<String>) -> ConfigError {
        ConfigError(sentence.into())
    }
}

/// A configuration, and where each of its values came from.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The configuration.
    pub value: T,
    /// The layers it was made from.
    pub figment: Figment,
}

/// Loads a configuration from all its layers. Environment variables start with `env_prefix` and
/// separate levels with two underscores: `TAXI_SERVER__CONCURRENCY`. `overrides` is what the
/// command line says, as anything that serialises to a table.
pub fn load<T: DeserializeOwned>(
    defaults_toml: &str,
    file: Option<&Path>,
    env_prefix: &str,
    overrides: impl Serialize,
) -> Result<Loaded<T>, ConfigError> {
    let mut figment = Figment::from(Layer::new(DEFAULTS, Toml::string(defaults_toml)));
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError(format!("cannot read {}: {error}", path.display())))?;
        figment = figment.merge(Layer::new(path.display().to_string(), Toml::string(&text)));
    }
    let env = Env::prefixed(env_prefix).ignore(NOT_CONFIGURATION).split("__");
    figment = figment
        .merge(Layer { env_prefix: Some(env_prefix.to_owned()), ..Layer::new("", env) })
        .merge(Layer::new(COMMAND_LINE, Serialized::defaults(overrides)));
    match figment.extract() {
        Ok(value) => Ok(Loaded { value, figment }),
        Err(errors) => {
            let sentences: Vec<String> = errors.into_iter().map(|error| sentence(&error)).collect();
            Err(ConfigError(sentences.join("\n")))
        }
    }
}

impl<T> Loaded<T> {
    /// Every effective value as (key, value, source), sorted by key, with secrets masked.
    pub fn sources(&self) -> Vec<(String, String, String)> {
        let mut sources = Vec::new();
        if let Ok(root) = self.figment.extract::<Value>() {
            self.collect(&mut Vec::new(), &root, &mut sources);
        }
        sources
    }

    fn collect(
        &self,
        path: &mut Vec<String>,
        value: &Value,
        into: &mut Vec<(String, String, String)>,
    ) {
        match value {
            Value::Dict(_, dict) => {
                for (key, value) in dict {
                    path.push(key.clone());
                    self.collect(path, value, into);
                    path.pop();
                }
            }
            value => {
                let metadata = self.figment.get_metadata(value.tag());
                let source = metadata.map_or_else(String::new, |it| source(it, path));
                let shown = serde_json::to_string(value).unwrap_or_default();
                into.push((path.join("."), masked(path, shown), source));
            }
        }
    }
}

/// A provider under a name that a person knows it by.
struct Layer<P> {
    name: String,
    env_prefix: Option<String>,
    provider: P,
}

impl<P> Layer<P> {
    fn new(name: impl Into<String>, provider: P) -> Layer<P> {
        Layer { name: name.into(), env_prefix: None, provider }
    }
}

impl<P: Provider> Provider for Layer<P> {
    fn metadata(&self) -> Metadata {
        let (name, env_prefix) = (self.name.clone(), self.env_prefix.clone());
        // The interpolater is figment's hook for "how is this key written in this source".
        Metadata::named(self.name.clone()).interpolater(move |_: &Profile, keys: &[&str]| {
            match &env_prefix {
                Some(prefix) => {
                    format!("environment variable {prefix}{}", keys.join("__").to_uppercase())
                }
                None => name.clone(),
            }
        })
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        self.provider.data()
    }
}

fn source(metadata: &Metadata, path: &[String]) -> String {
    metadata.interpolate(&Profile::Default, path)
}

fn sentence(error: &figment::Error) -> String {
    use figment::error::Kind;
    let key = error.path.join(".");
    let from = error.metadata.as_ref().map(|it| format!(" ({})", source(it, &error.path)));
    let from = from.unwrap_or_default();
    match &error.kind {
        Kind::UnknownField(_, []) => format!("unknown key {key}{from}"),
        Kind::UnknownField(_, known) => {
            format!("unknown key {key}{from}: known here are {}", known.join(", "))
        }
        Kind::MissingField(field) if key.is_empty() => format!("{field} is not set anywhere"),
        Kind::MissingField(field) => format!("{key}.{field} is not set anywhere"),
        kind if key.is_empty() => format!("{kind}{from}"),
        kind => format!("{key}{from}: {kind}"),
    }
}

fn masked(path: &[String], shown: String) -> String {
    let key = path.last().map(|key| key.to_lowercase()).unwrap_or_default();
    if ["secret", "password", "token"].iter().any(|word| key.contains(word)) {
        return MASK.to_owned();
    }
    // scheme://user:password@host
    let password = shown.find("://").and_then(|scheme| {
        let from = scheme + 3;
        let authority = shown[from..].split(['/', '?', '#', '"']).next()?;
        let at = from + authority.rfind('@')?;
        let colon = from + shown[from..at].find(':')?;
        Some(colon + 1..at)
    });
    match password {
        Some(range) => format!("{}{MASK}{}", &shown[..range.start], &shown[range.end..]),
        None => shown,
    }
}

/// Durations as people write them: `250ms`, `5s`, `10m`, `1h`; for `#[serde(with = ..)]`.
pub mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

    /// Parses a whole number and its unit.
    pub fn parse(text: &str) -> Option<Duration> {
        let digits = text.find(|c: char| !c.is_ascii_digit())?;
        let (count, unit) = text.split_at(digits);
        let (_, millis) = UNITS.into_iter().find(|(name, _)| *name == unit.trim_start())?;
        count.parse::<u64>().ok()?.checked_mul(millis).map(Duration::from_millis)
    }

    /// Reads a duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| {
            de::Error::custom(format!("{text:?} is no duration such as 250ms, 5s, 10m or 1h"))
        })
    }

    /// Writes a duration, in the largest unit that keeps it whole.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let fits = |(_, unit): &&(&str, u64)| millis >= *unit && millis.is_multiple_of(*unit);
        let (name, unit) = UNITS.iter().rev().find(fits).unwrap_or(&UNITS[0]);
        serializer.collect_str(&format_args!("{}{name}", millis / unit))
    }
}

#[cfg(test)]
#[expect(
    clippy::result_large_err,
    reason = "figment's jail, which isolates the environment, asks for it"
)]
mod tests {
    use std::time::Duration;

    use figment::Jail;
    use serde::Deserialize;

    use super::*;

    const DEFAULTS_TOML: &str = r#"
        name = "here"
        [server]
        concurrency = 100
        patience = "5s"
        [database]
        url = "postgres://app:hunter2@db/app"
        password = "hunter2"
    "#;

    #[derive(Debug, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    struct House {
        name: String,
        server: Server,
        database: Database,
    }

    #[derive(Debug, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    struct Server {
        concurrency: usize,
        #[serde(with = "duration")]
        patience: Duration,
    }

    #[derive(Debug, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    struct Database {
        url: String,
        password: String,
    }

    fn from(file: Option<&str>) -> Result<Loaded<House>, ConfigError> {
        load(DEFAULTS_TOML, file.map(Path::new), "HOUSE_", Dict::new())
    }

    #[test]
    fn the_later_layer_wins_and_is_named() {
        Jail::expect_with(|jail| {
            jail.create_file("house.toml", "name = 'file'\n[server]\nconcurrency = 7")?;
            jail.set_env("HOUSE_SERVER__PATIENCE", "250ms");
            jail.set_env("HOUSE_LOG", "debug");
            let overrides = figment::util::map! { "name" => "arguments" };
            let house =
                load::<House>(DEFAULTS_TOML, Some(Path::new("house.toml")), "HOUSE_", overrides)
                    .expect("a configuration");
            assert_eq!(house.value.name, "arguments");
            assert_eq!(house.value.server.concurrency, 7);
            assert_eq!(house.value.server.patience, Duration::from_millis(250));
            let sources = house.sources();
            let rows: Vec<(&str, &str, &str)> =
                sources.iter().map(|(k, v, s)| (k.as_str(), v.as_str(), s.as_str())).collect();
            assert_eq!(
                rows,
                [
                    ("database.password", MASK, DEFAULTS),
                    ("database.url", r#""postgres://app:********@db/app""#, DEFAULTS),
                    ("name", r#""arguments""#, COMMAND_LINE),
                    ("server.concurrency", "7", "house.toml"),
                    (
                        "server.patience",
                        r#""250ms""#,
                        "environment variable HOUSE_SERVER__PATIENCE"
                    ),
                ]
            );
            Ok(())
        });
    }

    #[test]
    fn an_unknown_key_is_an_error_that_says_where() {
        Jail::expect_with(|jail| {
            jail.create_file("house.toml", "[server]\nconcurency = 7")?;
            let error = from(Some("house.toml")).expect_err("a typing error").to_string();
            assert_eq!(
                error,
                "unknown key server.concurency (house.toml): known here are concurrency, patience"
            );
            jail.set_env("HOUSE_SERVER__SPEED", "9");
            let error = from(None).expect_err("nobody knows it").to_string();
            assert!(error.contains("(environment variable HOUSE_SERVER__SPEED)"), "{error}");
            Ok(())
        });
    }

    #[test]
    fn a_value_of_the_wrong_type_is_an_error_that_says_where() {
        Jail::expect_with(|jail| {
            jail.set_env("HOUSE_SERVER__CONCURRENCY", "many");
            let error = from(None).expect_err("not a number").to_string();
            assert!(
                error.starts_with(
                    "server.concurrency (environment variable HOUSE_SERVER__CONCURRENCY): "
                ),
                "{error}"
            );
            jail.set_env("HOUSE_SERVER__CONCURRENCY", "9");
            jail.set_env("HOUSE_SERVER__PATIENCE", "soon");
            let error = from(None).expect_err("no duration").to_string();
            assert!(error.contains(r#""soon" is no duration such as 250ms"#), "{error}");
            Ok(())
        });
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error() {
        let error = from(Some("/nowhere/house.toml")).expect_err("no file").to_string();
        assert!(error.starts_with("cannot read /nowhere/house.toml: "), "{error}");
    }

    #[test]
    fn durations_read_and_write() {
        for (text, millis) in [("250ms", 250), ("5s", 5_000), ("10m", 600_000), ("1h", 3_600_000)] {
            let duration = duration::parse(text).expect("a duration");
            assert_eq!(duration, Duration::from_millis(millis));
            let written = duration::serialize(&duration, serde_json::value::Serializer);
            assert_eq!(written.expect("text"), text);
        }
        assert_eq!(duration::parse("10 min"), None);
        assert_eq!(duration::parse("10 m"), Some(Duration::from_secs(600)));
        for text in ["", "5", "s", "-5s", "1.5s", "5 weeks"] {
            assert_eq!(duration::parse(text), None, "{text}");
        }
    }
}
