//! Blocks of every size and alignment, from one thread and from several, never overlap.

use std::collections::BTreeSet;
use std::sync::mpsc;

use super::*;

/// A block with a pattern by which a second owner would be noticed.
struct Owned {
    block: *mut u8,
    layout: Layout,
    pattern: u8,
}

// SAFETY: an allocated block is its holder's.
unsafe impl Send for Owned {}

impl Owned {
    fn new(size: usize, align: usize, pattern: u8) -> Self {
        let layout = Layout::from_size_align(size, align).unwrap();
        // SAFETY: the size is not zero.
        let block = unsafe { Allocator.alloc(layout) };
        assert!(!block.is_null() && block.addr().is_multiple_of(align), "{layout:?}");
        // SAFETY: it was just allocated with this size.
        unsafe { block.write_bytes(pattern, size) };
        Self { block, layout, pattern }
    }

    fn check(&self, size: usize) {
        // SAFETY: the block has at least `size` bytes, all written.
        let bytes = unsafe { std::slice::from_raw_parts(self.block, size) };
        assert!(bytes.iter().all(|byte| *byte == self.pattern), "{:?}", self.layout);
    }

    fn resize(&mut self, size: usize) {
        let kept = size.min(self.layout.size());
        // SAFETY: the block came with this layout; the new size is not zero.
        self.block = unsafe { Allocator.realloc(self.block, self.layout, size) };
        self.layout = Layout::from_size_align(size, self.layout.align()).unwrap();
        self.check(kept);
        // SAFETY: it has this size now.
        unsafe { self.block.write_bytes(self.pattern, size) };
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.check(self.layout.size());
        // SAFETY: the block came with this layout, and is given up.
        unsafe { Allocator.dealloc(self.block, self.layout) };
    }
}

/// Numbers that look random and are the same in each run.
fn numbers(seed: u64) -> impl Iterator<Item = usize> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    })
}

#[test]
fn every_size_has_the_smallest_class_that_holds_it() {
    for size in 1..=LARGEST {
        let class = class_of(&Layout::from_size_align(size, 16).unwrap()).unwrap();
        assert!(size_of_class(class) >= size && size_of_class(class).is_multiple_of(GRAIN), "{size}");
        assert!(class == 0 || size_of_class(class - 1) < size, "{size}");
    }
    assert_eq!(size_of_class(CLASSES - 1), LARGEST);
    assert!((0..CLASSES).all(|class| capacity(class) >= 16));
    assert!(size_of::<Block>() <= GRAIN && align_of::<Block>() <= GRAIN);
    assert_eq!(class_of(&Layout::from_size_align(LARGEST + 1, 1).unwrap()), None);
    assert_eq!(class_of(&Layout::from_size_align(32, 32).unwrap()), None);
}

#[test]
fn blocks_never_overlap_whatever_their_sizes() {
    let mut random = numbers(1);
    let mut held: Vec<Owned> = Vec::new();
    for i in 0..50_000 {
        let (what, size, at) =
            (random.next().unwrap(), random.next().unwrap() % 1400 + 1, random.next().unwrap());
        match what % 8 {
            0..4 => held.push(Owned::new(size, 1 << (at % 7), i as u8)),
            4 if !held.is_empty() => {
                let at = at % held.len();
                held[at].resize(size);
            }
            _ if !held.is_empty() => drop(held.swap_remove(at % held.len())),
            _ => {}
        }
    }
}

#[test]
fn zeroed_blocks_are_zero_though_they_were_used() {
    for size in [1, 16, 100, 1024, 5000] {
        drop(Owned::new(size, 8, 0xff));
        let layout = Layout::from_size_align(size, 8).unwrap();
        // SAFETY: the size is not zero, and the block is given up with the layout that it came with.
        unsafe {
            let block = Allocator.alloc_zeroed(layout);
            assert!(std::slice::from_raw_parts(block, size).iter().all(|byte| *byte == 0));
            Allocator.dealloc(block, layout);
        }
    }
}

#[test]
fn what_one_thread_frees_another_one_allocates() {
    // Far more than caches hold, and threads that end with full caches.
    for round in 0..4 {
        let (sender, receiver) = mpsc::sync_channel::<Vec<Owned>>(2);
        let freeing = std::thread::spawn(move || {
            receiver.iter().for_each(drop);
            give_back();
        });
        let mut random = numbers(round);
        for i in 0..200 {
            let blocks = (0..500).map(|_| Owned::new(random.next().unwrap() % 600 + 1, 8, i as u8));
            sender.send(blocks.collect()).unwrap();
        }
        drop(sender);
        freeing.join().unwrap();
    }
}

#[test]
fn memory_is_used_again_over_threads() {
    fn addresses() -> BTreeSet<usize> {
        let work = || {
            let blocks: Vec<Owned> = (0..100).map(|_| Owned::new(1000, 8, 3)).collect();
            let addresses = blocks.iter().map(|owned| owned.block.addr()).collect();
            drop(blocks);
            give_back();
            addresses
        };
        std::thread::spawn(work).join().unwrap()
    }
    // Tests beside this one may take some of it in between.
    let again = (0..20).any(|_| addresses().intersection(&addresses()).count() > 50);
    assert!(again, "no thread got the memory of one that had ended");
}
