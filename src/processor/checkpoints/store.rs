//! Checkpoint files on the volume: one per partition, replaced whole, the previous one kept.
//!
//! A file is written under a temporary name, made durable, and renamed; then the folder is made durable. At every moment
//! there is a complete file under the current or the previous name. Blocking calls: run them where blocking is allowed.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::fs::{self, File, OpenOptions};
use std::hash::BuildHasher;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::engine::checkpoint::{Checkpoint, CheckpointError};
use crate::error::{Error, Result};

/// A temporary file of this age is abandoned.
const LEFT_OVER: Duration = Duration::from_secs(60);

/// The folder of checkpoint files.
#[derive(Debug, Clone)]
pub struct CheckpointStore {
    folder: PathBuf,
    topic: String,
}

/// What was found for a partition.
#[derive(Debug, Default)]
pub struct StoredCheckpoints {
    /// Files that can be read, the newest first.
    pub checkpoints: Vec<Checkpoint>,
    /// What was wrong with the others, one sentence each.
    pub problems: Vec<String>,
}

impl CheckpointStore {
    /// Makes the folder if it is missing and proves that it can be written to. A full one is accepted: PostgreSQL has the
    /// state, too.
    ///
    /// Fails with a usage error: the user has to choose another folder or fix its permissions.
    pub fn open(folder: &Path, topic: &str) -> Result<Self> {
        let refuse = |e: io::Error| {
            Error::usage(format!(
                "the checkpoint folder {} cannot be written to: {e}; choose another with --checkpoint-dir, or \
                 grant this process access to it",
                folder.display()
            ))
        };
        fs::create_dir_all(folder).map_err(refuse)?;
        let store = Self { folder: folder.to_owned(), topic: topic.to_owned() };
        store.remove_leftovers();
        match store.probe() {
            Err(e) if is_full(&e) => crate::warn!(
                "the checkpoint folder is full; continuing without new checkpoint files until it has room",
                "folder" => folder.display(), "reason" => e
            ),
            probed => probed.map_err(refuse)?,
        }
        Ok(store)
    }

    /// Writes and removes a file.
    fn probe(&self) -> io::Result<()> {
        // Two processes that start at once on one folder may each be process 1 of their container.
        let random = RandomState::new().hash_one(std::process::id());
        let probe = self.folder.join(format!(".probe-{random:016x}"));
        let written = File::create(&probe).and_then(|mut file| file.write_all(b"x"));
        match fs::remove_file(&probe) {
            Err(e) if written.is_ok() => Err(e),
            _ => written,
        }
    }

    /// Removes unfinished files of processes that were killed.
    fn remove_leftovers(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let is_ours = name.to_str().is_some_and(|name| {
                (name.starts_with(&self.topic) && name.ends_with(".ckpt.tmp")) || name.starts_with(".probe-")
            });
            let modified = entry.metadata().and_then(|about| about.modified());
            let age = modified.ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
            if is_ours && age >= LEFT_OVER {
                // Another process may have removed it; one that cannot be removed costs space only.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// A store that is only read: the folder is left as it is, also if it is not there.
    pub fn for_reading(folder: &Path, topic: &str) -> Self {
        Self { folder: folder.to_owned(), topic: topic.to_owned() }
    }

    /// Where the files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The partitions that have a file of any age.
    pub fn partitions(&self) -> io::Result<BTreeSet<i32>> {
        let mut partitions = BTreeSet::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let partition = name.to_str().and_then(|name| {
                let number = name.strip_prefix(&self.topic)?.strip_prefix('-')?;
                number.strip_suffix(".prev").unwrap_or(number).strip_suffix(".ckpt")?.parse::<i32>().ok()
            });
            partitions.extend(partition);
        }
        Ok(partitions)
    }

    /// Replaces a partition's file by these bytes of a [`Checkpoint`].
    pub fn write(&self, partition: i32, bytes: &[u8]) -> io::Result<()> {
        let current = self.path(partition);
        let (previous, temporary) = (with_suffix(&current, ".prev"), with_suffix(&current, ".tmp"));
        write_durably(&temporary, bytes)?;
        match fs::rename(&current, &previous) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => fs::rename(&temporary, &current)?,
        }
        File::open(&self.folder)?.sync_all()
    }

