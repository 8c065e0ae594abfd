//! The program's allocator: small blocks from magazines that each thread keeps, the rest from the system.
//!
//! Why: rskafka makes a `Vec` for every key and value, and with headers a `String`, a `Vec` and a map for every record. One
//! task allocates the thousands of records of a fetch, another one frees them. That is the worst case for glibc (its
//! caches hold 7 blocks; the rest goes under a lock into lists that are merged and split again), and more so for musl:
//! with headers it was a third of all CPU time. Here a block costs a few instructions.
//!
//! How (magazines, as in Bonwick and Adams, "Magazines and Vmem", 2001): sizes up to 1 KiB are rounded up to one of 20
//! classes. For each class a thread has a magazine that it takes from and puts to, and at most one full spare. When both
//! are full the spare goes to the depot, which all threads share; when both are empty a full one comes from there, and
//! only if there is none, new blocks are cut from a chunk of system memory. So threads synchronize once per magazine, and
//! memory that one of them frees is allocated by the other while it is still in the cache.
//!
//! Chunks are never returned, and blocks never change their class: the program keeps, for each class, the memory for the
//! most blocks that it had at one time, which the size of fetches bounds, and what the magazines of its threads hold (at
//! most 640 KiB per thread).
//!
//! # Proof
//! - Which side a block belongs to follows from its layout alone (`class_of`), and callers pass the same layout to
//!   `dealloc` and `realloc` as to `alloc`; so a block of this allocator never reaches the system's, and the other way round.
//! - A block is either out, or in exactly one magazine: `alloc` takes it out of the list before it returns it, `dealloc`
//!   puts it into one, and magazines move between thread and depot as a whole, by their head.
//! - Blocks of a class do not overlap: each was cut once from a chunk, at the chunk's next free byte. All sizes are
//!   multiples of 16 and chunks are aligned to 16, so every block is; larger alignments are the system's.
//! - Links are written into a block only while it is free, and the smallest holds both (`Block`).
//! - A thread's cache is reached from that thread alone, for no longer than one call, and nothing in these calls allocates
//!   through this allocator or unwinds (on Linux a lock of the standard library is a word in place; elsewhere it may be
//!   allocated, so the program uses this allocator on Linux alone): there is one reference to it at a time. It has no destructor, so it can be used
//!   until the thread's last moment.
//! - Between threads a block's contents travel under the depot's lock, or however the program handed the block over.

// The one place that needs it: an allocator is an unsafe trait.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::{Mutex, PoisonError};

/// Largest block of this allocator, in bytes.
const LARGEST: usize = 1024;
/// Alignment of every block, and the step between the small classes.
const GRAIN: usize = 16;
const CLASSES: usize = 20;
/// What is requested from the system at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// What a full magazine holds, about; at least 16 blocks.
const MAGAZINE_BYTES: usize = 16 * 1024;

/// The allocator. It has no state: all values are the same one.
#[derive(Debug, Clone, Copy)]
pub struct Allocator;

/// A free block's first bytes.
struct Block {
    /// The next block of its magazine.
    next: *mut Block,
    /// Of a full magazine's first block in the depot: the next magazine's first.
    next_magazine: *mut Block,
}

/// Free blocks of one class.
struct Magazine {
    head: *mut Block,
    count: usize,
}

impl Magazine {
    const EMPTY: Self = Self { head: ptr::null_mut(), count: 0 };

    /// # Safety
    /// The block is free, in no magazine, of this magazine's class.
    unsafe fn push(&mut self, block: *mut Block) {
        // SAFETY: a free block belongs to the allocator, and is large enough and aligned for its links.
        unsafe { (*block).next = self.head };
        self.head = block;
        self.count += 1;
    }

    fn pop(&mut self) -> Option<*mut Block> {
        if self.head.is_null() {
            return None;
        }
        let block = self.head;
        // SAFETY: blocks in a magazine are free, and `push` has set their link.
        self.head = unsafe { (*block).next };
        self.count -= 1;
        Some(block)
    }
}

/// What one thread keeps of a class.
struct Shelf {
    active: Magazine,
    /// Empty or full.
    spare: Magazine,
}

