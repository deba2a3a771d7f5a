//! `taxi openapi`: the REST API of the gateway as an OpenAPI 3.1 document.

use crate::exit::Exit;
use crate::{Global, gateway};

/// Print the REST API as an OpenAPI document.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Whose tokens the API takes, such as `https://login.example.com`.
    #[arg(long, value_name = "URL", default_value = "")]
    issuer: String,
}

/// Prints it.
pub(crate) fn run(args: &Args, global: &Global) -> Result<(), Exit> {
    let document = gateway::openapi(&args.issuer)?;
    global.output.item(&format!("{document:#}"), &document)
}
