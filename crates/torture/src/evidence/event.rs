//! One event of the stream, read by its headers and by the contract.

use async_nats::HeaderMap;
use kernel::Uuid;
use prost::Message as _;

/// What the message ids begin with that the harness itself gives to what it publishes.
const INJECTED: &str = "torture-";

/// One event as it stands in the stream.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// Its place in the stream.
    pub(crate) sequence: u64,
    /// When the broker stored it, microseconds.
    pub(crate) stored_at: i64,
    /// Which part of the stream it is in.
    pub(crate) shard: i32,
    /// The context it comes from, by its subject.
    pub(crate) context: String,
    /// `Nats-Msg-Id`, by which the broker tells it from a copy.
    pub(crate) message_id: Option<String>,
    /// The event's id.
    pub(crate) id: Uuid,
    /// The full protobuf name of the payload.
    pub(crate) kind: String,
    /// What it happened to.
    pub(crate) aggregate: Uuid,
    /// Its number there.
    pub(crate) version: i64,
    /// What it belongs to.
    pub(crate) correlation: Uuid,
    /// Why it happened.
    pub(crate) causation: Uuid,
    /// The protobuf message.
    pub(crate) payload: Vec<u8>,
    /// What the payload says; nothing when it cannot be read.
    pub(crate) happening: Option<Happening>,
}

impl Event {
    /// Reads a message of the stream.
    pub(super) fn parse(
        subject: &str,
        headers: &HeaderMap,
        payload: &[u8],
        (sequence, stored_at): (u64, i64),
    ) -> Result<Event, String> {
        let text = |name: &str| {
            let value = headers.get(name).map(|value| value.as_str().to_owned());
            value.ok_or_else(|| format!("header {name} is missing"))
        };
        let id = |name: &str| {
            text(name)?.parse::<Uuid>().map_err(|error| format!("header {name}: {error}"))
        };
        // taxi.events.<shard>.<context>.<event>.<aggregate>
        let words: Vec<&str> = subject.split('.').collect();
        let [_, _, shard, context, name, aggregate] = words[..] else {
            return Err(format!("subject {subject}"));
        };
        let kind = text("ce-type")?;
        let event = Event {
            sequence,
            stored_at,
            shard: shard.parse().map_err(|_| format!("shard {shard}"))?,
            context: context.to_owned(),
            message_id: text("Nats-Msg-Id").ok(),
            id: id("ce-id")?,
            aggregate: id("ce-subject")?,
            version: text("aggregate-version")?.parse().map_err(|_| "aggregate-version")?,
            correlation: id("correlation-id")?,
            causation: id("causation-id")?,
            happening: Happening::decode(&kind, payload),
            payload: payload.to_vec(),
            kind,
        };
        let said = (text("ce-source")?, event.aggregate.to_string(), event.name());
        if said != (format!("/{context}"), aggregate.to_owned(), name) {
            return Err(format!("subject {subject} and headers {said:?} disagree"));
        }
        Ok(event)
    }

    /// The last word of its kind.
    pub(crate) fn name(&self) -> &str {
        self.kind.rsplit('.').next().unwrap_or(&self.kind)
    }

    /// Whether the harness has put it into the stream, and no relay.
    pub(crate) fn is_injected(&self) -> bool {
        self.message_id.as_deref().is_none_or(|id| id.starts_with(INJECTED))
    }
}

/// What every event of the contract has, whatever its kind.
macro_rules! happenings {
    ($($context:ident :: $name:ident),* $(,)?) => {
        /// What an event says.
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) enum Happening {
            $($name(proto::$context::v1::$name)),*
        }

        impl Happening {
            /// Reads a payload; nothing when its kind is not known or it is no such message.
            pub(crate) fn decode(kind: &str, payload: &[u8]) -> Option<Happening> {
                $(if kind == concat!("taxi.", stringify!($context), ".v1.", stringify!($name)) {
                    let message = proto::$context::v1::$name::decode(payload);
                    return message.ok().map(Happening::$name);
                })*
                None
            }

            /// The ride's allocation, customer and driving, by their names.
            pub(crate) fn ride(&self) -> [&str; 3] {
                match self {
                    $(Happening::$name(it) => [&it.allocation, &it.customer, &it.driving]),*
                }
            }
        }
    };
}

