//! `bench`: how fast, and against what.
//!
//! ```text
//! cargo run --release -p bench -- ride [--rounds 5] [--seconds 5] [--rate 100] [--streams 200]
//! cargo run --release -p bench -- catchup [--rounds 5] [--events 100000] [--requests 20000]
//! cargo run --release -p bench -- freshness [--rate 100] [--seconds 30]
//! cargo run --release -p bench -- breaker [--only stack|mesh] [--rounds 5]
//! cargo run --release -p bench -- gateway [--rounds 5] [--seconds 4] [--callers 16] [--rate 200]
//! ```
//!
//! Figures of one machine mean nothing on another, so whatever can be is a ratio to something that
//! ran on the same machine in the same minute. The table goes to stdout, progress to stderr.
//!
//! * [`ride`]: requests beside [`pgbench`], whole rides, memory, and how soon a context is ready;
//! * [`catchup`]: consumers that were away, beside one that only fetches;
//! * [`freshness`]: how soon an event is in the stream and in the dashboard;
//! * [`breaker`]: what payment in trouble costs its callers and those who do not even call it;
//! * [`gateway`]: what the gateway costs its callers, by REST, gRPC and gRPC-Web.
//!
//! All of them happen in a [`city`]: a mesh with a `taxi serve` process for each context, on a
//! Postgres that really waits for its disk. [`stream`] and [`tables`] look behind its doors.

mod binary;
mod breaker;
mod catchup;
mod city;
mod freshness;
mod gateway;
mod offer;
mod pgbench;
mod process;
mod ride;
mod rides;
mod stats;
mod stream;
mod table;
mod tables;

use std::error::Error;
use std::fmt::Display;
use std::process::ExitCode;

use clap::Parser;
use serde::Serialize;

/// What went wrong; nobody handles it but the person who reads it.
pub(crate) type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

#[derive(Debug, Parser)]
#[command(name = "bench", about = "How fast, and against what.")]
enum Command {
    /// Requests, whole rides and the dashboard, beside pgbench on the same Postgres.
    Ride(ride::Options),
    /// Consumers that were away catch up, beside one that only fetches.
    Catchup(catchup::Options),
    /// How soon an event is in the stream and in the dashboard, at so many rides a second.
    Freshness(freshness::Options),
    /// Payment fails, hangs and comes back: the client stack alone, and the whole mesh.
    Breaker(breaker::Options),
    /// The gateway in front of the mesh, and in front of nothing but an echo.
    Gateway(gateway::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Ride(options) => ride::run(&options).await,
        Command::Catchup(options) => catchup::run(&options).await,
        Command::Freshness(options) => freshness::run(&options).await,
        Command::Breaker(options) => breaker::run(&options).await,
        Command::Gateway(options) => gateway::run(&options).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a report, as a table or as JSON.
pub(crate) fn print(report: &(impl Display + Serialize), json: bool) -> Result<()> {
    match json {
        true => println!("{}", serde_json::to_string_pretty(report)?),
        false => print!("{report}"),
    }
    Ok(())
}
