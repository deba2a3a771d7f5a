//! `taxi provider-sim`: the simulated payment provider as a process of its own.

use std::net::SocketAddr;
use std::path::PathBuf;

use platform::webhooks::Secret;

use super::serve_part;
use crate::Global;
use crate::exit::Exit;
use crate::ports;
use crate::provider_sim::{Provider, Webhooks};

/// Run the simulated payment provider; it takes money from nobody.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen; port 0 lets the kernel choose.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The file of its log; made when missing.
    #[arg(long, value_name = "FILE", default_value = ".taxi/provider.db")]
    data: PathBuf,
    /// Where to send webhooks to; none are sent without it.
    #[arg(long, value_name = "URL", requires = "webhook_secret")]
    webhook_url: Option<String>,
    /// What to sign webhooks with, such as `whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw`.
    #[arg(long, value_name = "SECRET")]
    webhook_secret: Option<Secret>,
    /// What faults that happen by chance follow from.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl Args {
    fn webhooks(&self) -> Option<Webhooks> {
        let (url, secret) = (self.webhook_url.clone()?, self.webhook_secret.clone()?);
        Some(Webhooks::new(url, secret))
    }
}

/// Serves until a signal.
pub(crate) async fn run(args: Args, global: &Global) -> Result<(), Exit> {
    let advice = "choose another with `--listen`";
    let listener = ports::bind(args.listen, "the payment provider", advice).await?;
    let url = format!("http://{}", ports::address(&listener)?);
    let provider = Provider::open(&args.data, args.seed, args.webhooks()).await?;
    serve_part("provider", listener, provider.router(), url, global).await
}
