//! Events that have happened, from the bytes that every version has to understand.

use std::collections::BTreeMap;
use std::fs;

use prost_reflect::{DynamicMessage, MessageDescriptor};

use crate::reference::repository;

/// The recorded events: those of whole rides first, then those with every field.
const FILES: [&str; 2] = ["rides.golden", "events.golden"];

/// The encoded payload of one event of each type.
pub(super) struct Examples(BTreeMap<String, Vec<u8>>);

impl Examples {
    pub(super) fn read() -> Examples {
        let mut examples = BTreeMap::new();
        for file in FILES {
            let file = repository("crates/proto/tests/golden").join(file);
            let text = fs::read_to_string(&file).expect("recorded events");
            for line in text.lines() {
                let (kind, rest) = line.split_once(' ').expect("a type, bytes, JSON");
                let hex = rest.split(' ').next().unwrap_or_default();
                examples.entry(kind.to_owned()).or_insert_with(|| bytes(hex));
            }
        }
        Examples(examples)
    }

    /// An event of this type, as JSON.
    pub(super) fn of(&self, event: &MessageDescriptor) -> String {
        let recorded = self.0.get(event.full_name());
        let bytes = recorded.unwrap_or_else(|| panic!("no recorded {}", event.full_name()));
        let event = DynamicMessage::decode(event.clone(), &**bytes).expect("a recorded event");
        serde_json::to_string_pretty(&event).expect("JSON")
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
    (0..hex.len()).step_by(2).map(byte).collect()
}
