//! The folder of one run: everything that the demo writes is in it, and it is gone at the end.
//!
//! Its owner holds a lock in it, which the kernel releases however the owner ends. So a folder whose lock is free is a
//! leftover of a demo that was killed: the next start ends what still runs there and removes it. Only folders of the same
//! user are considered.

use std::collections::hash_map::RandomState;
use std::fs::{self, DirBuilder, File};
use std::hash::BuildHasher;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::system;
use crate::error::{Error, Result};

const PREFIX: &str = "weather-demo-";
const LOCK: &str = "lock";
/// The address of a unix socket in the folder must stay below 104 bytes.
const LONGEST_BASE: usize = 50;
/// A folder without a lock is one that is being made or removed; later than this it is a leftover.
const MAKING: Duration = Duration::from_secs(60);
/// How long a leftover's processes may take to end.
const ENDING: Duration = Duration::from_secs(3);

/// The folder, removed with this value.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    owner: u32,
    _lock: File,
}

impl Scratch {
    /// A new folder in the system's folder for temporary files.
    pub(super) fn create() -> Result<Self> {
        let base = Some(std::env::temp_dir()).filter(|base| base.as_os_str().len() <= LONGEST_BASE);
        Self::create_in(&base.unwrap_or_else(|| PathBuf::from("/tmp")))
    }

    fn create_in(base: &Path) -> Result<Self> {
        let random = RandomState::new().hash_one(std::process::id()) as u32;
        let path = base.join(format!("{PREFIX}{random:08x}"));
        Self::make(&path).map_err(|e| {
            let base = base.display();
            Error::usage(format!("cannot create a folder in {base}: {e}; set TMPDIR to another"))
        })
    }

    fn make(path: &Path) -> io::Result<Self> {
        DirBuilder::new().mode(0o700).create(path)?;
        let owner = fs::metadata(path)?.uid();
        // PostgreSQL may run as another user, who has to reach its own folder, not to list this one.
        fs::set_permissions(path, fs::Permissions::from_mode(if owner == 0 { 0o711 } else { 0o700 }))?;
        // Locked under another name first: so that it is held as soon as it can be seen.
        let new = path.join("lock.new");
        let lock = File::create(&new)?;
        lock.try_lock().map_err(io::Error::other)?;
        fs::rename(&new, path.join(LOCK))?;
        Ok(Self { path: path.to_owned(), owner, _lock: lock })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The owner of the folder, which is the current user.
    pub(super) fn owner(&self) -> u32 {
        self.owner
    }

    /// Notes a process that works in this folder, for the demo that may have to clean up.
    pub(super) fn note_process(&self, name: &str, process: u32) {
        // Without the note everything still works; only cleaning up after SIGKILL would miss the process.
        let _ = fs::write(self.path.join(format!("{name}.pid")), process.to_string());
    }

    /// Ends and removes what demos left behind that were killed; how many.
    pub(super) fn remove_leftovers(&self) -> usize {
        let Some(Ok(entries)) = self.path.parent().map(fs::read_dir) else { return 0 };
        let is_leftover = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let meta = fs::symlink_metadata(path);
            name.starts_with(PREFIX)
                && *path != self.path
                && meta.is_ok_and(|meta| meta.is_dir() && meta.uid() == self.owner)
        };
        let found = entries.flatten().map(|entry| entry.path()).filter(is_leftover);
        found.filter(|path| remove_leftover(path)).count()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Removes a folder if its owner is gone.
fn remove_leftover(path: &Path) -> bool {
    match File::open(path.join(LOCK)) {
        // Held meanwhile, so that two that start at once do not both clean up.
        Ok(lock) if lock.try_lock().is_ok() => {
            end_processes(path);
            remove(path);
            true
        }
        Ok(_) => false,
        Err(_) => {
            let made = fs::metadata(path).and_then(|meta| meta.modified());
            let old = made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age > MAKING));
            if old {
                end_processes(path);
                remove(path);
            }
            old
        }
    }
}

/// Ends the processes noted in a folder, PostgreSQL in the way that frees its shared memory.
fn end_processes(path: &Path) {
    let postmaster = process_in(&path.join("pg/postmaster.pid")).map(|process| (process, "QUIT"));
    let noted = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let noted = noted.filter(|path| path.extension().is_some_and(|extension| extension == "pid"));
    let noted = noted.filter_map(|path| process_in(&path)).map(|process| (process, "KILL"));
    let ours = |(process, _): &(u32, &str)| system::works_in(*process, path);
    let processes: Vec<(u32, &str)> = postmaster.into_iter().chain(noted).filter(ours).collect();
    processes.iter().for_each(|(process, name)| system::signal(*process, name));
    let start = Instant::now();
    while processes.iter().any(ours) {
        if start.elapsed() > ENDING {
            processes.iter().for_each(|(process, _)| system::signal(*process, "KILL"));
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The process id on a file's first line.
fn process_in(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.lines().next()?.trim().parse().ok().filter(|process| *process > 1)
}

/// Removes a folder; something in it may still be ending.
fn remove(path: &Path) {
    for _ in 0..100 {
        match fs::remove_dir_all(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => std::thread::sleep(Duration::from_millis(10)),
            _ => return,
        }
    }
    crate::warn!("cannot remove the demo's folder", "path" => path.display());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn leftovers_go_and_what_is_in_use_stays() {
        let base = std::env::temp_dir().join(format!("weather-scratch-{}", std::process::id()));
        fs::create_dir_all(&base).unwrap();
        let (first, second) = (Scratch::create_in(&base).unwrap(), Scratch::create_in(&base).unwrap());
        assert_eq!(second.remove_leftovers(), 0, "the first one is in use");
        // As after SIGKILL: the folder and a process are there, the lock is not held.
        let leftover = base.join("weather-demo-killed");
        fs::create_dir_all(leftover.join("pg")).unwrap();
        fs::write(leftover.join(LOCK), "").unwrap();
        // Both end by themselves, should this test fail.
        let script = "for i in $(seq 300); do sleep 0.1; done";
        let mut working = Command::new("sh").args(["-c", script]).arg(&leftover).spawn().unwrap();
        let mut foreign = Command::new("sleep").arg("30").spawn().unwrap();
        fs::write(leftover.join("processor.pid"), working.id().to_string()).unwrap();
        fs::write(leftover.join("pg/postmaster.pid"), format!("{}\n/x\n", foreign.id())).unwrap();
        // A process that was just started may not have its arguments yet.
        while !system::works_in(working.id(), &leftover) {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Reaped at once, as init would.
        let reaper = std::thread::spawn(move || working.wait().unwrap());
        assert_eq!(second.remove_leftovers(), 1);
        assert!(!reaper.join().unwrap().success());
        assert!(foreign.try_wait().unwrap().is_none(), "a number that is another's now");
        foreign.kill().unwrap();
        foreign.wait().unwrap();
        assert!(!leftover.exists() && first.path().exists());
        drop((first, second));
        assert_eq!(fs::read_dir(&base).unwrap().count(), 0);
        fs::remove_dir(&base).unwrap();
    }
}