/// What one thread keeps.
struct Cache {
    shelves: [Shelf; CLASSES],
    /// Where the next block is cut from, and what is left there.
    chunk: *mut u8,
    left: usize,
}

thread_local! {
    // Constant and without a destructor: to reach it neither allocates nor registers anything.
    static CACHE: UnsafeCell<Cache> = const {
        UnsafeCell::new(Cache {
            shelves: [const { Shelf { active: Magazine::EMPTY, spare: Magazine::EMPTY } }; CLASSES],
            chunk: ptr::null_mut(),
            left: 0,
        })
    };
}

/// What all threads share of a class.
struct Depot {
    /// Full magazines, linked by their first blocks.
    full: *mut Block,
    /// What ended threads have left, until it is full.
    loose: Magazine,
}

// SAFETY: what it points to are free blocks, which belong to the allocator and to no thread.
unsafe impl Send for Depot {}

static DEPOTS: [Mutex<Depot>; CLASSES] =
    [const { Mutex::new(Depot { full: ptr::null_mut(), loose: Magazine::EMPTY }) }; CLASSES];

impl Depot {
    /// # Safety
    /// The magazine is full and of this depot's class.
    unsafe fn put(&mut self, magazine: Magazine) {
        // SAFETY: a full magazine has a first block, which is free.
        unsafe { (*magazine.head).next_magazine = self.full };
        self.full = magazine.head;
    }

    fn take(&mut self, class: usize) -> Magazine {
        if self.full.is_null() {
            return std::mem::replace(&mut self.loose, Magazine::EMPTY);
        }
        let head = self.full;
        // SAFETY: `put` has set the link of a first block in the depot.
        self.full = unsafe { (*head).next_magazine };
        Magazine { head, count: capacity(class) }
    }
}

fn with_depot<T>(class: usize, work: impl FnOnce(&mut Depot) -> T) -> T {
    work(&mut DEPOTS[class].lock().unwrap_or_else(PoisonError::into_inner))
}

impl Cache {
    /// A block of the class; null if the system has no more.
    #[inline]
    fn alloc(&mut self, class: usize) -> *mut u8 {
        match self.shelves[class].active.pop() {
            Some(block) => block.cast(),
            None => self.refill(class),
        }
    }

    #[cold]
    fn refill(&mut self, class: usize) -> *mut u8 {
        let shelf = &mut self.shelves[class];
        shelf.active = match shelf.spare.count {
            0 => with_depot(class, |depot| depot.take(class)),
            _ => std::mem::replace(&mut shelf.spare, Magazine::EMPTY),
        };
        match shelf.active.pop() {
            Some(block) => block.cast(),
            None => self.cut(size_of_class(class)),
        }
    }

    /// The next `size` bytes of the chunk, or of a new one; the old one's rest, below 1 KiB, is lost.
    fn cut(&mut self, size: usize) -> *mut u8 {
        const CHUNK: Layout = match Layout::from_size_align(CHUNK_BYTES, GRAIN) {
            Ok(layout) => layout,
            Err(_) => panic!("the size is no power of two's overflow"),
        };
        if self.left < size {
            // SAFETY: the layout's size is not zero.
            let chunk = unsafe { System.alloc(CHUNK) };
            if chunk.is_null() {
                return chunk;
            }
            (self.chunk, self.left) = (chunk, CHUNK_BYTES);
        }
        let block = self.chunk;
        // SAFETY: `left` bytes from `chunk` on are of one chunk, and `size` is not more.
        self.chunk = unsafe { block.add(size) };
        self.left -= size;
        block
    }

    /// # Safety
    /// The block is of this class, came from `alloc`, and is not used any more.
    #[inline]
    unsafe fn dealloc(&mut self, block: *mut u8, class: usize) {
        let shelf = &mut self.shelves[class];
        if shelf.active.count == capacity(class) {
            let full = std::mem::replace(&mut shelf.active, Magazine::EMPTY);
            let spare = std::mem::replace(&mut shelf.spare, full);
            if spare.count > 0 {
                // SAFETY: a spare is empty or full.
                with_depot(class, |depot| unsafe { depot.put(spare) });
            }
        }
        // SAFETY: blocks of every class are aligned to 16, and nobody else has this one now.
        unsafe { shelf.active.push(block.cast::<Block>()) };
    }

