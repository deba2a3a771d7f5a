//! The words that have a section of their own, and links to them from wherever they are written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use gateway::openapi::Comment;
use prost_reflect::{DescriptorPool, EnumDescriptor, MessageDescriptor};

use super::markdown::{anchor, anchors};
use super::repository;

/// Where types of Google are explained.
const GOOGLE: &str = "api/index.md#types-of-google";

/// Where errors are shown.
const ERROR: &str = "errors.md#what-an-error-looks-like";
/// Codes of errors that one word in capitals is enough for.
const CODES: [&str; 6] =
    ["ABORTED", "INTERNAL", "UNAUTHENTICATED", "UNAVAILABLE", "UNIMPLEMENTED", "UNKNOWN"];

/// Words that are explained, and words that are code.
#[derive(Default)]
pub(super) struct Words {
    /// In which section of which page each is explained.
    sections: BTreeMap<String, String>,
    /// The values of enums by what distinguishes them: REQUESTED is STATE_REQUESTED.
    values: BTreeSet<String>,
}

impl Words {
    /// Methods, events and errors by their own names; messages and enums by their full ones.
    pub(super) fn of(pool: &DescriptorPool) -> Words {
        let mut all_words = Words::default();
        let words = &mut all_words.sections;
        for file in pool.files().filter(|file| file.package_name().starts_with("taxi.")) {
            let page = format!("api/{}.md", segment(file.package_name()));
            let events = file.name().ends_with("/events.proto");
            let page = if events { "events.md".to_owned() } else { page };
            for method in file.services().flat_map(|it| it.methods().collect::<Vec<_>>()) {
                let section = format!("{page}#{}", anchor(method.name()));
                for of in [method.input(), method.output()] {
                    if of.name().starts_with(method.name()) {
                        words.insert(of.full_name().to_owned(), section.clone());
                    }
                }
                words.insert(method.name().to_owned(), section);
            }
            let mut all = file.messages().collect::<Vec<_>>();
            let mut enums = file.enums().collect::<Vec<_>>();
            while let Some(message) = all.pop() {
                let section = format!("{page}#{}", anchor(&short(&message)));
                if events && message.parent_message().is_none() {
                    words.insert(message.name().to_owned(), section.clone());
                }
                words.entry(message.full_name().to_owned()).or_insert(section);
                all.extend(message.child_messages());
                enums.extend(message.child_enums());
            }
            for kind in enums {
                let section = format!("{page}#{}", anchor(&short_enum(&kind)));
                words.insert(kind.full_name().to_owned(), section);
                all_words.values.extend(kind.values().map(|value| last_words(&kind, value.name())));
            }
        }
        let errors = fs::read_to_string(repository("docs/errors.md")).expect("the errors");
        for reason in errors.lines().filter_map(|line| line.strip_prefix("### ")) {
            words.insert(reason.to_owned(), format!("errors.md#{}", anchor(reason)));
        }
        assert!(anchors(&errors).iter().any(|it| it == "reasons"), "errors.md is another page");
        all_words
    }

    /// A link to what explains a word, under another name.
    pub(super) fn named(&self, from: &str, word: &str, name: &str) -> String {
        let target = match self.sections.get(word) {
            Some(target) => target,
            None if word.starts_with("google.rpc.") => ERROR,
            None if word.starts_with("google.") => GOOGLE,
            None => return name.to_owned(),
        };
        format!("[{name}]({})", relative(from, target))
    }

    /// A comment with links in the place of the words; code spans are left alone, unless one is a
    /// word's full name.
    pub(super) fn linked(&self, from: &str, text: &str) -> String {
        let span = |(nth, part): (usize, &str)| match nth % 2 {
            0 => self.linked_plain(from, part),
            _ if part.contains('.') => self.named(from, part, &format!("`{part}`")),
            _ => format!("`{part}`"),
        };
        let linked: String = text.split('`').enumerate().map(span).collect();
        linked.replace("docs/errors.md", &format!("[errors.md]({})", relative(from, "errors.md")))
    }

    fn linked_plain(&self, from: &str, text: &str) -> String {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let mut linked = String::new();
        let mut rest = text;
        while let Some(start) = rest.find(is_word) {
            let (before, tail) = rest.split_at(start);
            let end = tail.find(|c| !is_word(c)).unwrap_or(tail.len());
            let (word, after) = tail.split_at(end);
            linked.push_str(before);
            let shown = if self.is_code(word) { format!("`{word}`") } else { word.to_owned() };
            linked.push_str(&self.named(from, word, &shown));
            rest = after;
        }
        linked + rest
    }

    /// Whether a word is a reason, a code of an error or the value of an enum.
    fn is_code(&self, word: &str) -> bool {
        let upper = word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        let known = CODES.contains(&word) || self.values.contains(word);
        upper && (known || word.contains('_') || self.sections.contains_key(word))
    }

    /// The comment of something, with links.
    pub(super) fn comment(&self, from: &str, comment: &Comment) -> String {
        self.linked(from, &comment.text())
    }
}

/// What distinguishes a value from others of its enum.
fn last_words(kind: &EnumDescriptor, value: &str) -> String {
    let mut prefix = String::new();
    for letter in kind.name().chars() {
        if letter.is_uppercase() && !prefix.is_empty() {
            prefix.push('_');
        }
        prefix.extend(letter.to_uppercase());
    }
    value.strip_prefix(&prefix).unwrap_or(value).trim_start_matches('_').to_owned()
}

/// The context in the name of a package, such as `taxi.driving.v1`.
pub(super) fn segment(package: &str) -> &str {
    package.split('.').nth(1).unwrap_or(package)
}

/// The name of a message within its package, such as `Allocation`.
pub(super) fn short(message: &MessageDescriptor) -> String {
    within(message.full_name(), message.package_name())
}

/// The name of an enum within its package, such as `Allocation.State`.
pub(super) fn short_enum(kind: &EnumDescriptor) -> String {
    within(kind.full_name(), kind.package_name())
}

fn within(name: &str, package: &str) -> String {
    name.strip_prefix(package).unwrap_or(name).trim_start_matches('.').to_owned()
}

/// A link from one page of `docs/` to a section of another.
pub(super) fn relative(from: &str, to: &str) -> String {
    let (page, section) = to.split_once('#').unwrap_or((to, ""));
    if page == from {
        return format!("#{section}");
    }
    match (from.strip_prefix("api/"), to.strip_prefix("api/")) {
        (Some(_), Some(sibling)) => sibling.to_owned(),
        (Some(_), None) => format!("../{to}"),
        (None, _) => to.to_owned(),
    }
}

#[test]
fn words_become_links() {
    let sections = [
        ("GetRide", "api/ride.md#getride"),
        ("NO_RIDE", "errors.md#no_ride"),
        ("taxi.ride.v1.Ride", "api/ride.md#ride"),
    ];
    let sections = sections.map(|(word, at)| (word.to_owned(), at.to_owned())).into();
    let words = Words { sections, values: BTreeSet::from(["OPEN".to_owned()]) };
    let text =
        "As GetRide (GetRider): NOT_FOUND NO_RIDE, `GetRide`, `taxi.ride.v1.Ride`, OPEN KRW.";
    assert_eq!(
        words.linked("api/ride.md", text),
        "As [GetRide](#getride) (GetRider): `NOT_FOUND` [`NO_RIDE`](../errors.md#no_ride), \
         `GetRide`, [`taxi.ride.v1.Ride`](#ride), `OPEN` KRW."
    );
    assert_eq!(words.linked("events.md", "GetRide"), "[GetRide](api/ride.md#getride)");
}
