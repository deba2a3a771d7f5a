//! Every command can be pasted, those too that nobody runs: bash can read it, and our marks in it
//! are comments.

use std::path::Path;

use testkit::program;

use crate::pages::{Block, all};

/// How far something was tried: see `docs/operations.md`.
const MARKS: [char; 3] = ['▷', '◇', '○'];

#[test]
fn every_command_can_be_pasted() {
    let mut faults = Vec::new();
    for page in all() {
        for block in page.blocks.iter().filter(|block| block.is_shell()) {
            let fault = fault(block);
            faults.extend(fault.map(|fault| format!("{}: {fault}", page.at(block.line))));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// What bash or a reader stumbles over.
fn fault(block: &Block) -> Option<String> {
    let pasted: Vec<&str> =
        block.text.lines().map(|line| line.strip_prefix("$ ").unwrap_or(line)).collect();
    let bare = pasted.iter().find(|line| {
        let code = line.split_once(" # ").map_or(**line, |(code, _)| code);
        code.contains(MARKS)
    });
    if let Some(line) = bare {
        return Some(format!("a mark that is an argument: {line}"));
    }
    let mut bash = program(Path::new("bash"));
    let output = bash.args(["-n", "-c", &pasted.join("\n")]).output().expect("bash");
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn what_cannot_be_pasted_is_found() {
    let block = |text: &str| Block { text: text.to_owned(), ..Block::default() };
    for text in ["$ for c in a; do\n    ls $c; done   ▷", "$ ls ○", "$ ls <name> | wc"] {
        assert!(fault(&block(text)).is_some(), "{text}");
    }
    assert_eq!(fault(&block("$ ls   # ○ needs a cluster\n$ cat <<'END'\n(\nEND\n")), None);
}
