//! Who reads which events, and who acts on them, from the source of the contexts.

use std::fs;
use std::path::Path;

use prost_reflect::MessageDescriptor;

use crate::contexts::Name;
use crate::reference::repository;

/// A context that reads events.
pub(super) struct Subscriber {
    pub(super) context: &'static str,
    /// Of which contexts.
    pub(super) reads: Vec<String>,
    /// What its consumer is called.
    pub(super) consumer: String,
    pub(super) how: &'static str,
    source: String,
}

impl Subscriber {
    /// Whether it does something about an event: its source names it where events are told apart.
    pub(super) fn acts_on(&self, event: &MessageDescriptor) -> bool {
        let names = [format!("{}::NAME", event.name()), format!("\"{}\"", event.full_name())];
        names.iter().any(|name| self.source.contains(name))
    }

    fn of(context: &'static str) -> Option<Subscriber> {
        let mut source = String::new();
        collect(&repository("crates").join(context).join("src"), &mut source);
        if source.contains("Projection::new(") {
            return Some(Subscriber {
                context,
                reads: vec!["all".to_owned()],
                consumer: String::new(),
                how: "an ordered consumer for its shards, from behind its checkpoints in the \
                      database; a batch of events is one transaction",
                source,
            });
        }
        let reads = listens_to(&source)?;
        let whole = source.contains("Part::Whole");
        let part = if whole { "all" } else { "<shard>" };
        let how = match whole {
            true => "a durable pull consumer for all shards, shared by all replicas",
            false => "a durable pull consumer for each shard, one replica at a time",
        };
        Some(Subscriber { context, reads, consumer: format!("{context}-{part}"), how, source })
    }
}

/// All contexts that read events.
pub(super) fn all() -> Vec<Subscriber> {
    Name::ALL.iter().filter_map(|context| Subscriber::of(context.as_str())).collect()
}

/// The contexts whose events a consumer is started for.
fn listens_to(source: &str) -> Option<Vec<String>> {
    let starts = ["consume(&[", "listens_to: &["];
    let (_, list) = starts.iter().find_map(|start| source.split_once(start))?;
    let (list, _) = list.split_once(']')?;
    Some(list.split('"').skip(1).step_by(2).map(str::to_owned).collect())
}

/// The source in a folder, without what is only compiled for tests.
fn collect(folder: &Path, source: &mut String) {
    let entries = fs::read_dir(folder).expect("a folder of a context");
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        let name = path.file_name().unwrap_or_default();
        match path.is_dir() {
            _ if name == "tests" || name == "tests.rs" => {}
            true => collect(&path, source),
            false => {
                let text = fs::read_to_string(&path).expect("a source file");
                source.push_str(text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default());
            }
        }
    }
}
