//! A volume with checkpoint files, written as `src/processor/checkpoints/store.rs` writes them, system call by system call.
//!
//! A process that is killed leaves what it wrote; a machine that loses its power leaves what was made durable, and of the
//! rest a part. While no process looks, files may be torn, flipped, put back, taken away or exchanged.

use std::collections::BTreeMap;

use crate::prng::Prng;

/// An open file: it stays the same whatever becomes of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle(usize);

#[derive(Debug, Default, Clone)]
struct Contents {
    bytes: Vec<u8>,
    durable: bool,
}

#[derive(Debug, Default)]
pub struct Volume {
    files: Vec<Contents>,
    names: BTreeMap<String, usize>,
    /// The folder as it was last made durable, and how it changed since.
    durable_names: BTreeMap<String, usize>,
    changes: Vec<(String, Option<usize>)>,
    /// Contents of some earlier time, by name.
    older: BTreeMap<String, Vec<u8>>,
    /// Raised when all files are deleted: the processes' names are gone with them.
    pub life: u32,
}

pub fn current(partition: i32) -> String {
    format!("{partition}.ckpt")
}

pub fn previous(partition: i32) -> String {
    format!("{partition}.ckpt.prev")
}

pub fn temporary(partition: i32) -> String {
    format!("{partition}.ckpt.tmp")
}

impl Volume {
    /// Opens a file for writing and empties it.
    pub fn create(&mut self, name: &str) -> Handle {
        if let Some(file) = self.names.get(name) {
            self.files[*file] = Contents::default();
            return Handle(*file);
        }
        self.files.push(Contents::default());
        let file = self.files.len() - 1;
        self.rebind(name, Some(file));
        Handle(file)
    }

    /// Writes at a place in a file; what lies before it and was never written is zeros.
    pub fn write_at(&mut self, Handle(file): Handle, at: usize, bytes: &[u8]) {
        let contents = &mut self.files[file];
        contents.durable = false;
        contents.bytes.resize(contents.bytes.len().max(at + bytes.len()), 0);
        contents.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub fn sync(&mut self, Handle(file): Handle) {
        self.files[file].durable = true;
    }

    /// Gives a file another name; whether it was there.
    pub fn rename(&mut self, from: &str, to: &str) -> bool {
        let Some(file) = self.names.get(from).copied() else { return false };
        self.rebind(to, Some(file));
        self.rebind(from, None);
        true
    }

    pub fn sync_names(&mut self) {
        self.durable_names.clone_from(&self.names);
        self.changes.clear();
    }

    pub fn read(&self, name: &str) -> Option<&[u8]> {
        self.names.get(name).map(|file| self.files[*file].bytes.as_slice())
    }

    fn rebind(&mut self, name: &str, file: Option<usize>) {
        bind(&mut self.names, name, file);
        self.changes.push((name.to_owned(), file));
    }

    /// The machine stops at once.
    pub fn lose_power(&mut self, rng: &mut Prng) {
        self.names = std::mem::take(&mut self.durable_names);
        let kept = rng.below(self.changes.len() + 1);
        for (name, file) in std::mem::take(&mut self.changes).into_iter().take(kept) {
            bind(&mut self.names, &name, file);
        }
        for contents in self.files.iter_mut().filter(|contents| !contents.durable) {
            let kept = rng.below(contents.bytes.len() + 1);
            contents.bytes.truncate(kept);
        }
        self.sync_names();
    }

    /// Keeps a copy of a file, to be put back much later.
    pub fn keep_copy(&mut self, rng: &mut Prng) {
        let Some(name) = self.any_name(rng) else { return };
        let bytes = self.read(&name).unwrap_or_default().to_vec();
        self.older.insert(name, bytes);
    }

    /// Something damages the files.
    pub fn damage(&mut self, rng: &mut Prng) -> &'static str {
        let Some(name) = self.any_name(rng) else { return "nothing to damage" };
        let Some(Contents { bytes, .. }) = self.names.get(&name).map(|file| &mut self.files[*file]) else {
            return "nothing to damage";
        };
        match rng.below(6) {
            0 => {
                bytes.truncate(rng.below(bytes.len() + 1));
                "torn"
            }
            1 if !bytes.is_empty() => {
                let at = rng.below(bytes.len());
                bytes[at] ^= 1 << rng.below(8);
                "flipped"
            }
            2 => {
                self.rebind(&name, None);
                "deleted"
            }
            3 => {
                self.names.clear();
                self.sync_names();
                self.life += 1;
                "all deleted"
            }
            4 => {
                let Some(other) = self.any_name(rng) else { return "nothing to damage" };
                let copy = self.read(&other).unwrap_or_default().to_vec();
                let file = self.create(&name);
                self.write_at(file, 0, &copy);
                "exchanged"
            }
            _ => {
                let names: Vec<String> = self.older.keys().cloned().collect();
                let Some(name) = (!names.is_empty()).then(|| &names[rng.below(names.len())]) else {
                    return "nothing to put back";
                };
                let copy = self.older.remove(name).unwrap_or_default();
                let file = self.create(name);
                self.write_at(file, 0, &copy);
                "put back"
            }
        }
    }

    fn any_name(&self, rng: &mut Prng) -> Option<String> {
        let names: Vec<&String> = self.names.keys().collect();
        (!names.is_empty()).then(|| names[rng.below(names.len())].clone())
    }
}

fn bind(names: &mut BTreeMap<String, usize>, name: &str, file: Option<usize>) {
    match file {
        Some(file) => drop(names.insert(name.to_owned(), file)),
        None => drop(names.remove(name)),
    }
}
