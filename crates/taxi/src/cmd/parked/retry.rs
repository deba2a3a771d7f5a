//! `taxi parked retry`: asks for another try, and waits for what comes of it.

use std::time::Duration;

use kernel::{Clock as _, Timestamp, Uuid};
use platform::clock::SystemClock;
use platform::config::duration;
use platform::parked::Model;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::shelf::Shelf;
use super::{Contexts, having, nowhere};
use crate::Global;
use crate::exit::Exit;

/// How often we look whether a context has tried.
const POLL: Duration = Duration::from_millis(100);

/// Try parked events again, and say what has come of it. When one succeeds, those behind it follow.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    contexts: Contexts,
    /// The event's id; it must be the first of its history.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    event: Option<Uuid>,
    /// Try the first of each history.
    #[arg(long)]
    all: bool,
    /// How long a context may take to do so.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = patience)]
    wait: Duration,
}

fn patience(text: &str) -> Result<Duration, String> {
    duration::parse(text).ok_or_else(|| "it must look like 500ms, 10s or 1m".to_owned())
}

/// What has come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Outcome {
    /// Applied: it is not parked any more.
    Applied,
    /// Tried in vain.
    Parked,
    /// Asked for, and not tried yet.
    Asked,
    /// It is not its turn.
    Refused,
}

#[derive(Debug, Serialize)]
struct Row {
    context: &'static str,
    event: Uuid,
    outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// Tries again.
pub(super) async fn run(args: Args, global: &Global) -> Result<(), Exit> {
    let survey = args.contexts.shelves(global).await?;
    let wanted = match args.event {
        Some(event) => having(event, &survey.answers),
        None => {
            let first = |shelf| Shelf::first(shelf).map(move |event| (shelf, event));
            survey.answers.iter().flat_map(first).collect()
        }
    };
    if let (Some(event), []) = (args.event, wanted.as_slice()) {
        return Err(nowhere(event, survey));
    }
    let (now, end) = (SystemClock.now(), Instant::now() + args.wait);
    let tried = wanted.into_iter().map(|(shelf, event)| try_again(shelf, event, now, end));
    let rows = futures::future::join_all(tried).await;
    global.output.list(["context", "event", "outcome", "why"], &rows, |row| {
        let outcome = match row.outcome {
            Outcome::Applied => "applied",
            Outcome::Parked => "still parked",
            Outcome::Asked => "not tried yet",
            Outcome::Refused => "refused",
        };
        let why = row.why.clone().unwrap_or_else(|| "-".to_owned());
        [row.context.to_owned(), row.event.to_string(), outcome.to_owned(), why]
    })?;
    survey.end()?;
    verdict(&rows)
}

async fn try_again(shelf: &Shelf, event: &Model, now: Timestamp, end: Instant) -> Row {
    let (outcome, why) = match shelf.retry(event.event, now).await {
        Ok(()) => outcome(shelf, event.event, end).await,
        Err(refused) => (Outcome::Refused, Some(refused.to_string())),
    };
    Row { context: shelf.context.as_str(), event: event.event, outcome, why }
}

/// Waits until the context has tried.
async fn outcome(shelf: &Shelf, event: Uuid, end: Instant) -> (Outcome, Option<String>) {
    loop {
        match shelf.look(event).await {
            Ok(None) => return (Outcome::Applied, None),
            Ok(Some(Model { retry_at: None, reason, .. })) => {
                return (Outcome::Parked, Some(reason));
            }
            Ok(Some(_)) if Instant::now() >= end => {
                let why = format!("{} tries as soon as it runs", shelf.context);
                return (Outcome::Asked, Some(why));
            }
            Ok(Some(_)) => sleep(POLL).await,
            Err(away) => return (Outcome::Asked, Some(away.to_string())),
        }
    }
}

/// Whether all of them are applied.
fn verdict(rows: &[Row]) -> Result<(), Exit> {
    let count = |outcome| rows.iter().filter(|row| row.outcome == outcome).count();
    let (all, applied, asked) = (rows.len(), count(Outcome::Applied), count(Outcome::Asked));
    match all - applied {
        0 => Ok(()),
        left if left == asked => {
            Err(Exit::unavailable(format!("{asked} of {all} have not been tried yet")))
        }
        left => Err(Exit::failed(format!("{left} of {all} are still parked"))),
    }
}
