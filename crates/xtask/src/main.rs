//! Chores of the repository.
//!
//! `cargo xtask arch` checks the import rules that the architecture lives by: which crate may
//! depend on which ([`graph`]), and which words may stand in which file ([`source`]). It prints
//! every violation as `file:line: rule: why` and ends with 1 when there is any. `cargo xtask errors`
//! does the same for the catalogue of errors ([`errors`]). `cargo xtask docs` writes the reference in
//! `docs/` anew, and with `--check` says whether it has to be ([`docs`]). `cargo xtask new-context
//! NAME` makes a bounded context ([`new_context`]).

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

mod docs;
mod errors;
mod graph;
mod new_context;
mod scan;
mod source;

/// Something that must not be.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Violation {
    file: PathBuf,
    line: usize,
    rule: &'static str,
    why: String,
}

const USAGE: &str = "usage: cargo xtask arch|docs [--check]|errors|new-context NAME";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["arch"] => report("the import rules", arch()),
        ["docs"] => reference(docs::Mode::Write),
        ["docs", "--check"] => reference(docs::Mode::Check),
        ["errors"] => report("the catalogue of errors", errors::check(root())),
        ["new-context", name] => make(name),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// Makes a context in the workspace that this is run in.
fn make(name: &str) -> ExitCode {
    let here = std::env::current_dir().map_err(|error| error.to_string());
    match here.and_then(|here| new_context::run(&here, name)) {
        Ok(told) => {
            print!("{told}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("cargo xtask new-context: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Writes the reference, or checks it.
fn reference(mode: docs::Mode) -> ExitCode {
    match docs::run(root(), mode) {
        Ok(true) => {
            eprintln!("the reference: in order");
            ExitCode::SUCCESS
        }
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cargo xtask: {error}");
            ExitCode::from(69)
        }
    }
}

fn report(what: &str, outcome: Result<Vec<Violation>, String>) -> ExitCode {
    let violations = match outcome {
        Ok(violations) => violations,
        Err(error) => {
            eprintln!("cargo xtask: {error}");
            return ExitCode::from(69);
        }
    };
    for Violation { file, line, rule, why } in &violations {
        println!("{}:{line}: {rule}: {why}", file.display());
    }
    match violations.len() {
        0 => {
            eprintln!("{what}: in order");
            ExitCode::SUCCESS
        }
        count => {
            eprintln!("{what}: {count} violations");
            ExitCode::FAILURE
        }
    }
}

/// The folder of the workspace.
fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

fn arch() -> Result<Vec<Violation>, String> {
    let packages = graph::parse(&metadata()?)?;
    let mut violations = graph::check(&packages);
    for package in &packages {
        violations.extend(source::check(package)?);
    }
    let here = std::env::current_dir().map_err(|error| error.to_string())?;
    for violation in &mut violations {
        if let Ok(short) = violation.file.strip_prefix(&here) {
            violation.file = short.to_owned();
        }
    }
    violations.sort();
    violations.dedup();
    Ok(violations)
}

fn metadata() -> Result<String, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .map_err(|error| format!("cargo metadata: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    String::from_utf8(output.stdout).map_err(|error| error.to_string())
}

fn read(file: &Path) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}
