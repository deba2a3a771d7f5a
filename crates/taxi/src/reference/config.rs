//! `docs/config.md`: every key, from the defaults that the program starts with and what is written
//! beside them.

mod defaults;

use std::collections::BTreeSet;

use figment::Figment;
use figment::error::Kind;
use figment::providers::{Format as _, Serialized, Toml};

use self::defaults::{Key, Section};
use super::markdown::{Page, anchor, code};
use crate::config::{DEFAULTS, ENV_PREFIX, Settings};

/// How the configuration is read.
const LAYERS: &str = include_str!("config.md");

/// The reference of all keys.
pub(super) fn page() -> Page {
    let mut page = Page::new("config.md", "crates/taxi/src/config.default.toml and config.md");
    page.add(LAYERS);
    let sections = defaults::read(DEFAULTS);
    let row = |it: &Section| {
        [
            format!("[`[{0}]`](#{1})", it.name, anchor(&it.name)),
            it.read_by.clone(),
            it.words.clone(),
        ]
    };
    let rows: Vec<[String; 3]> = sections.iter().map(row).collect();
    page.table(["section", "read by", "about"], &rows);
    for section in &sections {
        page.add(format!("## {}", section.name));
        page.add(&section.words);
        page.add(format!("Read by {}.", section.read_by));
        let row = |key: &Key| {
            [
                code(&key.name),
                code(&variable(&section.name, &key.name)),
                key.kind().to_owned(),
                code(&key.default),
                key.words.clone(),
            ]
        };
        let rows: Vec<[String; 5]> = section.keys.iter().map(row).collect();
        page.table(["key", "variable", "type", "default", "meaning"], &rows);
    }
    page
}

/// The environment variable of a key.
fn variable(section: &str, key: &str) -> String {
    format!("{ENV_PREFIX}{section}.{key}").replace('.', "__").to_uppercase()
}

/// The keys that the settings have in a section: those that are named to whoever sets another one.
fn known_keys(section: &str) -> BTreeSet<String> {
    let key = format!("{section}.nobody_knows_this");
    let defaults = Figment::from(Toml::string(DEFAULTS));
    let error = defaults.join(Serialized::default(&key, true)).extract::<Settings>();
    match error.expect_err("an unknown key").kind {
        Kind::UnknownField(_, known) => known.iter().map(|key| (*key).to_owned()).collect(),
        other => panic!("{section}: {other}"),
    }
}

#[test]
fn the_defaults_have_every_key() {
    let sections = defaults::read(DEFAULTS);
    for section in &sections {
        let prefix = format!("{}.", section.name);
        let below =
            sections.iter().filter_map(|it| it.name.strip_prefix(&prefix)?.split('.').next());
        let own = section.keys.iter().map(|key| key.name.as_str());
        let written: BTreeSet<String> = own.chain(below).map(str::to_owned).collect();
        assert_eq!(written, known_keys(&section.name), "[{}]", section.name);
    }
}
