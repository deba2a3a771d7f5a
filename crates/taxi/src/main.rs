//! `taxi`: the whole service in one program.
//!
//! | command | does |
//! |---|---|
//! | `dev` | runs everything on this machine: all contexts, a broker, tokens, a payment provider |
//! | `serve`, `migrate`, `config` | run contexts in production, prepare their databases, explain |
//! | `rebuild` | checks a view against its events, and puts it right |
//! | `outbox`, `parked` | events on their way out, and those that could not be applied |
//! | `call`, `list`, `describe`, `token` | speak to a running mesh from the command line |
//! | `demo` | people simulated through the public API |
//! | `fault` | what goes wrong on purpose in `taxi dev` |
//! | `issuer`, `provider-sim` | the development parts as processes of their own |
//!
//! Data goes to stdout, everything else to stderr; the exit codes are in [`exit`].

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use platform::telemetry;
use tracing::Level;

mod client;
mod cmd;
mod codec;
mod config;
mod contexts;
mod exit;
mod faults;
mod gateway;
mod http;
mod mesh;
mod operator;
mod output;
mod ports;
mod provider_sim;
mod ready;
#[cfg(test)]
mod reference;
mod reflection;
mod survey;
mod time;
mod tls;

use client::Trust;
use cmd::{
    call, demo, describe, dev, fault, issuer, list, migrate, outbox, parked, rebuild, serve, token,
};
use exit::Exit;
use ready::Ready;

/// 택시: an open ride-hailing backend.
#[derive(Debug, Parser)]
#[command(name = "taxi", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Global {
    /// How data is printed: table, json or jsonl.
    #[arg(short, long, global = true, value_enum, default_value_t, hide_possible_values = true)]
    pub(crate) output: output::Format,
    /// The file with the addresses of a mesh: written by what serves, read by what calls.
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) ready_file: Option<PathBuf>,
    /// The authorities (PEM) whose servers are called by `https://`; without it, those that web
    /// browsers trust.
    #[arg(long, global = true, env = "TAXI_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl Global {
    /// The running mesh, to be called.
    pub(crate) fn mesh(&self) -> Result<Ready, Exit> {
        let trust = self.ca.as_deref().map_or_else(|| Ok(Trust::default()), Trust::only)?;
        Ok(Ready { trust, ..ready::find(self.ready_file.as_deref())? })
    }
}

/// What it can do.
#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Server(Server),
    #[command(flatten)]
    Work(Work),
}

/// What runs until a signal, and then stops cleanly.
#[derive(Debug, Subcommand)]
enum Server {
    Dev(dev::Args),
    Serve(serve::Args),
    Issuer(issuer::Args),
    ProviderSim(cmd::provider_sim::Args),
}

/// What ends by itself, or at once when it is interrupted.
#[derive(Debug, Subcommand)]
enum Work {
    Migrate(migrate::Args),
    Config(cmd::config::Args),
    Rebuild(rebuild::Args),
    Outbox(outbox::Args),
    Parked(parked::Args),
    Demo(demo::Args),
    Fault(fault::Args),
    Call(call::Args),
    /// List the methods that the running mesh offers.
    List,
    Describe(describe::Args),
    Token(token::Args),
    Openapi(cmd::openapi::Args),
    /// Print the completions for a shell, as in `source <(taxi completions bash)`.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    let ended = match start_telemetry(&command) {
        Ok(export) => {
            let ended = run(command, &global).await;
            export.flush().await;
            ended
        }
        Err(exit) => Err(exit),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => exit.report(),
    }
}

/// Production speaks to a log collector, all else to a person who came for something else. What serves
/// has traces to export.
fn start_telemetry(command: &Command) -> Result<telemetry::Export, Exit> {
    let (format, level) = match command {
        Command::Server(Server::Serve(args)) => (args.log_format(), Level::INFO),
        _ => (telemetry::Format::Pretty, Level::WARN),
    };
    telemetry::init(format, level)?;
    let service = match command {
        Command::Server(Server::Dev(_)) => "taxi".to_owned(),
        Command::Server(Server::Serve(args)) => args.service_name(),
        _ => return Ok(telemetry::Export::default()),
    };
    Ok(telemetry::Export::start(&service, env!("CARGO_PKG_VERSION"))?)
}

async fn run(command: Command, global: &Global) -> Result<(), Exit> {
    match command {
        Command::Server(command) => serve(command, global).await,
        Command::Work(command) => tokio::select! {
            ended = work(command, global) => ended,
            _ = tokio::signal::ctrl_c() => Err(Exit::interrupted()),
        },
    }
}

async fn serve(command: Server, global: &Global) -> Result<(), Exit> {
    match command {
        Server::Dev(args) => dev::run(args, global).await,
        Server::Serve(args) => serve::run(args, global).await,
        Server::Issuer(args) => issuer::run(args, global).await,
        Server::ProviderSim(args) => cmd::provider_sim::run(args, global).await,
    }
}

async fn work(command: Work, global: &Global) -> Result<(), Exit> {
    match command {
        Work::Migrate(args) => migrate::run(args, global).await,
        Work::Config(args) => cmd::config::run(args, global),
        Work::Rebuild(args) => rebuild::run(args, global).await,
        Work::Outbox(args) => outbox::run(args, global).await,
        Work::Parked(args) => parked::run(args, global).await,
        Work::Demo(args) => demo::run(args, global).await,
        Work::Fault(args) => fault::run(args, global).await,
        Work::Call(args) => call::run(args, global).await,
        Work::List => list::run(global).await,
        Work::Describe(args) => describe::run(args, global).await,
        Work::Token(args) => token::run(args, global).await,
        Work::Openapi(args) => cmd::openapi::run(&args, global),
        Work::Completions { shell } => completions(shell),
    }
}

fn completions(shell: clap_complete::Shell) -> Result<(), Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "taxi", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_makes_sense() {
        Cli::command().debug_assert();
    }
}
