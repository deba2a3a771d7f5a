//! `taxi parked`: the events that could not be applied, and what becomes of them.
//!
//! An event can be parked by several contexts, each for its own reason. What follows it in the same
//! history waits behind it; everything else goes on. An operator mends the cause and tries it again,
//! or gives it up.

mod discard;
mod retry;
mod shelf;
mod shown;

use std::time::Duration;

use clap::Subcommand;
use kernel::{Clock as _, Timestamp, Uuid};
use platform::clock::SystemClock;
use platform::parked::Model;
use serde::Serialize;

use self::shelf::Shelf;
use self::shown::Shown;
use super::outbox::own_name;
use crate::Global;
use crate::config::Source;
use crate::contexts::Name;
use crate::exit::Exit;
use crate::operator::Addresses;
use crate::survey::{Survey, names};
use crate::time::{age, rfc3339};

const EXAMPLE: &str = "\
Examples:
  taxi parked ls                what waits, and why
  taxi parked show EVENT        all that is known of one of them
  taxi parked retry --all       after the cause is mended: try again, and what is behind follows
  taxi parked drop EVENT        what would be lost; nothing is dropped
  taxi parked drop EVENT --yes  give it up: what is behind follows without it";

/// Look at the events that could not be applied, try them again, or give them up.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Ls(Ls),
    Show(Show),
    Retry(retry::Args),
    Drop(discard::Args),
}

/// List the parked events, in the order of the stream.
#[derive(Debug, clap::Args)]
struct Ls {
    #[command(flatten)]
    source: Source,
    /// Of which contexts; of all when none is named.
    #[arg(hide_possible_values = true)]
    contexts: Vec<Name>,
}

/// Show all that is known of a parked event.
#[derive(Debug, clap::Args)]
struct Show {
    #[command(flatten)]
    contexts: Contexts,
    /// The event's id.
    event: Uuid,
}

/// Where to look.
#[derive(Debug, clap::Args)]
struct Contexts {
    #[command(flatten)]
    source: Source,
    /// Only in this context; may be given several times.
    #[arg(long = "context", value_name = "CONTEXT", hide_possible_values = true)]
    contexts: Vec<Name>,
}

/// Does what was asked for.
pub(crate) async fn run(args: Args, global: &Global) -> Result<(), Exit> {
    match args.command {
        Command::Ls(args) => ls(args, global).await,
        Command::Show(args) => show(args, global).await,
        Command::Retry(args) => retry::run(args, global).await,
        Command::Drop(args) => discard::run(args, global).await,
    }
}

impl Contexts {
    async fn shelves(&self, global: &Global) -> Result<Survey<Shelf>, Exit> {
        shelves(&self.source, &self.contexts, global).await
    }
}

/// Looks at the shelves of these contexts, or of all.
async fn shelves(source: &Source, named: &[Name], global: &Global) -> Result<Survey<Shelf>, Exit> {
    let addresses = Addresses::load(source, global)?;
    let contexts = if named.is_empty() { Name::ALL.as_slice() } else { named };
    Ok(Survey::of(contexts, |context| Shelf::open(context, &addresses)).await)
}

/// The shelves on which this event lies.
fn having(event: Uuid, shelves: &[Shelf]) -> Vec<(&Shelf, &Model)> {
    shelves.iter().filter_map(|shelf| Some((shelf, shelf.find(event)?))).collect()
}

/// The end of a search in vain; the event may be where nobody could look.
fn nowhere(event: Uuid, survey: Survey<Shelf>) -> Exit {
    let asked = names(survey.answers.iter().map(|shelf| shelf.context));
    match survey.end() {
        Ok(()) => Exit::failed(format!("the event {event} is not parked: not in {asked}")),
        Err(away) => away,
    }
}

/// A parked event in a list.
#[derive(Debug, Serialize)]
struct Row {
    context: &'static str,
    event: String,
    kind: String,
    aggregate: String,
    version: i64,
    sequence: i64,
    time: String,
    age_seconds: u64,
    behind: usize,
    retry: Option<String>,
    reason: String,
}

impl Row {
    fn new(shelf: &Shelf, event: &Model, now: Timestamp) -> Row {
        let time = Timestamp::from_micros(event.time);
        Row {
            context: shelf.context.as_str(),
            event: event.event.to_string(),
            kind: event.kind.clone(),
            aggregate: event.aggregate.to_string(),
            version: event.version,
            sequence: event.sequence,
            time: rfc3339(time),
            age_seconds: now.since(time).as_secs(),
            behind: shelf.behind(event),
            retry: event.retry_at.map(|micros| rfc3339(Timestamp::from_micros(micros))),
            reason: event.reason.clone(),
        }
    }

    fn print(rows: &[Row], global: &Global) -> Result<(), Exit> {
        let columns =
            ["context", "event", "kind", "aggregate", "version", "age", "behind", "reason"];
        global.output.list(columns, rows, |row| {
            [
                row.context.to_owned(),
                row.event.clone(),
                own_name(&row.kind).to_owned(),
                row.aggregate.clone(),
                row.version.to_string(),
                age(Duration::from_secs(row.age_seconds)),
                row.behind.to_string(),
                row.reason.clone(),
            ]
        })
    }
}

async fn ls(args: Ls, global: &Global) -> Result<(), Exit> {
    let survey = shelves(&args.source, &args.contexts, global).await?;
    let now = SystemClock.now();
    let rows = survey
        .answers
        .iter()
        .flat_map(|shelf| shelf.events.iter().map(move |event| Row::new(shelf, event, now)));
    let mut rows: Vec<Row> = rows.collect();
    rows.sort_by_key(|row| row.sequence);
    Row::print(&rows, global)?;
    survey.end()
}

async fn show(args: Show, global: &Global) -> Result<(), Exit> {
    let survey = args.contexts.shelves(global).await?;
    let on = having(args.event, &survey.answers);
    let Some((_, event)) = on.first() else { return Err(nowhere(args.event, survey)) };
    let shown = Shown::new(event, &on);
    global.output.item(&shown.text(), &shown)?;
    survey.end()
}
