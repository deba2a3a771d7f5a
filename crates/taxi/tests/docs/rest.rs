//! A person types slowly: before each command the mesh has come to rest.

use std::time::Duration;

use async_nats::jetstream::{self, stream::Stream};
use futures::TryStreamExt;
use sea_orm::{ConnectionTrait, Database, Statement};
use testkit::{Mesh, RELATIONAL, eventually};

const SOON: Duration = Duration::from_secs(60);
const EVENTS: &str = "TAXI_EVENTS";
const UNSENT: &str = "SELECT count(*) FROM outbox WHERE sent_at IS NULL";
/// How far the dashboard is: what its consumer has had may not be in its rows yet.
const FOLDED: &str = "SELECT min(sequence) FROM checkpoint";

/// Waits until every event has been sent, every consumer has had it, and the dashboard shows it.
pub(crate) async fn comes_to_rest(mesh: &Mesh) {
    let client = async_nats::connect(&mesh.ready().nats).await.expect("a broker");
    let stream = jetstream::new(client).get_stream(EVENTS).await.expect("a stream");
    eventually(SOON, || async {
        // What is sent between the two looks at the consumers shows in the end of the stream.
        let before = end(&stream).await?;
        let unsent = unsent(mesh).await?;
        let folded = number(mesh, "dashboard", FOLDED).await?;
        let after = end(&stream).await?;
        let rests = unsent == 0 && before == after && folded >= after;
        if rests {
            Ok(())
        } else {
            Err(format!("{unsent} unsent, {folded} of {before} .. {after}"))
        }
    })
    .await;
}

/// The end of the stream, once every consumer has got there.
async fn end(stream: &Stream) -> Result<i64, String> {
    let consumers: Vec<_> = stream.consumers().try_collect().await.map_err(words)?;
    let behind = consumers.iter().filter(|one| one.num_pending > 0 || one.num_ack_pending > 0);
    let behind: Vec<_> = behind.map(|one| one.name.as_str()).collect();
    if !behind.is_empty() {
        return Err(format!("behind are {behind:?}"));
    }
    let end = stream.get_info().await.map_err(words)?.state.last_sequence;
    i64::try_from(end).map_err(words)
}

async fn unsent(mesh: &Mesh) -> Result<i64, String> {
    let mut unsent = 0;
    for context in RELATIONAL {
        unsent += number(mesh, context, UNSENT).await?;
    }
    Ok(unsent)
}

/// What a context's database answers.
async fn number(mesh: &Mesh, context: &str, query: &str) -> Result<i64, String> {
    let database = Database::connect(mesh.database_url(context)).await.map_err(words)?;
    let statement = Statement::from_string(database.get_database_backend(), query);
    let row = database.query_one_raw(statement).await.map_err(words)?;
    let number = row.map_or(Ok(0), |row| row.try_get_by_index::<i64>(0)).map_err(words)?;
    database.close().await.map_err(words)?;
    Ok(number)
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}
