//! The program under test.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;

/// The one that was asked for, or the one beside this program, which cargo brings up to date: a
/// figure of yesterday's program is worse than none.
pub(crate) fn find(asked_for: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = asked_for {
        // The mesh starts it from other directories.
        return path.canonicalize().map_err(|error| format!("{}: {error}", path.display()).into());
    }
    let beside = env::current_exe()?.with_file_name("taxi");
    build()?;
    match beside.is_file() {
        true => Ok(beside),
        false => Err(format!("cargo did not put taxi where we are: {}", beside.display()).into()),
    }
}

fn build() -> Result<()> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--package", "taxi"]);
    cargo.args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    match cargo.status()? {
        status if status.success() => Ok(()),
        status => Err(format!("cargo build --package taxi: {status}").into()),
    }
}
