//! What processes cost, as the kernel counts it in `/proc`.

use std::fmt::{self, Formatter};
use std::fs;
use std::io;
use std::time::Duration;

use serde::Serialize;

/// A tick of the counters in `/proc/<pid>/stat`: `USER_HZ` is 100 wherever Postgres runs.
const TICK: Duration = Duration::from_millis(10);

/// The fields of `/proc/<pid>/stat` that matter here; CPU time in ticks, user and kernel together.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    name: String,
    parent: u32,
    own: u32,
    /// Of children that have ended.
    children: u32,
}

/// What everything runs on.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cores: usize,
    /// Processes that wanted to run before we began, in the last minute: others spoil the figures.
    load_before: f64,
}

impl Machine {
    /// As it is now.
    pub(crate) fn now() -> io::Result<Machine> {
        let load = fs::read_to_string("/proc/loadavg")?;
        let load = load.split(' ').next().and_then(|load| load.parse().ok());
        let load_before = load.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Machine { cores: std::thread::available_parallelism()?.get(), load_before })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Machine { cores, load_before } = self;
        write!(f, "on {cores} cores with a load of {load_before} before, ")?;
        write!(f, "Postgres with fsync and synchronous_commit")
    }
}

/// CPU time of one process so far.
pub(crate) fn cpu(pid: u32) -> io::Result<Duration> {
    Ok(TICK * stat(pid)?.own)
}

/// CPU time of a process and its children so far, those that have ended included.
pub(crate) fn cpu_with_children(pid: u32) -> io::Result<Duration> {
    let running: u32 = children(pid)?.map(|(_, child)| child.own).sum();
    let parent = stat(pid)?;
    Ok(TICK * (running + parent.own + parent.children))
}

/// The process that we started by this name.
pub(crate) fn child(name: &str) -> io::Result<u32> {
    let named = children(std::process::id())?.find(|(_, child)| child.name == name);
    named.map(|(pid, _)| pid).ok_or_else(|| io::Error::other(format!("no {name} runs")))
}

fn children(parent: u32) -> io::Result<impl Iterator<Item = (u32, Stat)>> {
    let names = fs::read_dir("/proc")?.flatten().map(|entry| entry.file_name());
    let pids = names.filter_map(|name| name.to_str()?.parse().ok());
    // A process may have ended since it was listed.
    let stats = pids.filter_map(|pid| Some((pid, stat(pid).ok()?)));
    Ok(stats.filter(move |(_, stat)| stat.parent == parent))
}

/// Memory that a process has in RAM, in MB of a million bytes.
pub(crate) fn resident_mb(pid: u32) -> io::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    parse_resident_mb(&status).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn stat(pid: u32) -> io::Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_stat(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name, in parentheses, may hold anything.
    let (start, fields) = text.rsplit_once(')')?;
    let (_, name) = start.split_once('(')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let number = |n: usize| fields.get(n)?.parse::<u32>().ok();
    Some(Stat {
        name: name.to_owned(),
        parent: number(1)?,
        own: number(11)? + number(12)?,
        children: number(13)? + number(14)?,
    })
}

fn parse_resident_mb(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024.0 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_words_are_understood() {
        let text = "7 (a) b) S 3 7 7 0 -1 4194560 9 9 9 9 25 5 100 20 20 0 1 0 99 1 1";
        let stat = Stat { name: "a) b".to_owned(), parent: 3, own: 30, children: 120 };
        assert_eq!(parse_stat(text), Some(stat));
        assert_eq!(parse_stat("7 (a) S 3"), None);
        let status = "Name:\ttaxi\nVmHWM:\t   40000 kB\nVmRSS:\t   31250 kB\n";
        assert_eq!(parse_resident_mb(status), Some(32.0));
        assert_eq!(parse_resident_mb("Name:\tkthreadd\n"), None);
    }
}
