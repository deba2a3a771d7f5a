//! A Python that has what a test compares us with.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Names the interpreter to take.
const NAMED: &str = "TAXI_PYTHON";

/// An interpreter that can import a module. Without one the test is skipped, and says so, but not
/// where it must run: `tools/setup.sh python` gets one.
pub(crate) fn with(module: &str) -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/bin/python");
    let named = env::var_os(NAMED).map(PathBuf::from);
    let found = named.into_iter().chain([tools, PathBuf::from("python3")]).find(|python| {
        let mut command = Command::new(python);
        command.arg("-c").arg(format!("import {module}"));
        let imported = command.stdin(Stdio::null()).stderr(Stdio::null()).status();
        imported.is_ok_and(|status| status.success())
    });
    if found.is_none() {
        assert!(env::var_os("CI").is_none(), "no Python has {module}: run tools/setup.sh python");
        eprintln!("skipped: no Python has {module}; tools/setup.sh python gets one");
    }
    found
}
