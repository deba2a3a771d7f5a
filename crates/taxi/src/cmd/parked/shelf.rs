//! Where a context keeps what it has parked: in its database, or in the broker.

use kernel::{Failure, Timestamp, Uuid};
use platform::db::Db;
use platform::parked::{self, Model};

use crate::contexts::{Name, ParkedMessages};
use crate::exit::Exit;
use crate::operator::{Addresses, database_failed};

/// One context, and all that it has parked.
pub(super) struct Shelf {
    /// Whose it is.
    pub(super) context: Name,
    /// In the order of the stream.
    pub(super) events: Vec<Model>,
    place: Place,
}

enum Place {
    /// Here an event waits for those before it in its history.
    Table(Db),
    /// Here they do not know each other.
    Bucket(Box<ParkedMessages>),
}

impl Shelf {
    /// Reads what is there.
    pub(super) async fn open(context: Name, addresses: &Addresses) -> Result<Shelf, Exit> {
        let place = match context {
            Name::Message => {
                let broker = addresses.broker().await?;
                Place::Bucket(ParkedMessages::new(&broker, addresses.message()).into())
            }
            _ => Place::Table(addresses.database(context).await?),
        };
        let events = match &place {
            Place::Table(db) => parked::list(db).await,
            Place::Bucket(bucket) => bucket.list().await,
        };
        let events = events.map_err(|failure| place.failed(context, failure))?;
        Ok(Shelf { context, events, place })
    }

    /// One of the events.
    pub(super) fn find(&self, event: Uuid) -> Option<&Model> {
        self.events.iter().find(|parked| parked.event == event)
    }

    /// The events that wait for nobody but an operator.
    pub(super) fn first(&self) -> impl Iterator<Item = &Model> {
        self.events
            .iter()
            .filter(|event| !self.history(event).any(|other| other.version < event.version))
    }

    /// How many events wait for this one.
    pub(super) fn behind(&self, event: &Model) -> usize {
        self.history(event).filter(|other| other.version > event.version).count()
    }

    fn history(&self, event: &Model) -> impl Iterator<Item = &Model> {
        let waits = matches!(self.place, Place::Table(_));
        self.events.iter().filter(move |other| waits && other.aggregate == event.aggregate)
    }

    /// Asks for another try of an event.
    pub(super) async fn retry(&self, event: Uuid, now: Timestamp) -> Result<(), Exit> {
        let asked = match &self.place {
            Place::Table(db) => parked::retry(db, event, now).await,
            Place::Bucket(bucket) => bucket.retry(event, now).await,
        };
        asked.map_err(|failure| self.place.failed(self.context, failure))
    }

    /// Gives an event up.
    pub(super) async fn discard(&self, event: Uuid) -> Result<(), Exit> {
        let given_up = match &self.place {
            Place::Table(db) => parked::discard(db, event).await,
            Place::Bucket(bucket) => bucket.discard(event).await,
        };
        given_up.map_err(|failure| self.place.failed(self.context, failure))
    }

    /// An event as it is parked now, if it still is.
    pub(super) async fn look(&self, event: Uuid) -> Result<Option<Model>, Exit> {
        let parked = match &self.place {
            Place::Table(db) => parked::get(db, event).await,
            Place::Bucket(bucket) => bucket.get(event).await,
        };
        match parked {
            Ok(parked) => Ok(Some(parked)),
            Err(Failure::Rejected(_)) => Ok(None),
            Err(failure) => Err(self.place.failed(self.context, failure)),
        }
    }
}

impl Place {
    fn failed(&self, context: Name, failure: Failure) -> Exit {
        match (self, failure) {
            (_, Failure::Rejected(no)) => Exit::failed(format!("{context}: {}", no.message)),
            (Place::Table(_), failure) => database_failed(context, failure),
            (Place::Bucket(_), Failure::Unavailable(why)) => {
                Exit::unavailable(format!("the broker does not answer: {why}"))
            }
            (Place::Bucket(_), Failure::Internal(why)) => {
                Exit::failed(format!("what {context} has parked cannot be read: {why}"))
            }
        }
    }
}
