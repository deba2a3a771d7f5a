//! People simulated through the public API.

use crate::Global;
use crate::exit::Exit;

/// Let simulated people ride.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs a scenario.
pub(crate) async fn run(_args: Args, _global: &Global) -> Result<(), Exit> {
    Err(Exit::failed("there are no scenarios yet"))
}
