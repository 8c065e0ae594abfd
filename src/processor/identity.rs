//! Who this process is, to the other processes that share the topic.
//!
//! A process that was killed and restarted on the same volume should get its partitions back at once, not after the
//! lease of its former self. So the name belongs to the checkpoint folder, not to the process: the folder has numbered
//! name files, and a process takes the first one that is not locked. The kernel drops the lock of a process that
//! ends in any way, so a lock that can be taken proves that the former holder of the name is gone. The host's name is
//! part of it, because locks on a shared volume may not reach across hosts.

use std::collections::hash_map::RandomState;
use std::fs::{File, OpenOptions, TryLockError};
use std::hash::BuildHasher;
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Error, Result};

/// Processes that can share a folder.
const MAX_PROCESSES: u32 = 1_000;

/// The name, held as long as this lives.
#[derive(Debug)]
pub struct ProcessIdentity {
    name: String,
    _lock: File,
}

impl ProcessIdentity {
    /// Takes the first free name of this folder.
    pub fn take(folder: &Path) -> Result<Self> {
        for slot in 0..MAX_PROCESSES {
            let path = folder.join(format!("process-{slot}.lock"));
            match Self::take_slot(&path) {
                Ok(Some(identity)) => return Ok(identity),
                Ok(None) => {}
                Err(e) => {
                    return Err(Error::usage(format!(
                        "the lock file {} cannot be used: {e}",
                        path.display()
                    )));
                }
            }
        }
        Err(Error::usage(format!(
            "{MAX_PROCESSES} processes use the checkpoint folder {}; choose another with --checkpoint-dir",
            folder.display()
        )))
    }

    fn take_slot(path: &Path) -> io::Result<Option<Self>> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(e),
        }
        let mut token = String::new();
        // Anything that is not a valid token is replaced.
        let readable = file.read_to_string(&mut token).is_ok();
        if !readable || token.len() != 8 || !token.bytes().all(|b| b.is_ascii_hexdigit()) {
            token = format!("{:08x}", RandomState::new().hash_one(std::process::id()) as u32);
            match replace(&mut file, token.as_bytes()) {
                // The name is then valid for this run only; the next run takes another.
                Err(e) if matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {}
                replaced => replaced?,
            }
        }
        // A copy of the folder has the same tokens, but not the same files.
        let inode = file.metadata()?.ino();
        Ok(Some(Self { name: format!("{}-{token}-{inode:x}", host_name()), _lock: file }))
    }

    /// The name, unique among live processes.
    pub fn name(&self) -> &str {
        &self.name
    }
}

fn replace(file: &mut File, content: &[u8]) -> io::Result<()> {
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(content)?;
    file.sync_all()
}

fn host_name() -> String {
    let name =
        std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
    match name.as_deref().map(str::trim) {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => "localhost".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_held_and_comes_back() {
        let folder = std::env::temp_dir().join(format!("weather-identity-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let first = ProcessIdentity::take(&folder).unwrap();
        let second = ProcessIdentity::take(&folder).unwrap();
        assert_ne!(first.name(), second.name());
        let name = first.name().to_owned();
        drop(first);
        assert_eq!(ProcessIdentity::take(&folder).unwrap().name(), name);
        std::fs::write(folder.join("process-2.lock"), [0xff; 3]).unwrap();
        let _held = ProcessIdentity::take(&folder).unwrap();
        assert_ne!(ProcessIdentity::take(&folder).unwrap().name(), second.name());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
