//! `docs/api`, `docs/events.md`, `docs/config.md` and `docs/cli.md`: they are made from what `taxi` is
//! made of, by a test of it (`crates/taxi/src/reference`), so that this crate stays quick to build.

use std::path::Path;
use std::process::Command;

/// What to do with the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Write them anew.
    Write,
    /// Say which of them are not what the source says.
    Check,
}

/// Whether all pages are what the source says, by now.
pub(crate) fn run(root: &Path, mode: Mode) -> Result<bool, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut test = Command::new(cargo);
    test.current_dir(root).args(["test", "-q", "-p", "taxi", "--bin", "taxi", "reference::"]);
    match mode {
        Mode::Write => test.env("BLESS", "1"),
        Mode::Check => test.env_remove("BLESS"),
    };
    let status = test.status().map_err(|error| format!("cargo test: {error}"))?;
    Ok(status.success())
}
