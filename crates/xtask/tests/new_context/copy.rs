//! A copy of this repository with a target folder of its own, `target/apart`, in which what others
//! have made is built once.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The longest that a command may take, in seconds: the first one builds everything.
const LONGEST: &str = "1800";

/// The copy. It stays, so that the next one is built the faster.
pub(crate) struct Copy {
    repository: PathBuf,
    target: PathBuf,
    root: PathBuf,
    /// The copy of the last time.
    last: PathBuf,
    /// Nobody else works on it meanwhile.
    _lock: File,
}

impl Copy {
    /// Copies what git knows or would know: uncommitted work counts.
    pub(crate) fn of_this_repository() -> Copy {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let repository = repository.canonicalize().expect("a repository");
        let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let target = tmp.with_file_name("apart");
        fs::create_dir_all(&target).expect("a folder");
        let target = target.canonicalize().expect("a folder");
        let lock = File::create(target.join("new-context.lock")).expect("a file");
        lock.lock().expect("a lock");
        let (root, last) = (target.join("new-context"), target.join("new-context.last"));
        if root.exists() {
            fs::remove_dir_all(&last).ok();
            fs::rename(&root, &last).expect("renamed");
        }
        let copy = Copy { repository, target, root, last, _lock: lock };
        for path in copy.listed() {
            let to = copy.file(&path);
            fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
            fs::copy(copy.repository.join(&path), to).expect(&path);
        }
        copy.get_a_version();
        copy
    }

    /// To cargo a crate of the same version at the same place in its workspace is the same crate,
    /// whichever folder that workspace is in. Other copies are built in this target folder, too.
    fn get_a_version(&self) {
        let manifest = self.read("Cargo.toml");
        let (before, version) = manifest.split_once("\nversion = \"").expect("a version");
        let (_, after) = version.split_once('"').expect("a version");
        self.write("Cargo.toml", &format!("{before}\nversion = \"0.0.0-copy\"{after}"));
    }

    /// The files that git knows or would know, and that are there.
    fn listed(&self) -> Vec<String> {
        let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let output = Command::new("git").args(arguments).current_dir(&self.repository).output();
        let output = output.expect("git");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let listed = String::from_utf8(output.stdout).expect("text");
        let is_there = |path: &&str| self.repository.join(path).is_file();
        listed.split_terminator('\0').filter(is_there).map(str::to_owned).collect()
    }

    /// A file of the copy.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let file = self.file(path);
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        fs::write(file, text).unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// Runs a line of shell, which must succeed; answers what it prints.
    pub(crate) fn run(&self, line: &str) -> String {
        age(&self.last, &self.root);
        let mut shell = Command::new("timeout");
        shell.args([LONGEST, "bash", "-c", &format!("exec 2>&1; {line}")]).current_dir(&self.root);
        // What cargo tells this test is of no use to the cargo of the copy.
        for (name, _) in std::env::vars_os() {
            let of_cargo = name.to_string_lossy().starts_with("CARGO") && name != "CARGO_HOME";
            if of_cargo {
                shell.env_remove(name);
            }
        }
        shell.env("CARGO_TARGET_DIR", &self.target);
        shell.envs([("CARGO_INCREMENTAL", "0"), ("CARGO_TERM_COLOR", "never")]);
        let nats = self.repository.join(".taxi/bin/nats-server");
        if nats.is_file() {
            shell.env("NATS_SERVER", nats);
        }
        let output = shell.stdin(Stdio::null()).output().expect("a shell");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "`{line}`: {}\n{printed}", output.status);
        printed
    }

    /// Runs a program of `tools/setup.sh`, if it is there; it must print this.
    pub(crate) fn run_tool(&self, tool: &str, arguments: &str, expected: &str) {
        let program = self.repository.join(".tools/bin").join(tool);
        if !program.is_file() {
            // Not `eprintln!`, which a passing test swallows.
            let skipped = format!("skipped: {tool} {arguments}: there is no {tool}\n");
            std::io::stderr().write_all(skipped.as_bytes()).expect("a terminal");
            return;
        }
        let printed = self.run(&format!("'{}' {arguments}", program.display()));
        assert!(printed.contains(expected), "{tool} {arguments} prints no {expected}");
    }
}

/// Makes what is as it was the last time as old as it was then, so that cargo builds only the rest.
fn age(last: &Path, now: &Path) {
    let same = match now.is_dir() {
        true => {
            let entries = fs::read_dir(now).expect("a folder").flatten();
            entries.for_each(|entry| age(&last.join(entry.file_name()), &entry.path()));
            names(last) == names(now)
        }
        false => fs::read(last).ok() == fs::read(now).ok(),
    };
    let before = fs::metadata(last).and_then(|last| last.modified());
    if let (true, Ok(before)) = (same, before) {
        File::open(now).and_then(|now| now.set_modified(before)).expect("a time");
    }
}

/// What is in a folder, in order; nothing when there is none.
fn names(folder: &Path) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|it| it.file_name()).collect();
    names.sort();
    names
}
