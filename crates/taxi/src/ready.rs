//! The ready file: one JSON object with the addresses of a running mesh.
//!
//! Whoever serves writes it once everything answers, as a whole, and removes it at the end; whoever
//! calls reads it. So nobody has to know a port, and a script waits for a mesh by waiting for a file.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::client::Trust;
use crate::exit::Exit;

/// Its name in a data directory.
pub(crate) const FILE: &str = "ready.json";
/// Where `taxi dev` writes and the client commands read unless told otherwise.
pub(crate) const DEFAULT: &str = ".taxi/ready.json";

/// The addresses of a running mesh. `taxi serve` knows only its own part of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Base address of the door.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gateway: Option<String>,
    /// Base address of the development issuer, where it is not behind the door.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) issuer: Option<String>,
    /// Host and port of each context.
    pub(crate) grpc: BTreeMap<String, String>,
    /// Base address of a server's health.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) admin: Option<String>,
    /// The broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nats: Option<String>,
    /// Base address of the simulated payment provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) provider: Option<String>,
    /// The data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<PathBuf>,
    /// Whose certificates count; that is up to whoever calls.
    #[serde(skip)]
    pub(crate) trust: Trust,
}

/// What a part that has one address writes.
#[derive(Debug, Serialize)]
pub(crate) struct Started {
    /// Its base address.
    pub(crate) url: String,
}

/// Finds the running mesh.
pub(crate) fn find(path: Option<&Path>) -> Result<Ready, Exit> {
    let path = path.unwrap_or(Path::new(DEFAULT));
    let text = std::fs::read(path).map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::NotFound => format!("there is no {}", path.display()),
            _ => format!("{} cannot be read ({error})", path.display()),
        };
        Exit::unavailable(format!(
            "no running mesh was found, because {why}: start one with `taxi dev`, or give the \
             ready file of one with `--ready-file`"
        ))
    })?;
    serde_json::from_slice(&text)
        .map_err(|error| Exit::config(format!("{} is no ready file: {error}", path.display())))
}

/// A ready file that is removed when its writer ends.
#[derive(Debug)]
pub(crate) struct ReadyFile {
    path: PathBuf,
    text: String,
}

impl ReadyFile {
    /// Writes it: nobody ever sees half of it.
    pub(crate) fn write(path: &Path, content: &impl Serialize) -> Result<ReadyFile, Exit> {
        let text =
            serde_json::to_string(content).map_err(|error| Exit::failed(error.to_string()))?;
        let draft = path.with_extension(format!("{}.tmp", std::process::id()));
        let written = std::fs::write(&draft, format!("{text}\n"))
            .and_then(|()| std::fs::rename(&draft, path));
        match written {
            Ok(()) => Ok(ReadyFile { path: path.to_owned(), text }),
            Err(error) => {
                let file = path.display();
                Err(Exit::cannot_create(format!(
                    "the ready file {file} cannot be written: {error}"
                )))
            }
        }
    }

    /// Removes what a predecessor left behind when it was killed.
    pub(crate) fn clear(path: &Path) {
        std::fs::remove_file(path).ok();
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        // Unless a successor has written its own by now.
        if std::fs::read_to_string(&self.path).is_ok_and(|text| text.trim_end() == self.text) {
            ReadyFile::clear(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_found_and_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ready.json");
        let grpc = BTreeMap::from([("allocation".to_owned(), "127.0.0.1:8081".to_owned())]);
        let file = ReadyFile::write(&path, &Ready { grpc, ..Ready::default() }).expect("written");
        let text = std::fs::read_to_string(&path).expect("there");
        assert_eq!(text.trim_end(), r#"{"grpc":{"allocation":"127.0.0.1:8081"}}"#);
        assert_eq!(find(Some(&path)).expect("a mesh").grpc["allocation"], "127.0.0.1:8081");
        drop(file);
        assert!(!path.exists());
        let missing = find(Some(&path)).expect_err("gone").to_string();
        assert!(missing.contains("start one with `taxi dev`"), "{missing}");
    }

    #[test]
    fn a_successor_s_file_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ready.json");
        let first = ReadyFile::write(&path, &Started { url: "a".to_owned() }).expect("written");
        let _second = ReadyFile::write(&path, &Started { url: "b".to_owned() }).expect("written");
        drop(first);
        assert!(path.exists());
    }
}
