//! A ride that really happened, and as many more of its kind as are needed.
//!
//! What the contexts have published is taken byte by byte, headers and all. Only the ids in it are
//! others in each copy: an id is text of the same length everywhere, so that nothing else changes.

use std::collections::BTreeSet;

use async_nats::{HeaderMap, HeaderName};
use bytes::Bytes;
use kernel::{Clock, Uuid};

use crate::Result;
use crate::stream::{Message, Stored};

/// Of an id as text.
const ID_LENGTH: usize = 36;
/// Headers with an id each.
const IDS: [&str; 4] = ["ce-id", "ce-subject", "correlation-id", "causation-id"];
/// What the ids of a ride's events have in common; it chooses the shard.
const CORRELATION: &str = "correlation-id";
/// Headers that say after which event the broker may take this one. Copies come in order anyway.
const EXPECTATIONS: &str = "Nats-Expected-";

/// The events of one ride.
#[derive(Clone, Debug)]
pub(crate) struct Recording {
    events: Vec<Event>,
    /// How many different ids there are.
    ids: usize,
    /// Which of them is the correlation.
    correlation: usize,
}

#[derive(Clone, Debug)]
struct Event {
    prefix: String,
    context: String,
    name: String,
    aggregate: Template,
    headers: Vec<(HeaderName, Template)>,
    payload: Template,
}

impl Recording {
    /// Of the events of one ride; `people` are the ids of those who took part.
    pub(crate) fn of(ride: &[Stored], people: &[Uuid]) -> Result<Recording> {
        let mut ids: BTreeSet<String> = people.iter().map(Uuid::to_string).collect();
        for event in ride {
            for header in IDS {
                ids.insert(text(&event.message.headers, header)?);
            }
        }
        let first = ride.first().ok_or("nothing happened on the ride")?;
        let correlation = text(&first.message.headers, CORRELATION)?;
        let ids: Vec<String> = ids.into_iter().collect();
        let events = ride.iter().map(|event| Event::of(&event.message, &ids));
        Ok(Recording {
            events: events.collect::<Result<_>>()?,
            ids: ids.len(),
            correlation: ids.iter().position(|id| *id == correlation).unwrap_or_default(),
        })
    }

    /// How many events it has.
    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// The same with only these events; with all, when none is named.
    pub(crate) fn only(&self, names: &[&str]) -> Recording {
        let mut some = self.clone();
        some.events.retain(|event| names.is_empty() || names.contains(&event.name.as_str()));
        some
    }

    /// Copies, in the order in which they would happen when so many rides are under way at any time:
    /// what belongs to one ride is far apart.
    pub(crate) fn copies(
        &self,
        rides: usize,
        under_way: usize,
        shards: u32,
        clock: &impl Clock,
    ) -> impl Iterator<Item = Message> {
        let new_ids = |_| (0..self.ids).map(|_| clock.new_id()).collect();
        let ids: Vec<Vec<Uuid>> = (0..rides).map(new_ids).collect();
        schedule(rides, self.len(), under_way).map(move |(ride, event)| {
            let ids = &ids[ride];
            let shard = ids[self.correlation].as_u128() % u128::from(shards.max(1));
            self.events[event].copy(ids, shard)
        })
    }
}

/// Which event of which ride comes when: the rides begin one after the other and go on at one pace.
fn schedule(rides: usize, events: usize, under_way: usize) -> impl Iterator<Item = (usize, usize)> {
    let pause = under_way / events.max(1);
    let end = rides + pause * events.saturating_sub(1);
    let at = move |moment: usize, event: usize| {
        let ride = moment.checked_sub(event * pause)?;
        (ride < rides).then_some((ride, event))
    };
    (0..end).flat_map(move |moment| (0..events).filter_map(move |event| at(moment, event)))
}

impl Event {
    fn of(message: &Message, ids: &[String]) -> Result<Event> {
        let malformed = || format!("no event's subject: {}", message.subject);
        let mut words = message.subject.rsplitn(5, '.');
        let mut word = || words.next().ok_or_else(malformed);
        let (aggregate, name, context, _shard, prefix) =
            (word()?, word()?, word()?, word()?, word()?);
        let kept = |name: &HeaderName| !name.to_string().starts_with(EXPECTATIONS);
        let headers = message.headers.iter().filter(|(name, _)| kept(name));
        let template = |text: &str| Template::of(text.as_bytes(), ids);
        let last = |values: &[async_nats::HeaderValue]| {
            template(values.last().map_or("", async_nats::HeaderValue::as_str))
        };
        Ok(Event {
            prefix: prefix.to_owned(),
            context: context.to_owned(),
            name: name.to_owned(),
            aggregate: template(aggregate),
            headers: headers.map(|(name, values)| (name.clone(), last(values))).collect(),
            payload: Template::of(&message.payload, ids),
        })
    }

