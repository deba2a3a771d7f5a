//! The shell of a page: bash that stops at the first failure, in a directory that looks like the
//! repository beside a running mesh.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use testkit::{Mesh, program, tool};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::pages::root;

/// How long one command may take, on a machine that has much else to do.
const COMMAND: Duration = Duration::from_secs(120);
/// Takes the names of scripts from its input and says when each has ended; what they print goes
/// into a file beside each. The first that fails ends it.
const LOOP: &str = r#"
set -euo pipefail
shopt -s expand_aliases
while IFS= read -r script; do
    source "$script" < /dev/null &> "$script.out"
    echo "$script"
done
"#;

/// A running shell.
pub(crate) struct Shell {
    dir: TempDir,
    scripts: usize,
    input: ChildStdin,
    ended: tokio::io::Lines<BufReader<ChildStdout>>,
    bash: Child,
}

impl Shell {
    /// A shell beside this mesh: `.taxi/ready.json` is the mesh's, `taxi` the program under test.
    pub(crate) fn start(mesh: &Mesh) -> Shell {
        let dir = tempfile::tempdir().expect("a directory");
        let work = dir.path().join("repository");
        lay_out(&work, mesh);
        let bin = dir.path().join("bin");
        std::fs::create_dir(&bin).expect("a directory");
        symlink(env!("CARGO_BIN_EXE_taxi"), bin.join("taxi")).expect("a link");
        // What pages use besides; who lacks one is told what to do.
        let grpcurl = tool("grpcurl", "examples");
        for name in ["curl", "jq"] {
            let _ = tool(name, "examples");
        }
        let mut path = std::ffi::OsString::from(&bin);
        for more in [grpcurl.parent().expect("a directory").as_os_str(), &inherited("PATH")] {
            path.push(":");
            path.push(more);
        }
        let mut command = Command::from(program(Path::new("bash")));
        command.arg("-c").arg(LOOP).current_dir(&work).env("PATH", path);
        command.env("NO_PROXY", "127.0.0.1").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut bash = command.spawn().expect("bash");
        let input = bash.stdin.take().expect("it is piped");
        let ended = BufReader::new(bash.stdout.take().expect("it is piped")).lines();
        Shell { dir, scripts: 0, input, ended, bash }
    }

    /// Runs a command: what it prints, or what went wrong.
    pub(crate) async fn run(&mut self, command: &str) -> Result<String, String> {
        self.scripts += 1;
        let script = self.dir.path().join(self.scripts.to_string());
        std::fs::write(&script, command).expect("written");
        let name = script.display();
        self.input.write_all(format!("{name}\n").as_bytes()).await.expect("it listens");
        let ended = tokio::time::timeout(COMMAND, self.ended.next_line()).await;
        let printed = std::fs::read_to_string(format!("{name}.out")).unwrap_or_default();
        match ended {
            Ok(Ok(Some(_))) => Ok(printed),
            Ok(_) => Err(format!("it failed:\n{printed}")),
            Err(_) => Err(format!("it did not end within {COMMAND:?}:\n{printed}")),
        }
    }
}

impl Drop for Shell {
    /// Also what its last command has left behind.
    fn drop(&mut self) {
        if let Some(group) = self.bash.id() {
            let group = format!("-{group}");
            let _ = std::process::Command::new("kill").args(["-KILL", "--", &group]).status();
        }
    }
}

/// The repository, but for the data of a mesh that may run in it.
fn lay_out(work: &Path, mesh: &Mesh) {
    let data = work.join(".taxi");
    std::fs::create_dir_all(&data).expect("a directory");
    let ready = mesh.ready();
    let ready = serde_json::json!({
        "gateway": ready.gateway, "grpc": ready.grpc, "nats": ready.nats,
        "provider": ready.provider, "data": ready.data,
    });
    std::fs::write(data.join("ready.json"), ready.to_string()).expect("written");
    for entry in std::fs::read_dir(root()).expect("a directory") {
        let entry: PathBuf = entry.expect("an entry").path();
        let name = entry.file_name().expect("a name");
        if name != ".taxi" && name != "target" {
            symlink(&entry, work.join(name)).expect("a link");
        }
    }
}

fn inherited(name: &str) -> std::ffi::OsString {
    std::env::var_os(name).unwrap_or_default()
}
