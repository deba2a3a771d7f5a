//! `taxi fault`: what goes wrong on purpose in a running `taxi dev`.

use clap::Subcommand;
use reqwest::{Client, Method, Response, StatusCode};
use serde::Deserialize;

use crate::Global;
use crate::client::cause;
use crate::exit::Exit;
use crate::faults::{Row, Rows};
use crate::ready::Ready;

const EXAMPLE: &str = "\
Examples:
  taxi fault ls                              what can go wrong, and what does
  taxi fault set payment.latency=2s          the payment service takes its time
  taxi fault set provider.lose_answers=0.5   every second fee is taken without a word
  taxi fault clear                           all is well again";

/// Let something go wrong on purpose in a running `taxi dev`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Set(Set),
    Clear(Clear),
    /// List all faults there are, and how they are set.
    Ls,
}

/// Set faults, and print them.
#[derive(Debug, clap::Args)]
struct Set {
    /// Which, and to what; a name alone is set to true.
    #[arg(required = true, value_name = "NAME=VALUE")]
    settings: Vec<String>,
}

/// Take faults back; all of them when none is named.
#[derive(Debug, clap::Args)]
struct Clear {
    /// Which.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

/// Does what was asked for.
pub(crate) async fn run(args: Args, global: &Global) -> Result<(), Exit> {
    let door = Door::find(global)?;
    match args.command {
        Command::Set(args) => set(&door, &args, global).await,
        Command::Clear(args) => clear(&door, &args).await,
        Command::Ls => print(&door.rows().await?, global),
    }
}

async fn set(door: &Door, args: &Set, global: &Global) -> Result<(), Exit> {
    let mut names = Vec::new();
    for setting in &args.settings {
        let (name, value) = setting.split_once('=').unwrap_or((setting, "true"));
        door.set(name, value).await?;
        names.push(name);
    }
    let mut rows = door.rows().await?;
    rows.retain(|row| names.contains(&row.name.as_str()));
    print(&rows, global)
}

async fn clear(door: &Door, args: &Clear) -> Result<(), Exit> {
    if args.names.is_empty() {
        door.ask(Method::DELETE, None, "").await?;
    }
    for name in &args.names {
        door.clear(name).await?;
    }
    Ok(())
}

fn print(rows: &[Row], global: &Global) -> Result<(), Exit> {
    global.output.list(["fault", "value", "takes", "what it does"], rows, |row| {
        [
            row.name.clone(),
            row.value.clone().unwrap_or_else(|| "-".to_owned()),
            row.takes.clone(),
            row.about.clone(),
        ]
    })
}

/// The door of a running `taxi dev`.
pub(super) struct Door {
    http: Client,
    url: String,
}

/// What the door says when it refuses.
#[derive(Deserialize)]
struct Refusal {
    error: String,
}

impl Door {
    fn find(global: &Global) -> Result<Door, Exit> {
        Door::of(&global.mesh()?)
    }

    /// The door of this mesh, if it can be one of `taxi dev`.
    pub(super) fn of(mesh: &Ready) -> Result<Door, Exit> {
        let gateway = mesh.gateway.as_ref().ok_or_else(development_only)?;
        Ok(Door { http: mesh.trust.http()?, url: format!("{gateway}/dev/faults") })
    }

    /// All faults there are, and how they are set.
    pub(super) async fn rows(&self) -> Result<Vec<Row>, Exit> {
        let answer = self.ask(Method::GET, None, "").await?;
        answer.json::<Rows>().await.map(|rows| rows.faults).map_err(|error| self.away(&error))
    }

    /// Sets a fault to this value.
    pub(super) async fn set(&self, name: &str, value: &str) -> Result<(), Exit> {
        self.ask(Method::PUT, Some(name), value).await.map(drop)
    }

    /// Takes a fault back.
    pub(super) async fn clear(&self, name: &str) -> Result<(), Exit> {
        self.ask(Method::DELETE, Some(name), "").await.map(drop)
    }

    async fn ask(&self, method: Method, name: Option<&str>, value: &str) -> Result<Response, Exit> {
        let mut url = reqwest::Url::parse(&self.url)
            .map_err(|error| Exit::config(format!("{} is no address: {error}", self.url)))?;
        if let (Some(name), Ok(mut path)) = (name, url.path_segments_mut()) {
            path.push(name);
        }
        let answer = self.http.request(method, url).body(value.to_owned()).send().await;
        let answer = answer.map_err(|error| self.away(&error))?;
        match answer.status() {
            status if status.is_success() => Ok(answer),
            StatusCode::NOT_FOUND => Err(development_only()),
            status => {
                let why = answer.json::<Refusal>().await;
                let why = why.map_or_else(|_| status.to_string(), |refusal| refusal.error);
                Err(match status {
                    StatusCode::BAD_REQUEST => Exit::usage(why),
                    _ => Exit::unavailable(why),
                })
            }
        }
    }

    fn away(&self, error: &reqwest::Error) -> Exit {
        let why = cause(error);
        Exit::unavailable(format!(
            "{} does not answer ({why}): start a mesh with `taxi dev`",
            self.url
        ))
    }
}

fn development_only() -> Exit {
    Exit::not_allowed("faults are for development: only a mesh of `taxi dev` has them")
}
