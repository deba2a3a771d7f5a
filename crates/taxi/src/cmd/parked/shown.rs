//! One parked event with all that is known of it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use kernel::Timestamp;
use platform::parked::Model;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde::Serialize;
use serde_json::Value;

use super::shelf::Shelf;
use crate::output::aligned;
use crate::time::rfc3339;

/// An event, and where it is parked.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    event: String,
    kind: String,
    aggregate: String,
    version: i64,
    sequence: i64,
    parked: Vec<Parked>,
    headers: BTreeMap<String, String>,
    #[serde(flatten)]
    payload: Payload,
}

/// Why one context has parked it.
#[derive(Debug, Serialize)]
struct Parked {
    context: &'static str,
    time: String,
    reason: String,
    behind: usize,
    retry: Option<String>,
}

/// What the event says; as it came, when nobody can read it.
#[derive(Debug, Serialize)]
enum Payload {
    #[serde(rename = "payload")]
    Read(Value),
    #[serde(rename = "unreadable")]
    Unread { base64: String, why: String },
}

impl Shown {
    /// An event as it lies on these shelves.
    pub(super) fn new(event: &Model, on: &[(&Shelf, &Model)]) -> Shown {
        let time = |micros| rfc3339(Timestamp::from_micros(micros));
        let parked = on.iter().map(|(shelf, event)| Parked {
            context: shelf.context.as_str(),
            time: time(event.time),
            reason: event.reason.clone(),
            behind: shelf.behind(event),
            retry: event.retry_at.map(time),
        });
        Shown {
            event: event.event.to_string(),
            kind: event.kind.clone(),
            aggregate: event.aggregate.to_string(),
            version: event.version,
            sequence: event.sequence,
            parked: parked.collect(),
            headers: serde_json::from_str(&event.headers).unwrap_or_default(),
            payload: Payload::of(&event.kind, &event.payload),
        }
    }

    /// All of it, for people.
    pub(super) fn text(&self) -> String {
        let attributes = [
            ("event", &self.event),
            ("kind", &self.kind),
            ("aggregate", &self.aggregate),
            ("version", &self.version.to_string()),
            ("sequence", &self.sequence.to_string()),
        ];
        let mut text = aligned(&attributes.map(|(name, value)| [name.to_owned(), value.clone()]));
        let mut rows = vec![["CONTEXT", "PARKED", "BEHIND", "RETRY", "REASON"].map(str::to_owned)];
        rows.extend(self.parked.iter().map(Parked::row));
        text.push_str(&format!("\n{}", aligned(&rows)));
        let headers = self.headers.iter().map(|(name, value)| [name.clone(), value.clone()]);
        text.push_str(&format!("\n{}\n", aligned(&headers.collect::<Vec<_>>())));
        text.push_str(&match &self.payload {
            Payload::Read(json) => format!("{json:#}"),
            Payload::Unread { base64, why } => {
                format!("The payload cannot be read: {why}. In base64 it is\n{base64}")
            }
        });
        text
    }
}

impl Parked {
    fn row(&self) -> [String; 5] {
        let retry = self.retry.clone().unwrap_or_else(|| "-".to_owned());
        [
            self.context.to_owned(),
            self.time.clone(),
            self.behind.to_string(),
            retry,
            self.reason.clone(),
        ]
    }
}

impl Payload {
    fn of(kind: &str, bytes: &[u8]) -> Payload {
        match read(kind, bytes) {
            Ok(json) => Payload::Read(json),
            Err(why) => Payload::Unread { base64: BASE64_STANDARD.encode(bytes), why },
        }
    }
}

/// A message by its full name, as JSON.
fn read(kind: &str, bytes: &[u8]) -> Result<Value, String> {
    let pool = DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).map_err(|it| it.to_string())?;
    let message = pool.get_message_by_name(kind);
    let message = message.ok_or_else(|| format!("this version knows no {kind}"))?;
    let message = DynamicMessage::decode(message, bytes).map_err(|error| error.to_string())?;
    serde_json::to_value(&message).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use prost::{Message as _, Name as _};
    use proto::payment::v1::PaymentDeclined;

    use super::*;

    #[test]
    fn a_payload_is_json_or_says_why_not() {
        let declined = PaymentDeclined { payment: "payments/7".to_owned(), ..Default::default() };
        let kind = PaymentDeclined::full_name();
        let json = read(&kind, &declined.encode_to_vec()).expect("readable");
        assert_eq!(json, serde_json::json!({"payment": "payments/7"}));

        let why = read(&kind, b"\xff").expect_err("no message");
        assert!(!why.is_empty());
        let unknown = read("taxi.moon.v1.Landed", b"").expect_err("no such kind");
        assert_eq!(unknown, "this version knows no taxi.moon.v1.Landed");

        let unread = serde_json::to_value(Payload::of(&kind, b"\xff")).expect("JSON");
        assert_eq!(unread["unreadable"]["base64"], "/w==");
    }
}
