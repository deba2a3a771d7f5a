//! Whether the mesh has come to rest.

use std::collections::BTreeMap;

use super::rows::Snapshot;
use super::{Sources, broker};
use crate::check::Expected;

/// What must not be in the tables of a context at rest.
const UNSENT: &str = "SELECT event FROM outbox WHERE sent_at IS NULL";
const PARKED: &str = "SELECT event FROM parked_event";
const DUE: &str = "SELECT id FROM payment WHERE due_time IS NOT NULL";

/// Looks once whether the mesh has drained; the error says what is left.
///
/// At rest every outbox is empty, every durable consumer has been given everything and has
/// acknowledged it, the view has folded the last event of every shard, no payment waits for the
/// reconciler, and no database has parked what `expected` does not name. That everything expected
/// *is* parked follows from the rest, since whatever a consumer has acknowledged it has applied or
/// parked; the checker compares it exactly (I10).
///
/// The stream and its consumers are looked at twice, before and after the databases. What was done
/// in between would show: it needs an event that was pending before or came to the stream since.
pub(crate) async fn drained(sources: &Sources, expected: &Expected) -> Result<(), String> {
    let before = broker::look(&sources.nats).await?;
    let mut left = unfinished(&before);
    let checkpoints = databases(sources, expected, &mut left).await?;
    for (shard, end) in &before.ends {
        let at = checkpoints.get(shard).copied().unwrap_or(0);
        if at < *end {
            left.push(format!("the view is at {at} of {end} in shard {shard}"));
        }
    }
    let after = broker::look(&sources.nats).await?;
    left.extend(unfinished(&after));
    if after.length != before.length {
        left.push(format!("the stream grew from {} to {}", before.length, after.length));
    }
    left.sort();
    left.dedup();
    if left.is_empty() { Ok(()) } else { Err(left.join("; ")) }
}

fn unfinished(look: &broker::Look) -> Vec<String> {
    let busy = look.consumers.iter().filter(|consumer| !consumer.is_done());
    let left = busy.map(|consumer| {
        let broker::Consumer { name, pending, unacknowledged } = consumer;
        format!("consumer {name}: {pending} pending, {unacknowledged} not acknowledged")
    });
    left.collect()
}

/// Adds what the databases have left to do; answers how far the view is.
async fn databases(
    sources: &Sources,
    expected: &Expected,
    left: &mut Vec<String>,
) -> Result<BTreeMap<i32, i64>, String> {
    let mut checkpoints = BTreeMap::new();
    for (context, url) in &sources.databases {
        let look = async {
            let snapshot = Snapshot::of(url).await?;
            let unsent = snapshot.ids(UNSENT).await?;
            if !unsent.is_empty() {
                left.push(format!("{context}: {} events not sent", unsent.len()));
            }
            for event in snapshot.ids(PARKED).await? {
                if !expected.parked.contains(&event) {
                    left.push(format!("{context}: event {event} is parked"));
                }
            }
            match context.as_str() {
                "payment" => {
                    let due = snapshot.ids(DUE).await?;
                    left.extend(due.iter().map(|id| format!("payment {id} is not decided")));
                }
                "dashboard" => checkpoints = snapshot.checkpoints().await?,
                _ => {}
            }
            snapshot.close().await
        };
        look.await.map_err(|error| format!("the database of {context}: {error}"))?;
    }
    Ok(checkpoints)
}
