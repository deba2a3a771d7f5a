//! `bench breaker`: what a payment service in trouble costs those who need it, and those who do not.
//!
//! * [`stack`]: the client stack of `pay_fee` with the defaults of the configuration, against a
//!   [payment service](house) that fails, is silent, is flaky and comes back, as it is told;
//! * [`mesh`]: all contexts, under a fixed rate of requests and of finished drivings, while payment
//!   hangs, while the payment provider hangs, and in turns with that while all is well.
//!
//! Then everything is well again, and the provider's own log says whether every fee was taken
//! exactly once. If not, the exit code is 1; a goal that is missed is only said.

mod fees;
mod gauge;
mod house;
mod load;
mod mesh;
mod report;
mod stack;

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use figment::Figment;
use figment::providers::{Format, Toml};
use platform::client::CallPolicy;
use platform::config::duration;
use serde::Deserialize;

use crate::city::City;
use crate::process::Machine;
use crate::{Result, binary, print};

use self::report::Report;

/// Every setting with its default.
const DEFAULTS: &str = include_str!("../../taxi/src/config.default.toml");

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How many times each thing is measured; medians count.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Only these parts.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Part::value_variants().to_vec())]
    only: Vec<Part>,
    /// Of the stack: calls in each round of each trouble.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(100..))]
    calls: u32,
    /// Of the stack: calls a second.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// Of the mesh: how long each round of each trouble is.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(3..=600))]
    seconds: u32,
    /// Of the mesh: requests a second.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    requests: u32,
    /// Of the mesh: drivings that finish in a second.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    finishes: u32,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// A `taxi` program, instead of the one that cargo builds.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Stack,
    Mesh,
}

impl Options {
    fn round(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }

    /// Long after the mesh should have ended.
    fn limit(&self) -> Duration {
        let turn = self.round() * 4 + fees::PATIENCE + Duration::from_secs(60);
        Duration::from_secs(300) + turn * 3 * self.rounds
    }
}

/// Runs it.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let policy = pay_fee()?;
    let mut report = Report::new(Machine::now()?, &policy);
    if options.only.contains(&Part::Stack) {
        report.stack = Some(stack::measure(&policy, options).await?);
    }
    if options.only.contains(&Part::Mesh) {
        let binary = binary::find(options.binary.as_deref())?;
        let work = async |city: &mut City| mesh::measure(city, &policy, options).await;
        report.mesh = Some(City::with(&binary, &[], options.limit(), work).await?);
    }
    report.judge();
    print(&report, options.json)?;
    match report.mesh.as_ref().and_then(|mesh| mesh.fees.complaint()) {
        Some(complaint) => Err(complaint.into()),
        None => Ok(()),
    }
}

/// How driving asks payment for the fee, by default.
fn pay_fee() -> Result<CallPolicy> {
    #[derive(Deserialize)]
    struct Payment {
        #[serde(with = "duration")]
        deadline: Duration,
    }
    let defaults = Figment::from(Toml::string(DEFAULTS));
    let Payment { deadline } = defaults.extract_inner("payment")?;
    Ok(CallPolicy { deadline, ..defaults.extract_inner("call.pay_fee")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_make_sense() {
        let policy = pay_fee().expect("a policy");
        assert_eq!(policy.check("call.pay_fee"), Ok(()));
        assert!(!policy.deadline.is_zero());
    }
}
