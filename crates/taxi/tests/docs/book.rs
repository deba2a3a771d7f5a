//! Every page of the documentation is in the book.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::pages::{all, page};

const SUMMARY: &str = "docs/SUMMARY.md";

#[test]
fn every_page_is_in_the_book() {
    let listed = page(SUMMARY).links;
    let chapters: BTreeSet<_> =
        listed.iter().map(|(_, link)| Path::new("docs").join(link)).collect();
    assert_eq!(chapters.len(), listed.len(), "{SUMMARY} has a page twice");
    let written: BTreeSet<PathBuf> = all()
        .into_iter()
        .map(|page| page.path)
        .filter(|path| path.starts_with("docs") && path != Path::new(SUMMARY))
        .collect();
    let missing: Vec<_> = written.difference(&chapters).collect();
    assert!(missing.is_empty(), "not in {SUMMARY}: {missing:#?}");
    let unwritten: Vec<_> = chapters.difference(&written).collect();
    assert!(unwritten.is_empty(), "only in {SUMMARY}: {unwritten:#?}");
}
