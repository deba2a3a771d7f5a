//! `taxi issuer`: the development identity provider as a process of its own.

use std::net::SocketAddr;
use std::path::PathBuf;

use platform::issuer::Issuer;

use super::serve_part;
use crate::Global;
use crate::exit::Exit;
use crate::ports;

/// Run the development identity provider; it trusts everybody who knows the word `dev`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen; port 0 lets the kernel choose.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The address by which others call it, when that is not where it listens.
    #[arg(long)]
    url: Option<String>,
    /// Who the tokens are for.
    #[arg(long, default_value = "taxi")]
    audience: String,
    /// Keep the signing keys in this file, so that tokens outlive a restart.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
}

/// Serves until a signal.
pub(crate) async fn run(args: Args, global: &Global) -> Result<(), Exit> {
    let listener = ports::bind(args.listen, "the issuer", "choose another with `--listen`").await?;
    let here = format!("http://{}", ports::address(&listener)?);
    let url = args.url.map_or(here, |url| url.trim_end_matches('/').to_owned());
    let issuer = match &args.data {
        None => Issuer::new(&url, args.audience),
        Some(file) => Issuer::load_or_create(&url, args.audience, file).map_err(|error| {
            let file = file.display();
            Exit::cannot_create(format!("the keys in {file} cannot be used: {error}"))
        })?,
    };
    serve_part("issuer", listener, issuer.router(), url, global).await
}