happenings!(
    allocation::AllocationRequested,
    allocation::AllocationCancelRequested,
    allocation::AllocationCancelled,
    allocation::AllocationExpired,
    driving::DrivingOpened,
    driving::DrivingApproved,
    driving::DrivingStarted,
    driving::DrivingFinished,
    driving::DrivingCancelled,
    driving::DrivingCancelRejected,
    driving::DrivingPaymentSettled,
    payment::PaymentApproved,
    payment::PaymentDeferred,
    payment::PaymentDeclined,
    payment::PaymentRefunded,
);

impl Happening {
    /// Who drives, by name; empty when nobody does.
    pub(crate) fn driver(&self) -> &str {
        match self {
            Happening::DrivingApproved(it) => &it.driver,
            Happening::DrivingStarted(it) => &it.driver,
            Happening::DrivingFinished(it) => &it.driver,
            Happening::DrivingCancelled(it) => &it.driver,
            Happening::DrivingCancelRejected(it) => &it.driver,
            Happening::DrivingPaymentSettled(it) => &it.driver,
            _ => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::driving::v1::DrivingStarted;

    use super::*;

    const AGGREGATE: Uuid = Uuid::from_u128(2);

    fn headers(message_id: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let ids = [("ce-id", 1), ("ce-subject", 2), ("correlation-id", 3), ("causation-id", 4)];
        for (name, id) in ids {
            headers.insert(name, Uuid::from_u128(id).to_string());
        }
        headers.insert("ce-type", "taxi.driving.v1.DrivingStarted");
        headers.insert("ce-source", "/driving");
        headers.insert("aggregate-version", "3");
        if let Some(id) = message_id {
            headers.insert("Nats-Msg-Id", id);
        }
        headers
    }

    fn parsed(subject: &str, headers: &HeaderMap) -> Result<Event, String> {
        let started = DrivingStarted { driver: "drivers/D1".to_owned(), ..Default::default() };
        Event::parse(subject, headers, &started.encode_to_vec(), (9, 0))
    }

    fn subject() -> String {
        format!("taxi.events.5.driving.DrivingStarted.{AGGREGATE}")
    }

    #[test]
    fn an_event_is_read_from_headers_subject_and_payload() {
        let event = parsed(&subject(), &headers(Some("id"))).expect("an event");
        assert_eq!((event.sequence, event.shard, event.version), (9, 5, 3));
        assert_eq!((event.context.as_str(), event.name()), ("driving", "DrivingStarted"));
        assert_eq!((event.id, event.aggregate), (Uuid::from_u128(1), AGGREGATE));
        assert_eq!(event.happening.expect("it can be read").driver(), "drivers/D1");
    }

    #[test]
    fn what_does_not_fit_together_is_no_event() {
        for subject in [
            "taxi.events.5.driving".to_owned(),
            subject().replace("driving", "payment"),
            subject().replace("Started", "Finished"),
            subject().replace(&AGGREGATE.to_string(), &Uuid::nil().to_string()),
        ] {
            assert!(parsed(&subject, &headers(None)).is_err(), "{subject}");
        }
        assert!(parsed(&subject(), &HeaderMap::new()).is_err());
    }

    #[test]
    fn what_the_harness_has_published_is_told_from_a_relay_s_work() {
        let injected = |id| parsed(&subject(), &headers(id)).expect("an event").is_injected();
        assert!(injected(None) && injected(Some("torture-7")));
        assert!(!injected(Some(&Uuid::from_u128(1).to_string())));
    }
}
