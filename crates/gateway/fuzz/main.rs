//! Tries the REST door with made-up requests and answers for a while:
//!
//! ```text
//! cargo run --release -p gateway --example fuzz -- --seconds 60 --seed 1
//! ```
//!
//! Prints what it has tried, and each request that the door did wrong. The same seed makes the same
//! requests.

#[path = "mod.rs"]
mod fuzz;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use fuzz::attack::Attack;

/// So many findings are enough to look at.
const ENOUGH: usize = 20;

fn main() -> ExitCode {
    let (Some(seconds), Some(seed)) = (argument("--seconds", 60), argument("--seed", 1)) else {
        eprintln!("usage: fuzz [--seconds N] [--seed N]");
        return ExitCode::from(2);
    };
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut attack = Attack::new(seed);
    while Instant::now() < end && attack.report().findings.len() < ENOUGH {
        attack.step();
    }
    let report = attack.report();
    for finding in &report.findings {
        println!("{finding}");
    }
    println!(
        "seed {seed}: {} requests ({} taken, {} refused), {} answers, {} findings",
        report.tries,
        report.taken,
        report.refused,
        report.answers,
        report.findings.len()
    );
    if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The number behind a name, if it is there.
fn argument(name: &str, default: u64) -> Option<u64> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    match arguments.nth(1) {
        Some(number) => number.parse().ok(),
        None => Some(default),
    }
}
