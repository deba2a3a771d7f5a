//! What is left when everything is back: nothing lost, nothing twice.

use std::collections::BTreeMap;

use kernel::Uuid;
use platform::broker::{Broker, BrokerConfig, BrokerError};
use proto::message::v1::message::Template;
use proto::message::v1::{ListMessagesRequest, Message};
use sea_orm::{ConnectionTrait, Database, DbErr, Statement};
use testkit::{Mesh, RELATIONAL, eventually};

use crate::people::{Customer, SOON};

/// Where all events of a mesh are: first in these databases, then in this broker.
pub(crate) struct Events {
    databases: BTreeMap<String, String>,
    broker: String,
}

impl Events {
    /// Those of this mesh.
    pub(crate) fn of(mesh: &Mesh) -> Events {
        let database = |context: &str| (context.to_owned(), mesh.database_url(context).to_owned());
        Events {
            databases: RELATIONAL.into_iter().map(database).collect(),
            broker: mesh.ready().nats.clone(),
        }
    }

    /// A context of the mesh keeps its rows here.
    pub(crate) fn with_database(mut self, context: &str, url: &str) -> Events {
        self.databases.insert(context.to_owned(), url.to_owned());
        self
    }

    /// The mesh uses this broker.
    pub(crate) fn with_broker(mut self, url: &str) -> Events {
        url.clone_into(&mut self.broker);
        self
    }

    /// Waits until every event that was ever committed is in the stream, each once, and nothing
    /// else; answers how many there are.
    pub(crate) async fn are_in_the_stream_once(&self) -> usize {
        eventually(SOON, || async {
            let mut committed = Vec::new();
            for (context, url) in &self.databases {
                let (events, unsent) = outbox(url).await.map_err(|error| error.to_string())?;
                if unsent > 0 {
                    return Err(format!("{context}: {unsent} of {} unsent", events.len()));
                }
                committed.extend(events);
            }
            let mut published = stream(&self.broker).await.map_err(|error| error.to_string())?;
            committed.sort();
            published.sort();
            let (here, there) = (committed.len(), published.len());
            match committed == published {
                true => Ok(here),
                false => Err(format!("{here} events are committed, {there} are in the stream")),
            }
        })
        .await
    }
}

/// The ids of all events in a context's outbox, and how many of them are unsent.
async fn outbox(url: &str) -> Result<(Vec<Uuid>, usize), DbErr> {
    let database = Database::connect(url).await?;
    let select = "SELECT event, sent_at FROM outbox";
    let select = Statement::from_string(database.get_database_backend(), select);
    let (mut events, mut unsent) = (Vec::new(), 0);
    for row in database.query_all_raw(select).await? {
        events.push(row.try_get_by_index(0)?);
        unsent += usize::from(row.try_get_by_index::<Option<i64>>(1)?.is_none());
    }
    database.close().await?;
    Ok((events, unsent))
}

/// The ids of all events in the stream.
async fn stream(url: &str) -> Result<Vec<Uuid>, BrokerError> {
    let config = BrokerConfig {
        url: url.to_owned(),
        stream: "TAXI_EVENTS".to_owned(),
        prefix: "taxi.events".to_owned(),
        shards: 8,
        replicas: 1,
    };
    let stream = Broker::connect(config, "evidence").await?.stream().await?;
    let mut events = Vec::new();
    for sequence in 1..=stream.cached_info().state.last_sequence {
        let message = stream.get_raw_message(sequence).await?;
        let id = message.headers.get("ce-id").ok_or("no event")?;
        events.push(id.as_str().parse()?);
    }
    Ok(events)
}

/// Waits until this customer has been told these things of a ride, in this order, each once.
pub(crate) async fn is_told(customer: &Customer, allocation: &str, news: &[Template]) {
    eventually(SOON, || async {
        let request = ListMessagesRequest { parent: customer.name.clone(), ..Default::default() };
        let answer = customer.messages.clone().list_messages(request).await;
        let mut told = answer.map_err(|status| status.to_string())?.into_inner().messages;
        told.retain(|message| message.allocation == allocation);
        let told: Vec<Template> = told.iter().rev().map(Message::template).collect();
        // A fee that could not be taken at once is no news of the ride.
        let (later, rest): (Vec<_>, Vec<_>) =
            told.into_iter().partition(|it| *it == Template::PaymentDeferred);
        if rest == news && later.len() < 2 { Ok(()) } else { Err(format!("{rest:?}, {later:?}")) }
    })
    .await;
}
