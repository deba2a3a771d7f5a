//! `cargo xtask new-context rating`: a context that compiles, is tested and is served.
//!
//! Its own files come from `templates/`; every place where contexts are named by hand gets one more
//! line ([`places`]). All of it is made up in memory first, so that a name that will not do, or a
//! place that has moved, changes nothing.

mod name;
mod patch;
mod places;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use self::name::ContextName;

/// The files of a new context, and what they are made of.
const FILES: [(&str, &str); 13] = [
    ("crates/__name__/Cargo.toml", include_str!("new_context/templates/crate/Cargo.toml")),
    ("crates/__name__/src/lib.rs", include_str!("new_context/templates/crate/src/lib.rs")),
    ("crates/__name__/src/domain.rs", include_str!("new_context/templates/crate/src/domain.rs")),
    ("crates/__name__/src/app.rs", include_str!("new_context/templates/crate/src/app.rs")),
    ("crates/__name__/src/grpc.rs", include_str!("new_context/templates/crate/src/grpc.rs")),
    (
        "crates/__name__/src/policies.rs",
        include_str!("new_context/templates/crate/src/policies.rs"),
    ),
    ("crates/__name__/src/events.rs", include_str!("new_context/templates/crate/src/events.rs")),
    ("crates/__name__/src/entity.rs", include_str!("new_context/templates/crate/src/entity.rs")),
    (
        "crates/__name__/src/migration.rs",
        include_str!("new_context/templates/crate/src/migration.rs"),
    ),
    ("crates/__name__/src/tests.rs", include_str!("new_context/templates/crate/src/tests.rs")),
    ("crates/taxi/tests/__name__.rs", include_str!("new_context/templates/front_door.rs")),
    (
        "proto/taxi/__name__/v1/__name__.proto",
        include_str!("new_context/templates/proto/context.proto"),
    ),
    (
        "proto/taxi/__name__/v1/events.proto",
        include_str!("new_context/templates/proto/events.proto"),
    ),
];

/// What is left to do by whoever has the name in mind.
const NEXT_STEPS: &str = include_str!("new_context/templates/next_steps.txt");

/// Makes the context in the workspace around this folder; answers what there is to tell.
pub(crate) fn run(here: &Path, name: &str) -> Result<String, String> {
    let root = workspace(here)?;
    let name = ContextName::parse(name, &root)?;
    let mut made = BTreeMap::new();
    for (path, template) in FILES {
        let path = name.fill(path);
        let text = formatted(&root, &path, name.fill(template))?;
        made.insert(path, text);
    }
    let mut changed = BTreeMap::new();
    for (path, text) in places::edited(&root, &name)? {
        let text = formatted(&root, &path, text)?;
        changed.insert(path, text);
    }
    let mut told = String::new();
    for (what, paths) in [("made", made.keys()), ("changed", changed.keys())] {
        paths.for_each(|path| told += &format!("{what:8} {path}\n"));
    }
    made.append(&mut changed);
    write(&root, &made)?;
    Ok(told + &name.fill(NEXT_STEPS))
}

/// The folder of the workspace that this folder is in.
fn workspace(here: &Path) -> Result<PathBuf, String> {
    let is_root = |folder: &&Path| {
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
        manifest.lines().any(|line| line == "[workspace]")
    };
    let root = here.ancestors().find(is_root).map(Path::to_owned);
    root.ok_or_else(|| format!("{} is in no workspace", here.display()))
}

/// As `cargo fmt` would leave it: a longer name breaks other lines.
fn formatted(root: &Path, path: &str, text: String) -> Result<String, String> {
    if !path.ends_with(".rs") {
        return Ok(text);
    }
    let failed = |error: std::io::Error| format!("rustfmt: {error}");
    let mut rustfmt = Command::new("rustfmt")
        .args(["--edition", "2024", "--emit", "stdout"])
        .current_dir(root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // It reads everything before it writes anything.
    if let Some(mut stdin) = rustfmt.stdin.take() {
        stdin.write_all(text.as_bytes()).map_err(failed)?;
    }
    let output = rustfmt.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        return Err(format!("{path}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    String::from_utf8(output.stdout).map_err(|error| format!("{path}: {error}"))
}

/// Writes all of them. What fails half-way is taken back.
fn write(root: &Path, files: &BTreeMap<String, String>) -> Result<(), String> {
    let mut before = Vec::new();
    for (path, text) in files {
        let file = root.join(path);
        before.push((file.clone(), fs::read(&file).ok()));
        let folder = file.parent().unwrap_or(root);
        let written = fs::create_dir_all(folder).and_then(|()| fs::write(&file, text));
        if let Err(error) = written {
            before.iter().for_each(|(file, text)| restore(file, text.as_deref()));
            return Err(format!("{path}: {error}: nothing was changed"));
        }
    }
    Ok(())
}

/// Puts a file back, or removes what was not there. Should that fail too, the first error is the one
/// to tell.
fn restore(file: &Path, text: Option<&[u8]>) {
    if let Some(text) = text {
        fs::write(file, text).ok();
        return;
    }
    fs::remove_file(file).ok();
    // Its folder as well, and those above, up to one with something in it.
    let _ = file.ancestors().skip(1).try_for_each(fs::remove_dir);
}

#[cfg(test)]
mod tests;
