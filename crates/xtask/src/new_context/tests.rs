//! What is made, without building it; `tests/new_context.rs` builds it.

use super::*;
use crate::root;

#[test]
fn every_template_is_filled() {
    let name = ContextName::parse("rating", root()).expect("free");
    let texts = FILES.iter().flat_map(|(path, template)| [*path, *template]).chain([NEXT_STEPS]);
    for text in texts {
        let filled = name.fill(text);
        assert!(!filled.contains("__"), "{filled}");
    }
}

#[test]
fn what_fails_half_way_is_taken_back() {
    let folder = std::env::temp_dir().join(format!("new-context-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("a"), "before").expect("a file");
    // No file can be made below a file.
    let files = [("a", "after"), ("b/c/d", "new"), ("b/c/d/e", "no")];
    let files = files.map(|(path, text)| (path.to_owned(), text.to_owned()));
    write(&folder, &files.into()).expect_err("b is no folder");
    assert_eq!(fs::read_to_string(folder.join("a")).expect("kept"), "before");
    assert!(!folder.join("b").exists());
    fs::remove_dir_all(folder).expect("removed");
}
