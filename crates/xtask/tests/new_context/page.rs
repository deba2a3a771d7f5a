//! A page that people follow, and a test does: its fenced blocks make files, change them, and run.
//!
//! | above the block | the block |
//! |---|---|
//! | ``New file `PATH`:`` | is the file |
//! | ``In `PATH`:`` | is a diff without line numbers ([`patch`](crate::patch)) |
//! | ``At the end of `PATH`:`` | is more of the file |
//! | `<!-- run by: cargo test -p xtask --test new_context -->` | has commands behind `$`, and what they print |

use crate::copy::Copy;
use crate::patch;

/// What stands above commands that this test runs.
const RUN: &str = "<!-- run by: cargo test -p xtask --test new_context -->";

/// The blocks that mean something, in order.
pub(crate) struct Page {
    blocks: Vec<Block>,
}

struct Block {
    means: Means,
    text: String,
}

enum Means {
    New(String),
    In(String),
    AtTheEndOf(String),
    Run,
}

impl Means {
    /// What the line above a block says of it.
    fn of(line: &str) -> Option<Means> {
        let path = |before| line.strip_prefix(before)?.strip_suffix("`:").map(str::to_owned);
        let new = || path("New file `").map(Means::New);
        let changed = || path("In `").map(Means::In);
        let longer = || path("At the end of `").map(Means::AtTheEndOf);
        new().or_else(changed).or_else(longer).or_else(|| (line == RUN).then_some(Means::Run))
    }
}

impl Page {
    /// Reads a page of the copy.
    pub(crate) fn read(copy: &Copy, path: &str) -> Page {
        let text = copy.read(path);
        let (mut blocks, mut above) = (Vec::new(), "");
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if line.starts_with("```") {
                let inside = lines.by_ref().take_while(|line| *line != "```");
                let text = inside.map(|line| format!("{line}\n")).collect();
                blocks.extend(Means::of(above).map(|means| Block { means, text }));
            } else if !line.is_empty() {
                above = line;
            }
        }
        assert!(!blocks.is_empty(), "{path} has nothing to follow");
        Page { blocks }
    }

    /// Makes and changes the files.
    pub(crate) fn edit(&self, copy: &Copy) {
        for Block { means, text } in &self.blocks {
            match means {
                Means::New(path) => copy.write(path, text),
                Means::AtTheEndOf(path) => copy.write(path, &(copy.read(path) + text)),
                Means::In(path) => {
                    let hunks = patch::hunks(text).expect(path);
                    let apply = |text: String, hunk: &patch::Hunk| hunk.apply(&text);
                    let text = hunks.iter().try_fold(copy.read(path), apply);
                    copy.write(path, &text.unwrap_or_else(|why| panic!("{path}: {why}")));
                }
                Means::Run => {}
            }
        }
    }

    /// Runs the commands, and looks for what they should print.
    pub(crate) fn run(&self, copy: &Copy) {
        for block in self.blocks.iter().filter(|block| matches!(block.means, Means::Run)) {
            for console in block.text.split("$ ").skip(1) {
                let (command, expected) = console.split_once('\n').expect("a line");
                let printed = copy.run(command);
                for line in expected.lines() {
                    let is_there = printed.lines().any(|printed| is_like(printed, line));
                    assert!(is_there, "`{command}` did not print `{line}`, but:\n{printed}");
                }
            }
        }
    }
}

/// Whether a printed line is the expected one; `…` stands for anything.
fn is_like(printed: &str, expected: &str) -> bool {
    let mut rest = Some(printed);
    for part in expected.split('…') {
        rest = rest.and_then(|rest| rest.split_once(part)).map(|(_, rest)| rest);
    }
    rest.is_some()
}
