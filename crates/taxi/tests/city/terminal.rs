//! `taxi` at the terminal, for a running mesh.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::Mesh;
use tokio::process::Command;

use crate::TAXI;

/// Runs `taxi` for a mesh.
pub(crate) struct Terminal {
    _dir: TempDir,
    ready_file: PathBuf,
}

impl Terminal {
    /// For the mesh that this ready file describes.
    pub(crate) fn of(ready: &Value) -> Terminal {
        let dir = tempfile::tempdir().expect("a directory");
        let ready_file = dir.path().join("ready.json");
        std::fs::write(&ready_file, ready.to_string()).expect("written");
        Terminal { _dir: dir, ready_file }
    }

    /// For this mesh.
    pub(crate) fn at(mesh: &Mesh) -> Terminal {
        let ready = mesh.ready();
        Terminal::of(&json!({
            "gateway": ready.gateway,
            "grpc": ready.grpc,
            "nats": ready.nats,
            "provider": ready.provider,
        }))
    }

    /// `taxi` with these arguments.
    pub(crate) fn taxi(&self, arguments: &[&str]) -> Command {
        self.release(TAXI, arguments)
    }

    /// The `taxi` of this release with these arguments.
    pub(crate) fn release(&self, taxi: impl AsRef<Path>, arguments: &[&str]) -> Command {
        let mut command = Command::new(taxi.as_ref());
        command.args(arguments).arg("--ready-file").arg(&self.ready_file);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }
}
