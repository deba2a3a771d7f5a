//! A child process that never outlives us, however we end.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::Stdio;

/// Ends a process (or a process group) when this process ends, however it ends.
///
/// A small shell waits on a pipe that only this process holds open. When this process dies, the
/// kernel closes the pipe and the shell does its work: so it also works for SIGKILL, an abort, a
/// static that is never dropped. `PR_SET_PDEATHSIG` would need unsafe code and follows the thread.
#[derive(Debug)]
pub struct Leash {
    watcher: Option<std::process::Child>,
}

/// Reads `$1` target, `$2` signal, `$3` directory to remove or nothing. A line on stdin releases.
const WATCHER: &str = r#"
trap '' HUP INT TERM
read -r _ && exit 0
kill -s "$2" -- "$1" 2>/dev/null
tries=0
while kill -s 0 -- "$1" 2>/dev/null && [ "$tries" -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done
kill -s KILL -- "$1" 2>/dev/null
if [ -n "$3" ]; then rm -rf -- "$3"; fi
"#;

impl Leash {
    /// Kills one process.
    ///
    /// # Errors
    /// When no shell can be started.
    pub fn on_process(pid: u32) -> io::Result<Self> {
        Self::new(&pid.to_string(), "KILL", None)
    }

    /// Kills a process group, which has the id of the process that was started as its leader.
    ///
    /// # Errors
    /// When no shell can be started.
    pub fn on_group(leader: u32) -> io::Result<Self> {
        Self::new(&format!("-{leader}"), "KILL", None)
    }

    /// Sends `signal` (a name such as `QUIT`) to a process, kills it when it is still there five
    /// seconds later, and then removes a directory that only it needed.
    ///
    /// # Errors
    /// When no shell can be started.
    pub fn on_process_and_dir(pid: u32, signal: &str, dir: &Path) -> io::Result<Self> {
        Self::new(&pid.to_string(), signal, Some(dir))
    }

    fn new(target: &str, signal: &str, dir: Option<&Path>) -> io::Result<Self> {
        use std::os::unix::process::CommandExt;
        let watcher = std::process::Command::new("sh")
            .args(["-c", WATCHER, "leash", target, signal])
            .arg(dir.map_or(OsStr::new(""), Path::as_os_str))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self { watcher: Some(watcher) })
    }

    /// Lets go, after the process has ended: the same as dropping it, but says so.
    pub fn release(self) {
        drop(self);
    }
}

impl Drop for Leash {
    /// Dropped in an orderly way, the owner looks after the process itself.
    fn drop(&mut self) {
        if let Some(mut watcher) = self.watcher.take() {
            if let Some(mut stdin) = watcher.stdin.take() {
                // A watcher that somebody killed has nothing left to be told.
                let _ = io::Write::write_all(&mut stdin, b"released\n");
            }
            let _ = watcher.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::process::Command;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_leash_ends_its_process_only_when_the_holder_is_gone() {
        let sleep = || {
            Command::new("sleep").arg("60").kill_on_drop(true).spawn().expect("sleep is everywhere")
        };
        let mut kept = sleep();
        Leash::on_process(kept.id().expect("runs")).expect("a shell").release();
        assert!(kept.try_wait().expect("known").is_none(), "released, it must live");

        let mut ended = sleep();
        let mut leash = Leash::on_process(ended.id().expect("runs")).expect("a shell");
        // What the kernel does when the holder dies.
        drop(leash.watcher.as_mut().and_then(|watcher| watcher.stdin.take()));
        let status = timeout(Duration::from_secs(5), ended.wait()).await.expect("in time");
        assert!(!status.expect("known").success());
    }
}
