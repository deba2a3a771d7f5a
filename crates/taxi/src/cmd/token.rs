//! `taxi token`: who somebody is, according to the development issuer of a running mesh.

use clap::builder::PossibleValuesParser;
use kernel::Role;
use platform::issuer::SECRET;
use serde::{Deserialize, Serialize};

use crate::Global;
use crate::client::cause;
use crate::exit::Exit;
use crate::ready::Ready;

/// Print a development token.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What the token allows.
    #[arg(long, value_parser = roles())]
    role: String,
    /// Whose token it is, such as C1.
    #[arg(long)]
    sub: String,
}

/// What the issuer answers.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Granted {
    /// The token.
    pub(crate) access_token: String,
    token_type: String,
    expires_in: u64,
    scope: String,
}

/// The roles by the names they have in tokens.
pub(crate) fn roles() -> PossibleValuesParser {
    PossibleValuesParser::new(Role::ALL.map(Role::as_str))
}

/// Prints a token.
pub(crate) async fn run(args: Args, global: &Global) -> Result<(), Exit> {
    let ready = global.mesh()?;
    let granted = issue(&ready, &args.role, &args.sub).await?;
    global.output.item(&granted.access_token, &granted)
}

/// Gets a token from the development issuer of a mesh.
pub(crate) async fn issue(ready: &Ready, role: &str, subject: &str) -> Result<Granted, Exit> {
    let Some(issuer) = ready.issuer.as_ref().or(ready.gateway.as_ref()) else {
        return Err(Exit::unavailable(
            "this mesh has no development issuer: give a token of its own issuer with `--token`",
        ));
    };
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", subject),
        ("client_secret", SECRET),
        ("scope", role),
    ];
    let away = |error: reqwest::Error| {
        let why = cause(&error);
        Exit::unavailable(format!(
            "the issuer at {issuer} does not answer ({why}): start a mesh with `taxi dev`"
        ))
    };
    let asked = ready.trust.http()?.post(format!("{issuer}/oauth2/token")).form(&form).send();
    let answer = asked.await.map_err(away)?;
    if !answer.status().is_success() {
        let why = answer.text().await.unwrap_or_default();
        return Err(Exit::not_allowed(format!("the issuer refuses: {}", why.trim())));
    }
    answer.json().await.map_err(away)
}
