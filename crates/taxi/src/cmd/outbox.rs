//! `taxi outbox`: the events of contexts on their way into the stream.

use clap::Subcommand;
use kernel::{Clock as _, Timestamp};
use platform::clock::SystemClock;
use platform::outbox::{self, KEEP, row};
use serde::Serialize;

use crate::Global;
use crate::config::Source;
use crate::contexts::Name;
use crate::exit::Exit;
use crate::operator::{Addresses, database_failed};
use crate::survey::Survey;
use crate::time::{Since, age, rfc3339};

const EXAMPLE: &str = "\
Examples:
  taxi outbox ls --unsent                   what the stream does not have yet
  taxi outbox republish --since 2h          how many events would be sent again
  taxi outbox republish --since 2h --apply  and do it: the stream keeps each of them once";

/// Look at the events on their way into the stream, and send them again.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Ls(Ls),
    Republish(Republish),
}

/// List the events that were written last, newest first.
#[derive(Debug, clap::Args)]
struct Ls {
    #[command(flatten)]
    source: Source,
    /// Of which contexts; of all when none is named.
    #[arg(hide_possible_values = true)]
    contexts: Vec<Name>,
    /// Only what the broker has not acknowledged.
    #[arg(long)]
    unsent: bool,
    /// At most so many.
    #[arg(long, default_value_t = 50)]
    limit: usize,
}

/// Send events again that the broker has lost. Those that it still has stay there once. Sent events
/// are kept for 24 hours.
#[derive(Debug, clap::Args)]
struct Republish {
    #[command(flatten)]
    source: Source,
    /// Of which contexts; of all when none is named.
    #[arg(hide_possible_values = true)]
    contexts: Vec<Name>,
    /// All that has happened since then: so long ago, as in `2h`, or at a time in RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = Since::parse)]
    since: Since,
    /// Do it, instead of saying how many events it would be.
    #[arg(long)]
    apply: bool,
}

/// Does what was asked for.
pub(crate) async fn run(args: Args, global: &Global) -> Result<(), Exit> {
    match args.command {
        Command::Ls(args) => ls(args, global).await,
        Command::Republish(args) => republish(args, global).await,
    }
}

/// One event in an outbox.
#[derive(Debug, Serialize)]
struct Event {
    id: i64,
    context: &'static str,
    event: String,
    kind: String,
    aggregate: String,
    version: i64,
    time: String,
    age_seconds: u64,
    sent: Option<String>,
    #[serde(skip)]
    happened: Timestamp,
}

impl Event {
    fn new(context: Name, row: row::Model, now: Timestamp) -> Event {
        let happened = Timestamp::from_micros(row.time);
        Event {
            id: row.id,
            context: context.as_str(),
            event: row.event.to_string(),
            kind: row.kind,
            aggregate: row.aggregate.to_string(),
            version: row.version,
            time: rfc3339(happened),
            age_seconds: now.since(happened).as_secs(),
            sent: row.sent_at.map(|micros| rfc3339(Timestamp::from_micros(micros))),
            happened,
        }
    }
}

async fn ls(args: Ls, global: &Global) -> Result<(), Exit> {
    let addresses = Addresses::load(&args.source, global)?;
    let (now, most) = (SystemClock.now(), args.limit as u64);
    let mut survey = Survey::of(&these(args.contexts), async |context| {
        let db = addresses.database(context).await?;
        let rows = outbox::list(&db, args.unsent, most).await;
        let rows = rows.map_err(|failure| database_failed(context, failure))?;
        Ok(rows.into_iter().map(|row| Event::new(context, row, now)).collect::<Vec<_>>())
    })
    .await;
    let mut events: Vec<Event> = survey.answers.drain(..).flatten().collect();
    events.sort_by_key(|event| std::cmp::Reverse((event.happened, event.id)));
    events.truncate(args.limit);
    let columns = ["id", "context", "event", "kind", "aggregate", "version", "time", "age", "sent"];
    global.output.list(columns, &events, |event| {
        [
            event.id.to_string(),
            event.context.to_owned(),
            event.event.clone(),
            own_name(&event.kind).to_owned(),
            event.aggregate.clone(),
            event.version.to_string(),
            event.time.clone(),
            age(now.since(event.happened)),
            event.sent.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    })?;
    survey.end()
}

/// What is or was to be sent again of one context.
#[derive(Debug, Serialize)]
struct Again {
    context: &'static str,
    events: u64,
    applied: bool,
}

async fn republish(args: Republish, global: &Global) -> Result<(), Exit> {
    let addresses = Addresses::load(&args.source, global)?;
    let now = SystemClock.now();
    let since = args.since.time(now);
    let mut survey = Survey::of(&these(args.contexts), async |context| {
        let db = addresses.database(context).await?;
        let events = match args.apply {
            true => outbox::republish(&db, since).await,
            false => outbox::sent_since(&db, since).await,
        };
        let events = events.map_err(|failure| database_failed(context, failure))?;
        Ok(Again { context: context.as_str(), events, applied: args.apply })
    })
    .await;
    let answers = std::mem::take(&mut survey.answers);
    global.output.list(["context", "events"], &answers, |again| {
        [again.context.to_owned(), again.events.to_string()]
    })?;
    if since < now.minus(KEEP) {
        let hours = KEEP.as_secs() / 3_600;
        eprintln!("What was sent more than {hours} h ago is not kept, and cannot be sent again.");
    }
    eprintln!("{}", said(args.apply, answers.iter().map(|again| again.events).sum()));
    survey.end()
}

/// What has happened, or would.
fn said(applied: bool, events: u64) -> String {
    match (applied, events) {
        (_, 0) => "There is nothing to be sent again.".to_owned(),
        (false, _) => format!(
            "Nothing was changed: with `--apply` the relays send these {events} events again."
        ),
        (true, _) => format!(
            "The relays send these {events} events again now. What the broker still has it keeps \
             once; `taxi outbox ls --unsent` shows what is still to come."
        ),
    }
}

/// These contexts, or all that have events of their own.
fn these(named: Vec<Name>) -> Vec<Name> {
    match named.is_empty() {
        true => Name::ALL.into_iter().filter(|context| context.has_events()).collect(),
        false => named,
    }
}

/// The last word of a full name.
pub(super) fn own_name(kind: &str) -> &str {
    kind.rsplit('.').next().unwrap_or(kind)
}
