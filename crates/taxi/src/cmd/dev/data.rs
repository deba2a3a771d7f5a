//! The data directory of `taxi dev`: made, locked, and removed when it was only lent.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::exit::Exit;

/// Where everything is kept.
#[derive(Debug)]
pub(super) struct Data {
    dir: PathBuf,
    // Two processes on one directory would destroy each other's streams.
    _lock: File,
    // Last: removed when all else is done with it.
    _temporary: Option<TempDir>,
}

impl Data {
    /// Makes sure that data can be kept in this directory, or in one for this run only.
    pub(super) fn open(dir: &Path, ephemeral: bool) -> Result<Data, Exit> {
        let cannot = |dir: &Path, error: io::Error| {
            let dir = dir.display();
            Exit::cannot_create(format!(
                "the data directory {dir} cannot be written ({error}): make it writable or choose \
                 another with `--data`"
            ))
        };
        // The ready file is there in any case, where the other commands look for it.
        fs::create_dir_all(dir).map_err(|error| cannot(dir, error))?;
        let temporary = match ephemeral {
            true => Some(
                tempfile::Builder::new()
                    .prefix("taxi-")
                    .tempdir()
                    .map_err(|error| cannot(&std::env::temp_dir(), error))?,
            ),
            false => None,
        };
        let dir = temporary.as_ref().map_or(dir, TempDir::path);
        let lock = File::create(dir.join("lock")).map_err(|error| cannot(dir, error))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Exit::cannot_create(format!(
                "the data directory {} is in use by another `taxi dev`: stop that, or choose \
                 another directory with `--data` or `--ephemeral`",
                dir.display()
            )),
            TryLockError::Error(error) => cannot(dir, error),
        })?;
        Ok(Data { dir: dir.to_owned(), _lock: lock, _temporary: temporary })
    }

    /// The directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A file in it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_used_by_one_process() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path().join("made/when/missing");
        let first = Data::open(&dir, false).expect("free");
        let refused = Data::open(&dir, false).expect_err("taken").to_string();
        assert!(refused.contains("in use by another `taxi dev`"), "{refused}");
        drop(first);
        assert!(Data::open(&dir, false).is_ok());
    }

    #[test]
    fn what_is_ephemeral_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let data = Data::open(dir.path(), true).expect("free");
        let temporary = data.dir().to_owned();
        assert!(temporary.is_dir() && temporary != dir.path());
        drop(data);
        assert!(!temporary.exists());
    }

    #[test]
    fn a_file_in_the_way_is_explained() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let refused = Data::open(&file.path().join("data"), false).expect_err("no directory");
        assert!(refused.to_string().contains("choose another with `--data`"), "{refused}");
    }
}
