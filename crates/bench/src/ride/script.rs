//! The SQL of RequestAllocation, for pgbench.

use prost::Message as _;
use prost_types::Timestamp;
use proto::allocation::v1::AllocationRequested;
use proto::r#type::v1::Place;

use crate::city::{destination, pickup};

/// Any time and any id are as good as any other.
const MICROS: i64 = 1_767_225_600_000_000;
const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The statements of `Store::create` for an allocation, as sea-orm writes them. Only a customer has
/// to be another one each time, and the database makes the ids. pgbench sees a variable in every
/// colon before a letter, in a string too.
pub(crate) fn script() -> String {
    let (from, to) = (columns(&pickup()), columns(&destination()));
    let payload = hex(&event().encode_to_vec());
    let fingerprint = "0".repeat(64);
    format!(
        r#"\set n random(1, 1000000000000000)
BEGIN;
INSERT INTO "allocation" ("id", "revision", "version", "customer", "state", "language", "pickup_address", "pickup_latitude", "pickup_longitude", "destination_address", "destination_latitude", "destination_longitude", "slot", "open_slot", "expire_time", "expiring", "driving", "driver", "cancel_reason", "create_time", "update_time") VALUES (gen_random_uuid(), 1, 1, 'bench-' || :n::text, 'REQUESTED', 'ko', {from}, {to}, 0, 'customers/bench-' || :n::text || '#0', {MICROS}, FALSE, NULL, NULL, '', {MICROS}, {MICROS});
INSERT INTO "outbox" ("event", "aggregate", "version", "kind", "correlation", "causation", "trace", "time", "payload", "sent_at") VALUES (gen_random_uuid(), gen_random_uuid(), 1, 'taxi.allocation.v1.AllocationRequested', gen_random_uuid(), gen_random_uuid(), '{TRACE}', {MICROS}, '\x{payload}'::bytea, NULL);
INSERT INTO "cause" ("id", "actor", "fingerprint", "aggregate", "time") VALUES (gen_random_uuid(), 'operator bench', '{fingerprint}', gen_random_uuid(), {MICROS});
COMMIT;
"#
    )
}

fn columns(place: &Place) -> String {
    let at = place.location.unwrap_or_default();
    format!("'{}', {:?}, {:?}", place.address, at.latitude, at.longitude)
}

/// An event of the right size.
fn event() -> AllocationRequested {
    let time = Timestamp { seconds: MICROS / 1_000_000, nanos: 1_000 };
    AllocationRequested {
        allocation: format!("allocations/{ID}"),
        customer: "customers/bench-123456".to_owned(),
        driving: String::new(),
        pickup: Some(pickup()),
        destination: Some(destination()),
        language: "ko".to_owned(),
        request_time: Some(time),
        expire_time: Some(time),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_one_statement_a_line() {
        let script = script();
        let statements = script.lines().skip(1);
        assert!(statements.clone().all(|line| line.ends_with(';')), "{script}");
        assert_eq!(statements.count(), 5);
    }
}
