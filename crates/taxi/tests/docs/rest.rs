//! A person types slowly: before each command the mesh has come to rest.

use std::time::Duration;

use async_nats::jetstream::{self, stream::Stream};
use futures::TryStreamExt;
use sea_orm::{ConnectionTrait, Database, Statement};
use testkit::{Mesh, RELATIONAL, eventually};

const SOON: Duration = Duration::from_secs(60);
const EVENTS: &str = "TAXI_EVENTS";
const UNSENT: &str = "SELECT count(*) FROM outbox WHERE sent_at IS NULL";

/// Waits until every event has been sent and every consumer has had it.
pub(crate) async fn comes_to_rest(mesh: &Mesh) {
    let client = async_nats::connect(&mesh.ready().nats).await.expect("a broker");
    let stream = jetstream::new(client).get_stream(EVENTS).await.expect("a stream");
    eventually(SOON, || async {
        // What is sent between the two looks at the consumers shows in the end of the stream.
        let before = end(&stream).await?;
        let unsent = unsent(mesh).await?;
        let after = end(&stream).await?;
        let rests = unsent == 0 && before == after;
        if rests { Ok(()) } else { Err(format!("{unsent} unsent, {before} .. {after}")) }
    })
    .await;
}

/// The end of the stream, once every consumer has got there.
async fn end(stream: &Stream) -> Result<u64, String> {
    let consumers: Vec<_> = stream.consumers().try_collect().await.map_err(words)?;
    let behind = consumers.iter().filter(|one| one.num_pending > 0 || one.num_ack_pending > 0);
    let behind: Vec<_> = behind.map(|one| one.name.as_str()).collect();
    if !behind.is_empty() {
        return Err(format!("behind are {behind:?}"));
    }
    Ok(stream.get_info().await.map_err(words)?.state.last_sequence)
}

async fn unsent(mesh: &Mesh) -> Result<i64, String> {
    let mut unsent = 0;
    for context in RELATIONAL {
        let database = Database::connect(mesh.database_url(context)).await.map_err(words)?;
        let statement = Statement::from_string(database.get_database_backend(), UNSENT);
        let row = database.query_one_raw(statement).await.map_err(words)?;
        unsent += row.map_or(Ok(0), |row| row.try_get_by_index::<i64>(0)).map_err(words)?;
        database.close().await.map_err(words)?;
    }
    Ok(unsent)
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}
