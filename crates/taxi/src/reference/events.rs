//! `docs/events.md`: each event, who publishes it, who acts on it, what it carries.

mod examples;
mod subscribers;

use gateway::openapi::Comment;
use prost_reflect::{DescriptorPool, MessageDescriptor};

use self::examples::Examples;
use self::subscribers::Subscriber;
use super::api::fields;
use super::markdown::{Page, code};
use super::words::{Words, segment};

/// What holds for every event.
const CONVENTIONS: &str = include_str!("events.md");

/// The catalogue of all events.
pub(super) fn page(pool: &DescriptorPool, words: &Words) -> Page {
    let source = "the protos of the events, events.md and what the contexts subscribe to";
    let mut page = Page::new("events.md", source);
    let subscribers = subscribers::all();
    let (before, after) = CONVENTIONS.split_once("{consumers}\n").expect("a place for consumers");
    let (envelope, after) = after.split_once("{envelope}\n").expect("a place for the envelope");
    page.add(before);
    consumers(&mut page, &subscribers);
    page.add(envelope);
    headers(&mut page, pool, words);
    page.add(after);
    let events = all(pool);
    overview(&mut page, &events, &subscribers, words);
    let examples = Examples::read();
    for event in &events {
        section(&mut page, event, &subscribers, words, &examples);
    }
    page
}

/// All events, context by context.
fn all(pool: &DescriptorPool) -> Vec<MessageDescriptor> {
    let ours = pool.files().filter(|file| file.name().ends_with("/events.proto"));
    ours.flat_map(|file| file.messages().collect::<Vec<_>>()).collect()
}

fn consumers(page: &mut Page, subscribers: &[Subscriber]) {
    let row = |it: &Subscriber| {
        [code(it.context), it.reads.join(", "), code(&it.consumer), it.how.to_owned()]
    };
    let rows: Vec<[String; 4]> = subscribers.iter().map(row).collect();
    page.table(["context", "reads the events of", "consumer on the broker", "how"], &rows);
}

/// The headers of an event, as the envelope explains them.
fn headers(page: &mut Page, pool: &DescriptorPool, words: &Words) {
    let envelope = pool.get_message_by_name("taxi.event.v1.Envelope").expect("an envelope");
    let header = |field: prost_reflect::FieldDescriptor| {
        let comment = Comment::of(&field.parent_file(), field.path()).text();
        let said = comment.strip_prefix("Header `")?;
        let (name, meaning) = said.split_once('`').expect("the name of a header");
        let meaning = meaning.trim_start_matches([',', '.', ' ']);
        Some([code(name), words.linked(&page.path, meaning)])
    };
    let rows: Vec<[String; 2]> = envelope.fields().filter_map(header).collect();
    page.table(["header", "what it says"], &rows);
}

fn overview(
    page: &mut Page,
    events: &[MessageDescriptor],
    subscribers: &[Subscriber],
    words: &Words,
) {
    let row = |event: &MessageDescriptor| {
        let comment = Comment::of(&event.parent_file(), event.path());
        [
            words.linked(&page.path, event.name()),
            segment(event.package_name()).to_owned(),
            who_acts(event, subscribers).join(", "),
            words.linked(&page.path, comment.summary()) + ".",
        ]
    };
    let rows: Vec<[String; 4]> = events.iter().map(row).collect();
    page.table(["event", "published by", "acted on by", "when"], &rows);
}

fn who_acts<'a>(event: &MessageDescriptor, subscribers: &'a [Subscriber]) -> Vec<&'a str> {
    subscribers.iter().filter(|it| it.acts_on(event)).map(|it| it.context).collect()
}

fn section(
    page: &mut Page,
    event: &MessageDescriptor,
    subscribers: &[Subscriber],
    words: &Words,
    examples: &Examples,
) {
    let context = segment(event.package_name());
    let comment = Comment::of(&event.parent_file(), event.path());
    page.add(format!("## {}", event.name()));
    page.add(words.comment(&page.path, &comment));
    let subject = format!("taxi.events.<shard>.{context}.{}.<{context} id>", event.name());
    page.table(
        ["", ""],
        &[
            ["subject".to_owned(), code(&subject)],
            ["type".to_owned(), code(event.full_name())],
            ["published by".to_owned(), context.to_owned()],
            ["acted on by".to_owned(), who_acts(event, subscribers).join(", ")],
        ],
    );
    let rows: Vec<[String; 3]> = fields(words, &page.path, event)
        .into_iter()
        .map(|[field, kind, _, meaning]| [field, kind, meaning])
        .collect();
    page.table(["field", "type", "meaning"], &rows);
    for kind in event.child_enums() {
        let values = kind.values().map(|value| {
            let comment = Comment::of(&value.parent_file(), value.path()).text();
            format!("- `{}`: {}\n", value.name(), words.linked(&page.path, &comment))
        });
        let values: String = values.collect();
        page.add(format!("### {}", super::words::short_enum(&kind)));
        page.add(values);
    }
    page.block("json", &examples.of(event));
}
