//! The reference in `docs/`, made from what the program is made of.
//!
//! | page | made from |
//! |---|---|
//! | `api/` ([`api`]) | the comments of the protos, and their HTTP rules |
//! | `events.md` ([`events`]) | the protos of the events, recorded ones, and who acts on them in the source |
//! | `config.md` ([`config`]) | `config.default.toml`, and the settings that are read from it |
//! | `cli.md` ([`cli`]) | the commands, and the exit codes |
//!
//! The test here fails while a page in `docs/` is another one; `cargo xtask docs` writes all anew.
//! `docs/errors.md` is written by hand, and held equal to the source by `cargo xtask errors`.

mod api;
mod cli;
mod config;
mod events;
mod markdown;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

use prost_reflect::DescriptorPool;

use markdown::Page;
use words::Words;

/// A path of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// All pages.
fn pages() -> Vec<Page> {
    let pool = DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).expect("descriptors");
    let words = Words::of(&pool);
    let mut pages = api::pages(&pool, &words);
    pages.extend([events::page(&pool, &words), config::page(), cli::page()]);
    pages
}

/// Writes the page when that is what was asked for (`BLESS=1`); else says where it is another one.
fn hold(page: &Page) -> Option<String> {
    let file = repository("docs").join(&page.path);
    if std::env::var_os("BLESS").is_some() {
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        fs::write(&file, &page.text).expect("a file that can be written");
        return None;
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    let same = written.lines().zip(page.text.lines()).take_while(|(was, is)| was == is).count();
    let differs = || format!("docs/{}:{} is not what the source says", page.path, same + 1);
    (written != page.text).then(differs)
}

/// The links of a page to pages or sections that are not there.
fn loose_links(page: &Page) -> Vec<String> {
    let folder = repository("docs").join(&page.path).with_file_name("");
    let leads_nowhere = |link: &&str| {
        let (path, section) = link.split_once('#').unwrap_or((link, ""));
        let target = match path {
            "" => Ok(page.text.clone()),
            path => fs::read_to_string(folder.join(path)),
        };
        let found = |text: String| markdown::anchors(&text).iter().any(|it| it == section);
        !target.is_ok_and(|text| section.is_empty() || found(text))
    };
    let links = page.text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    let links = links.filter(|link| !link.starts_with("https://"));
    links.filter(leads_nowhere).map(|link| format!("docs/{}: to {link}", page.path)).collect()
}

#[test]
fn the_pages_are_made_from_the_source() {
    let pages = pages();
    let stale: Vec<String> = pages.iter().filter_map(hold).collect();
    assert!(stale.is_empty(), "renew by `cargo xtask docs`:\n{}", stale.join("\n"));
    let loose: Vec<String> = pages.iter().flat_map(loose_links).collect();
    assert!(loose.is_empty(), "these links lead nowhere:\n{}", loose.join("\n"));
}