    /// Reads what there is of a partition.
    ///
    /// A file of a newer version is an error: its contents must not be ignored silently.
    pub fn read(&self, partition: i32) -> Result<StoredCheckpoints> {
        let current = self.path(partition);
        let mut found = StoredCheckpoints::default();
        for path in [with_suffix(&current, ".prev"), current] {
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => {
                    found.problems.push(format!("{}: {e}", path.display()));
                    continue;
                }
            };
            match Checkpoint::decode(&bytes) {
                Ok(c) if c.topic == self.topic && c.partition == partition => found.checkpoints.insert(0, c),
                Ok(c) => found.problems.push(format!(
                    "{}: belongs to partition {} of topic {}",
                    path.display(),
                    c.partition,
                    c.topic
                )),
                Err(e @ CheckpointError::TooNew(_)) => {
                    return Err(Error::usage(format!(
                        "checkpoint file {}: {e}; start the newer version, or move the file away to continue \
                         from PostgreSQL",
                        path.display()
                    )));
                }
                Err(e) => found.problems.push(format!("{}: {e}", path.display())),
            }
        }
        Ok(found)
    }

    fn path(&self, partition: i32) -> PathBuf {
        self.folder.join(format!("{}-{partition}.ckpt", self.topic))
    }
}

/// Whether there is no room, which may change by itself.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        // On a full disk it must not keep the room that others need. The next attempt starts with the empty file.
        let _ = file.set_len(0);
    }
    written
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::engine::state::PartitionState;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("weather-store-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn checkpoint(partition: i32, offset: i64) -> Checkpoint {
        Checkpoint {
            topic: "t".into(),
            cluster_id: String::new(),
            partition,
            epoch: 1,
            window_ms: 1,
            written_ms: 0,
            state: PartitionState::starting_at(offset),
            pending: vec![],
            stations: vec![],
        }
    }

    fn offsets(found: &StoredCheckpoints) -> Vec<i64> {
        found.checkpoints.iter().map(|c| c.state.progress.next_offset).collect()
    }

    #[test]
    fn keeps_the_current_and_the_previous() {
        let folder = Folder::new("keeps");
        let store = CheckpointStore::open(&folder.0, "t").unwrap();
        assert!(store.read(0).unwrap().checkpoints.is_empty());
        for offset in 1..=3 {
            store.write(0, &checkpoint(0, offset).encode()).unwrap();
        }
        assert_eq!(offsets(&store.read(0).unwrap()), [3, 2]);
        assert_eq!(store.partitions().unwrap(), BTreeSet::from([0]));
    }

    #[test]
    fn falls_back_from_a_torn_or_foreign_file_and_says_so() {
        let folder = Folder::new("falls");
        let store = CheckpointStore::open(&folder.0, "t").unwrap();
        store.write(0, &checkpoint(0, 1).encode()).unwrap();
        store.write(0, &checkpoint(0, 2).encode()[..40]).unwrap();
        let found = store.read(0).unwrap();
        assert_eq!(offsets(&found), [1]);
        assert!(found.problems[0].contains("incomplete"), "{:?}", found.problems);
        store.write(0, &checkpoint(5, 2).encode()).unwrap();
        assert!(store.read(0).unwrap().problems.iter().any(|c| c.contains("partition 5")));
    }

    #[test]
    fn refuses_a_newer_format() {
        let folder = Folder::new("newer");
        let store = CheckpointStore::open(&folder.0, "t").unwrap();
        let mut bytes = checkpoint(0, 1).encode();
        bytes[8] = 9;
        store.write(0, &bytes).unwrap();
        assert_eq!(store.read(0).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn leftovers_of_killed_processes_go_and_those_of_living_ones_stay() {
        let folder = Folder::new("leftovers");
        fs::create_dir_all(&folder.0).unwrap();
        let long_ago = SystemTime::now() - 2 * LEFT_OVER;
        let names = ["t-0.ckpt.tmp", ".probe-0000000000000001", "t-1.ckpt.tmp", "notes.tmp", "t-0.ckpt"];
        for name in names {
            let file = File::create(folder.0.join(name)).unwrap();
            if name != "t-1.ckpt.tmp" {
                file.set_modified(long_ago).unwrap();
            }
        }
        CheckpointStore::open(&folder.0, "t").unwrap();
        let left: Vec<&str> = names.into_iter().filter(|name| folder.0.join(name).exists()).collect();
        assert_eq!(left, ["t-1.ckpt.tmp", "notes.tmp", "t-0.ckpt"]);
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 3, "and no probe is left");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_a_usage_error() {
        let e = CheckpointStore::open(Path::new("/dev/null/x"), "t").unwrap_err();
        assert_eq!(e.exit_code(), 2);
        assert!(e.to_string().contains("--checkpoint-dir"), "{e}");
    }
}
