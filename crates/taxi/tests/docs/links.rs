//! Every link leads somewhere.

use std::path::{Component, Path, PathBuf};

use crate::pages::{Page, all, root};

#[test]
fn every_link_leads_somewhere() {
    let pages = all();
    let mut broken = Vec::new();
    let mut count = 0;
    for page in &pages {
        count += page.links.len();
        for (line, link) in &page.links {
            let fault = fault(&pages, page, link);
            broken.extend(fault.map(|fault| format!("{}: {link}: {fault}", page.at(*line))));
        }
    }
    println!("{count} links on {} pages", pages.len());
    assert!(broken.is_empty() && count > 100, "{broken:#?}");
}

/// What is wrong with a link. What is outside is not asked for: a test that needs the world fails
/// with it.
fn fault(pages: &[Page], page: &Page, link: &str) -> Option<String> {
    if link.contains("://") {
        return (!link.starts_with("https://")).then(|| "is no https".to_owned());
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = match path {
        "" => page.path.clone(),
        _ => plain(&page.path.parent().unwrap_or(Path::new("")).join(path))?,
    };
    if !root().join(&target).exists() {
        return Some("is not there".to_owned());
    }
    if anchor.is_empty() {
        return None;
    }
    match pages.iter().find(|page| page.path == target) {
        Some(page) if page.anchors().iter().any(|known| known == anchor) => None,
        Some(_) => Some("there is no such heading".to_owned()),
        // The lines of a source move; its name stays.
        None => Some("only pages have headings".to_owned()),
    }
}

/// Without `..`, which the file system resolves otherwise behind symbolic links.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir if !plain.pop() => {
                return Some(PathBuf::from("outside of the repository"));
            }
            Component::Normal(name) => plain.push(name),
            _ => {}
        }
    }
    Some(plain)
}