    fn give_back(&mut self) {
        for (class, shelf) in self.shelves.iter_mut().enumerate() {
            with_depot(class, |depot| {
                for magazine in [&mut shelf.active, &mut shelf.spare] {
                    while let Some(block) = magazine.pop() {
                        // SAFETY: it was just taken out of its magazine, which was of this class.
                        unsafe { depot.loose.push(block) };
                        if depot.loose.count == capacity(class) {
                            let full = std::mem::replace(&mut depot.loose, Magazine::EMPTY);
                            // SAFETY: it is full.
                            unsafe { depot.put(full) };
                        }
                    }
                }
            });
        }
    }
}

/// Hands the calling thread's free blocks to the others. To be called by threads that end while the program continues; the
/// rest of its chunk, up to 64 KiB, is lost.
pub fn give_back() {
    // SAFETY: the only reference to this thread's cache: see the proof above.
    CACHE.with(|cache| unsafe { (*cache.get()).give_back() });
}

/// The class that a layout belongs to; `None`: the system's.
#[inline]
fn class_of(layout: &Layout) -> Option<usize> {
    let size = layout.size();
    if size > LARGEST || layout.align() > GRAIN {
        return None;
    }
    let last = size.saturating_sub(1);
    if last < 128 {
        return Some(last / GRAIN);
    }
    // Four classes from each power of two to the next.
    let log = last.ilog2() as usize;
    Some(8 + (log - 7) * 4 + (last >> (log - 2)) % 4)
}

/// Bytes of a class's blocks.
const fn size_of_class(class: usize) -> usize {
    if class < 8 {
        return (class + 1) * GRAIN;
    }
    let (power, quarter) = ((class - 8) / 4, (class - 8) % 4);
    (128 << power) + (quarter + 1) * (32 << power)
}

/// Blocks of a full magazine.
const fn capacity(class: usize) -> usize {
    const CAPACITIES: [usize; CLASSES] = {
        let mut capacities = [0; CLASSES];
        let mut class = 0;
        while class < CLASSES {
            capacities[class] = MAGAZINE_BYTES / size_of_class(class);
            class += 1;
        }
        capacities
    };
    CAPACITIES[class]
}

// SAFETY: see the proof above. Blocks are at least as large as requested, since a class's size is not below any of the
// sizes that it serves (tested), and aligned to 16; nothing here unwinds.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match class_of(&layout) {
            // SAFETY: the only reference to this thread's cache.
            Some(class) => CACHE.with(|cache| unsafe { (*cache.get()).alloc(class) }),
            // SAFETY: the caller's promise is the same.
            None => unsafe { System.alloc(layout) },
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match class_of(&layout) {
            // SAFETY: the only reference to this thread's cache; the layout is the one that the block came with.
            Some(class) => CACHE.with(|cache| unsafe { (*cache.get()).dealloc(block, class) }),
            // SAFETY: the caller's promise is the same, and the block came from the system.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if class_of(&layout).is_none() {
            // SAFETY: the caller's promise is the same. The system knows which of its memory is zero already.
            return unsafe { System.alloc_zeroed(layout) };
        }
        // SAFETY: the caller's promise is the same.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() {
            // SAFETY: the block has at least this many bytes and no other owner.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the size does not overflow with this alignment.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        match (class_of(&layout), class_of(&new_layout)) {
            (Some(old), Some(new)) if old == new => block,
            // SAFETY: the caller's promise is the same, and the block came from the system and stays there.
            (None, None) => unsafe { System.realloc(block, layout, new_size) },
            _ => {
                // SAFETY: the new size is not zero, by the caller's promise.
                let new = unsafe { self.alloc(new_layout) };
                if !new.is_null() {
                    // SAFETY: both blocks have at least this many bytes and do not overlap.
                    unsafe { ptr::copy_nonoverlapping(block, new, layout.size().min(new_size)) };
                    // SAFETY: the caller gives the block up.
                    unsafe { self.dealloc(block, layout) };
                }
                new
            }
        }
    }
}

#[cfg(test)]
mod tests;
