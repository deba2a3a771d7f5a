//! Programs of others that tests run: a browser, a Python, command-line clients.
//!
//! `make test` has `tools/setup.sh` get them all, so a test that needs one insists on it: a test that
//! is skipped in silence is one that nobody has.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a fresh browser would ask of the world on its own, it does not; and it needs neither a
/// screen nor a user of its own.
const QUIET: [&str; 13] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--window-size=1280,1800",
    "--enable-logging=stderr",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];

/// A program: from `.tools/bin` of this directory or one above it (tests run in the directory of
/// their crate), or from `PATH`. `setup` is what `tools/setup.sh` calls it.
///
/// # Panics
/// When it is in neither.
#[must_use]
pub fn tool(name: &str, setup: &str) -> PathBuf {
    match find(name) {
        Some(program) => program,
        None => panic!("there is no {name}: run tools/setup.sh {setup}"),
    }
}

/// Chromium without a window, with a profile of its own. What pages say on their consoles goes to
/// stderr, in lines with `:CONSOLE`.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn chromium(profile: &Path) -> Command {
    let mut command = Command::new(tool("chromium", "chromium"));
    command.args(QUIET).arg(format!("--user-data-dir={}", profile.display()));
    command
}

fn find(name: &str) -> Option<PathBuf> {
    let here = env::current_dir().ok()?;
    let ours = here.ancestors().map(|dir| dir.join(".tools/bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let mut all = ours.chain(env::split_paths(&path)).map(|dir| dir.join(name));
    all.find(|program| program.is_file())
}
