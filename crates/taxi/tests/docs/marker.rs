//! The comment above a block of commands: who runs it, or why nobody does.

use crate::pages::{all, root};

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Marker {
    /// Something else that runs just this: a target of make, a cargo command, a script, a test.
    RunBy(String),
    /// Nothing does, for this reason.
    NotRun(String),
}

impl Marker {
    /// A marker, if this is one.
    pub(crate) fn parse(html: &str) -> Option<Marker> {
        let comment = html.trim().strip_prefix("<!--")?.strip_suffix("-->")?.trim();
        let (kind, rest) = comment.split_once(':')?;
        let rest = rest.trim().to_owned();
        match kind {
            "run by" => Some(Marker::RunBy(rest)),
            "not run" => Some(Marker::NotRun(rest)),
            _ => None,
        }
    }

    /// What is wrong with it.
    fn fault(&self) -> Option<String> {
        match self {
            Marker::NotRun(reason) => reason.is_empty().then(|| "it says no reason".to_owned()),
            Marker::RunBy(runner) => missing(runner),
        }
    }
}

/// What does not exist of a runner.
fn missing(runner: &str) -> Option<String> {
    let words: Vec<&str> = runner.split_whitespace().collect();
    match words[..] {
        ["make", target, ..] => {
            let makefile = std::fs::read_to_string(root().join("Makefile")).expect("a Makefile");
            let there = makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
            (!there).then(|| format!("make has no target {target}"))
        }
        ["cargo", "test" | "run" | "xtask", ..] => {
            let package = after(&words, "-p").unwrap_or("xtask");
            let home = root().join("crates").join(package);
            let test =
                after(&words, "--test").map_or(home.clone(), |test| home.join("tests").join(test));
            let there = test.exists() || test.with_extension("rs").exists();
            (!there).then(|| format!("there is no {}", test.display()))
        }
        [path] if root().join(path).exists() => None,
        _ => Some(format!("nobody knows `{runner}`")),
    }
}

/// The word behind an option.
fn after<'a>(words: &[&'a str], option: &str) -> Option<&'a str> {
    let at = words.iter().position(|word| *word == option)?;
    words.get(at + 1).copied()
}

#[test]
fn markers_name_what_exists() {
    let (mut faults, mut counts) = (Vec::new(), [0; 3]);
    for page in all() {
        for block in page.blocks.iter().filter(|block| block.is_shell()) {
            let kind = match &block.marker {
                None => 0,
                Some(Marker::RunBy(_)) => 1,
                Some(Marker::NotRun(_)) => 2,
            };
            counts[kind] += 1;
            let fault = block.marker.as_ref().and_then(Marker::fault);
            faults.extend(fault.map(|fault| format!("{}: {fault}", page.at(block.line))));
        }
    }
    println!("{} blocks are run here, {} by others, {} not", counts[0], counts[1], counts[2]);
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn a_runner_that_is_not_there_is_found() {
    for runner in ["make test", "cargo test -p taxi --test mesh examples", ".ci/run"] {
        assert_eq!(missing(runner), None);
    }
    for runner in ["make tea", "cargo test -p taxi --test tea", "tea", ""] {
        assert!(missing(runner).is_some(), "{runner}");
    }
}
