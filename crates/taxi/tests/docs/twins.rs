//! The README in English and the one in Korean say the same: the same sections in the same order, the
//! same commands with the same output, links to the same places.

use crate::pages::{Page, page};

#[test]
fn the_readmes_are_one() {
    let (english, korean) = (page("README.md"), page("README.ko.md"));
    let levels = |page: &Page| page.headings.iter().map(|(level, _)| *level).collect::<Vec<_>>();
    assert_eq!(levels(&english), levels(&korean), "sections");
    assert_eq!(english.blocks.len(), korean.blocks.len(), "blocks");
    for (one, other) in english.blocks.iter().zip(&korean.blocks) {
        assert_eq!(code(&one.text), code(&other.text), "{}", english.at(one.line));
    }
    assert_eq!(places(&english), places(&korean), "links");
}

/// A block without its comments, which are in the language of the page.
fn code(text: &str) -> Vec<&str> {
    text.lines().map(|line| line.split(" # ").next().unwrap_or(line).trim_end()).collect()
}

/// Where its links lead, but to the other one and to headings of pages, which are words.
fn places(page: &Page) -> Vec<&str> {
    let links = page.links.iter().map(|(_, link)| link.as_str());
    let mut places: Vec<_> = links.filter(|link| !link.starts_with("README")).collect();
    places.sort_unstable();
    places
}
