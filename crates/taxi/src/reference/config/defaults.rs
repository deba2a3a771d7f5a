//! `config.default.toml` as a list of sections and keys, each with its words.
//!
//! The words of a section are the comment above it or beside it, with the processes that read it at
//! the end (`Read by: driving.`); a section without takes both from the section it is part of. The
//! words of a key are beside it, or above it.

use platform::config::duration;

/// A table of the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) words: String,
    pub(super) read_by: String,
    pub(super) keys: Vec<Key>,
}

/// A setting.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) default: String,
    pub(super) words: String,
}

impl Key {
    /// What its value is.
    pub(super) fn kind(&self) -> &'static str {
        let text = self.default.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        match text {
            Some(text) if duration::parse(text).is_some() => "duration",
            Some(_) => "text",
            None if self.default.starts_with('[') => "list of texts",
            None if ["true", "false"].contains(&&*self.default) => "true or false",
            None if self.default.contains('.') => "number",
            None => "whole number",
        }
    }
}

/// What separates the words of a section from who reads it.
const READ_BY: &str = "Read by: ";

/// All sections with keys, in the order of the file.
pub(super) fn read(defaults: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut above = String::new();
    for line in defaults.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix('#') {
            above = format!("{above} {}", comment.trim());
            continue;
        }
        let (code, beside) = line.split_once(" #").unwrap_or((line, ""));
        let words = format!("{} {}", above.trim(), beside.trim()).trim().to_owned();
        above.clear();
        if let Some(name) = code.trim().strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            let section = section(name, &words, &sections);
            sections.push(section);
        } else if let Some((name, default)) = code.split_once(" = ") {
            let section = sections.last_mut().expect("a section before the first key");
            assert!(!words.is_empty(), "[{}] {name}: what does it mean?", section.name);
            let (name, default) = (name.to_owned(), default.trim().to_owned());
            section.keys.push(Key { name, default, words: sentence(&words) });
        }
    }
    sections.retain(|section| !section.keys.is_empty());
    sections
}

fn section(name: &str, words: &str, before: &[Section]) -> Section {
    let parent = name.rsplit_once('.').and_then(|(parent, _)| {
        before.iter().find(|it| it.name == parent || it.name.starts_with(&format!("{parent}.")))
    });
    let (words, read_by) = match (words.split_once(READ_BY), parent) {
        (Some((words, read_by)), _) => (words, read_by),
        (None, Some(parent)) => (words, parent.read_by.as_str()),
        (None, None) => panic!("[{name}]: who reads it?"),
    };
    let words = if words.is_empty() { parent.map_or("", |it| it.words.as_str()) } else { words };
    assert!(!words.is_empty(), "[{name}]: what is it about?");
    let read_by = read_by.trim_end_matches('.').to_owned();
    Section { name: name.to_owned(), words: sentence(words), read_by, keys: Vec::new() }
}

/// Words as a sentence of their own.
fn sentence(words: &str) -> String {
    let words = words.trim();
    let mut letters = words.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    // Names such as gRPC are left as they are.
    let first_word = words.split([' ', ',', ':']).next().unwrap_or_default();
    let plain = first_word.chars().all(char::is_lowercase);
    let text = if plain { first + letters.as_str() } else { words.to_owned() };
    if text.ends_with('.') { text } else { text + "." }
}

#[test]
fn words_are_found_beside_and_above() {
    let sections = read(
        "# About the file.\n\n# A kitchen. Read by: cooks.\n[kitchen]\nheat = 3 # how hot\n\
         # how long\nwait = \"5s\"\n[kitchen.stove]  # its stove\nfires = [] # which\n",
    );
    let shown: Vec<_> = sections.iter().map(|it| (&*it.name, &*it.words, &*it.read_by)).collect();
    assert_eq!(
        shown,
        [("kitchen", "A kitchen.", "cooks"), ("kitchen.stove", "Its stove.", "cooks")]
    );
    let keys = sections.iter().flat_map(|it| &it.keys);
    let keys: Vec<_> = keys.map(|key| (&*key.name, key.kind(), &*key.words)).collect();
    assert_eq!(
        keys,
        [
            ("heat", "whole number", "How hot."),
            ("wait", "duration", "How long."),
            ("fires", "list of texts", "Which."),
        ]
    );
}