    fn copy(&self, ids: &[Uuid], shard: u128) -> Message {
        let Event { prefix, context, name, .. } = self;
        let aggregate = self.aggregate.text(ids);
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.text(ids));
        }
        Message {
            subject: format!("{prefix}.{shard}.{context}.{name}.{aggregate}"),
            headers,
            payload: Bytes::from(self.payload.bytes(ids)),
        }
    }
}

/// Bytes with ids in them.
#[derive(Clone, Debug)]
struct Template {
    bytes: Vec<u8>,
    /// Where which id stands.
    ids: Vec<(usize, usize)>,
}

impl Template {
    fn of(bytes: &[u8], ids: &[String]) -> Template {
        let places = ids.iter().enumerate().flat_map(|(which, id)| {
            let id = id.as_bytes();
            let windows = bytes.windows(id.len()).enumerate();
            windows.filter(move |(_, window)| *window == id).map(move |(at, _)| (at, which))
        });
        Template { bytes: bytes.to_owned(), ids: places.collect() }
    }

    fn bytes(&self, ids: &[Uuid]) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for (at, which) in &self.ids {
            ids[*which].hyphenated().encode_lower(&mut bytes[*at..*at + ID_LENGTH]);
        }
        bytes
    }

    fn text(&self, ids: &[Uuid]) -> String {
        String::from_utf8_lossy(&self.bytes(ids)).into_owned()
    }
}

fn text(headers: &HeaderMap, name: &str) -> Result<String> {
    let value = headers.get(name).ok_or_else(|| format!("header {name} is missing"))?;
    Ok(value.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use kernel::Timestamp;

    use super::*;

    /// Counts.
    struct Ids(std::sync::atomic::AtomicU64);

    impl Clock for Ids {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(0)
        }

        fn new_id(&self) -> Uuid {
            let n = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Uuid::from_u128(n.into())
        }
    }

    fn stored(name: &str, id: Uuid, of: Uuid, ride: Uuid) -> Stored {
        let mut headers = HeaderMap::new();
        for (header, value) in IDS.into_iter().zip([id, of, ride, ride]) {
            headers.insert(header, value.to_string());
        }
        headers.insert("Nats-Msg-Id", id.to_string());
        headers.insert("Nats-Expected-Last-Sequence", "7");
        headers.insert("ce-time", "2026-01-01T00:00:00.000000Z");
        let subject = format!("taxi.events.3.shop.{name}.{of}");
        let payload = Bytes::from(format!("\u{1}$orders/{of}\u{2}rides/{ride}"));
        Stored { message: Message { subject, headers, payload }, time: 0 }
    }

    #[test]
    fn a_copy_differs_in_its_ids_only() {
        let [first, second, order, ride] = [11, 12, 13, 14].map(|n| Uuid::from_u128(n << 64));
        let events = [("Placed", first), ("Paid", second)];
        let ride = events.map(|(name, id)| stored(name, id, order, ride));
        let recording = Recording::of(&ride, &[]).expect("a recording");
        let clock = Ids(100.into());
        let copies: Vec<Message> = recording.copies(2, 2, 8, &clock).collect();
        assert_eq!(copies.len(), 4);

        let id = |n| Uuid::from_u128(n).to_string();
        // The ids in order are those of the two events, of the order and of the ride.
        let paid = &copies[2];
        assert_eq!(paid.subject, format!("taxi.events.7.shop.Paid.{}", id(102)));
        assert_eq!(paid.payload, format!("\u{1}$orders/{}\u{2}rides/{}", id(102), id(103)));
        assert_eq!(paid.headers.get("Nats-Msg-Id").map(|it| it.as_str()), Some(&*id(101)));
        assert_eq!(
            text(&paid.headers, "ce-time").ok(),
            text(&ride[0].message.headers, "ce-time").ok()
        );
        assert!(paid.headers.get("Nats-Expected-Last-Sequence").is_none());
    }

    #[test]
    fn events_of_one_ride_are_apart_and_in_order() {
        let order: Vec<(usize, usize)> = schedule(3, 2, 4).collect();
        assert_eq!(order, [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)]);
        let order: Vec<(usize, usize)> = schedule(3, 2, 2).collect();
        assert_eq!(order, [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (2, 1)]);
    }
}
