//! `taxi parked drop`: gives an event up.

use kernel::{Clock as _, Uuid};
use platform::clock::SystemClock;

use super::{Contexts, Row, having, nowhere};
use crate::Global;
use crate::exit::Exit;
use crate::survey::names;

/// Give a parked event up. As if it had been applied, those behind it follow.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    contexts: Contexts,
    /// The event's id; it must be the first of its history.
    event: Uuid,
    /// Really: what the event should have brought about will never happen.
    #[arg(long)]
    yes: bool,
}

/// Gives it up, or says what that would mean.
pub(super) async fn run(args: Args, global: &Global) -> Result<(), Exit> {
    let survey = args.contexts.shelves(global).await?;
    let now = SystemClock.now();
    let on = having(args.event, &survey.answers);
    if on.is_empty() {
        return Err(nowhere(args.event, survey));
    }
    if !args.yes {
        let rows: Vec<Row> = on.iter().map(|(shelf, event)| Row::new(shelf, event, now)).collect();
        Row::print(&rows, global)?;
        let losers = names(on.iter().map(|(shelf, _)| shelf.context));
        return Err(Exit::usage(format!(
            "nothing was dropped: with `--yes` what this event should have brought about never \
             happens in {losers}, and what is behind it follows as if it had"
        )));
    }
    let mut dropped = Vec::new();
    let mut refused = None;
    for (shelf, event) in on {
        match shelf.discard(event.event).await {
            Ok(()) => dropped.push(Row::new(shelf, event, now)),
            Err(exit) => refused = refused.or(Some(exit)),
        }
    }
    Row::print(&dropped, global)?;
    let behind: usize = dropped.iter().map(|row| row.behind).sum();
    if !dropped.is_empty() {
        eprintln!("It counts as applied there now; {behind} events behind it follow.");
    }
    refused.map_or(Ok(()), Err)?;
    survey.end()
}
