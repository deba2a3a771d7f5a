//! The program under test.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;

/// The one that was asked for, or the one beside this program, which cargo brings up to date.
pub(crate) fn find(asked_for: Option<&Path>) -> Result<PathBuf> {
    let path = match asked_for {
        Some(path) => path.to_owned(),
        None => {
            build()?;
            env::current_exe()?.with_file_name("taxi")
        }
    };
    // It is started in other directories.
    path.canonicalize().map_err(|error| format!("{}: {error}", path.display()).into())
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
