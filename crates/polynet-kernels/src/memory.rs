//! A global allocator that keeps large blocks.
//!
//! A training step allocates and frees the same few hundred feature maps of up to tens of
//! megabytes. General allocators return such blocks to the operating system at once, so every
//! step faults every page in again and has it zeroed, which costs more than many of the
//! computations. This allocator keeps freed large blocks in lists by size and hands them out
//! again; small blocks go straight to the system's allocator.
//!
//! Large blocks are cut from mappings of 64 MiB, whose pages are zero until they are used: zeros that
//! are asked for are not written again.
//!
//! Memory stays bounded: blocks in use and blocks kept together stay below 1.5 times the most
//! that was in use at once, or everything kept is released. So it is, too, before the system's refusal is
//! passed on, which [`CachingAllocator::advising`] tells the user with what to do.
//!
//! ```
//! #[global_allocator]
//! static ALLOCATOR: polynet_kernels::CachingAllocator = polynet_kernels::CachingAllocator::new();
//! let map = vec![0.0_f32; 1 << 20];
//! assert!(ALLOCATOR.bytes_in_use() >= 4 << 20);
//! drop(map);
//! assert!(ALLOCATOR.bytes_kept() >= 4 << 20);
//! ```

mod system;

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write as _;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

/// Blocks of at least this many bytes are kept.
const SMALLEST: usize = 1 << 14;
const SMALLEST_LOG2: u32 = SMALLEST.trailing_zeros();
/// Size classes between two powers of two: at most an eighth of a block is wasted.
const STEPS_LOG2: u32 = 3;
const STEPS: usize = 1 << STEPS_LOG2;
/// Blocks from this size on are not kept.
const LARGEST_LOG2: u32 = 36;
const CLASSES: usize = (LARGEST_LOG2 - SMALLEST_LOG2) as usize * STEPS;
/// Every kept block has this alignment: a cache line, and an AVX-512 register.
const ALIGNMENT: usize = 64;

/// Bytes that are taken from the system at once; larger blocks have mappings of their own.
const SLAB: usize = 64 << 20;

/// What a kept block holds in its first bytes.
struct Kept {
    next: *mut Kept,
    /// Whether its memory was given back to the system: the addresses alone are kept.
    is_released: bool,
}

/// The rest of a mapping that blocks are cut from.
struct Slab {
    next: *mut u8,
    left: usize,
}

// SAFETY: a slab owns the memory that is left in it.
unsafe impl Send for Slab {}

struct List(*mut Kept);

// SAFETY: a list owns the blocks it links; no other thread has their addresses.
unsafe impl Send for List {}

/// Keeps large blocks for reuse; see the [module documentation](self).
pub struct CachingAllocator {
    lists: [Mutex<List>; CLASSES],
    slab: Mutex<Slab>,
    in_use: AtomicUsize,
    kept: AtomicUsize,
    peak: AtomicUsize,
    advice: &'static str,
    has_advised: AtomicBool,
}

impl CachingAllocator {
    /// An allocator that keeps nothing yet.
    pub const fn new() -> Self {
        Self::advising("")
    }

    /// The same, which says once on standard error when there is no more memory, and what to do.
    pub const fn advising(advice: &'static str) -> Self {
        Self {
            advice,
            has_advised: AtomicBool::new(false),
            lists: [const { Mutex::new(List(ptr::null_mut())) }; CLASSES],
            slab: Mutex::new(Slab {
                next: ptr::null_mut(),
                left: 0,
            }),
            in_use: AtomicUsize::new(0),
            kept: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
        }
    }

    /// Bytes of large blocks in use.
    pub fn bytes_in_use(&self) -> usize {
        self.in_use.load(Ordering::Relaxed)
    }

    /// Bytes of free large blocks kept for reuse.
    pub fn bytes_kept(&self) -> usize {
        self.kept.load(Ordering::Relaxed)
    }

    /// Gives the memory of every kept block back to the operating system.
    pub fn release(&self) {
        for (class, list) in self.lists.iter().enumerate() {
            let size = class_size(class);
            let mut list = lock(list);
            let mut block = std::mem::replace(&mut list.0, ptr::null_mut());
            while !block.is_null() {
                // SAFETY: a kept block holds a valid link, and this list alone links it. A block of a
                // mapping of its own is unmapped whole; of others the first bytes stay.
                unsafe {
                    let Kept { next, is_released } = block.read();
                    if !is_released {
                        self.kept.fetch_sub(size, Ordering::Relaxed);
                    }
                    if size >= SLAB {
                        system::unmap(block.cast(), size);
                    } else {
                        if !is_released {
                            system::discard(block.cast(), size, size_of::<Kept>());
                        }
                        block.write(Kept {
                            next: list.0,
                            is_released: true,
                        });
                        list.0 = block;
                    }
                    block = next;
                }
            }
        }
    }

    /// A kept block, or null; and whether its memory is there.
    fn pop(&self, class: usize) -> (*mut u8, bool) {
        let mut list = lock(&self.lists[class]);
        let block = list.0;
        if block.is_null() {
            return (ptr::null_mut(), false);
        }
        // SAFETY: a kept block holds a valid link, and this list alone links it.
        let Kept { next, is_released } = unsafe { block.read() };
        list.0 = next;
        if !is_released {
            self.kept.fetch_sub(class_size(class), Ordering::Relaxed);
        }
        (block.cast(), !is_released)
    }

    fn push(&self, class: usize, block: *mut u8) {
        let block: *mut Kept = block.cast();
        let mut list = lock(&self.lists[class]);
        // SAFETY: the block is at least `SMALLEST` bytes, aligned to `ALIGNMENT`, and its owner
        // gave it back.
        unsafe {
            block.write(Kept {
                next: list.0,
                is_released: false,
            });
        }
        list.0 = block;
        self.kept.fetch_add(class_size(class), Ordering::Relaxed);
    }

    /// A block of zeros, for which what is kept is given up if there is no other way; null if there is none.
    fn new_block(&self, size: usize) -> *mut u8 {
        let mut block = self.fresh(size);
        if block.is_null() {
            self.release();
            block = self.fresh(size);
        }
        if block.is_null() {
            let in_use = self.in_use.fetch_sub(size, Ordering::Relaxed) - size;
            if !self.advice.is_empty() && !self.has_advised.swap(true, Ordering::Relaxed) {
                // Nobody is left to tell of an error here.
                let _ = writeln!(
                    std::io::stderr(),
                    "the system refuses {size} bytes of memory beside {in_use} in use; {}",
                    self.advice
                );
            }
        }
        block
    }

    /// A block of zeros that nobody has had before, or null.
    fn fresh(&self, size: usize) -> *mut u8 {
        if size >= SLAB {
            return system::map(size);
        }
        let mut slab = lock(&self.slab);
        if slab.left < size {
            let next = system::map(SLAB);
            if next.is_null() {
                return next;
            }
            *slab = Slab { next, left: SLAB };
        }
        let block = slab.next;
        slab.next = block.wrapping_add(size);
        slab.left -= size;
        block
    }

    /// Notes a block taken, and makes room where too much would be held.
    fn note_taken(&self, size: usize, is_new: bool) {
        let in_use = self.in_use.fetch_add(size, Ordering::Relaxed) + size;
        let peak = self.peak.fetch_max(in_use, Ordering::Relaxed).max(in_use);
        if is_new && in_use + self.bytes_kept() > peak + peak / 2 {
            self.release();
        }
    }
}

impl Default for CachingAllocator {
    fn default() -> Self {
        Self::new()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The size class of a layout, or `None` if such blocks are not kept.
fn class_of(layout: Layout) -> Option<usize> {
    let size = layout.size();
    if size < SMALLEST || layout.align() > ALIGNMENT {
        return None;
    }
    let exponent = usize::BITS - 1 - size.leading_zeros();
    let step = 1_usize << (exponent - STEPS_LOG2);
    let position = (size - (1 << exponent)).div_ceil(step);
    let class = (exponent - SMALLEST_LOG2) as usize * STEPS + position;
    (class < CLASSES).then_some(class)
}

/// Bytes of every block of a class: a multiple of `ALIGNMENT`.
fn class_size(class: usize) -> usize {
    let exponent = SMALLEST_LOG2 as usize + class / STEPS;
    (1 << exponent) + (class % STEPS) * (1 << (exponent - STEPS_LOG2 as usize))
}

// SAFETY: every block comes from a mapping, where blocks of multiples of `ALIGNMENT` stand one after
// the other, or from `System` with the caller's layout; which of them, `class_of` derives from the
// layout alone. A block has one owner at a time because a list is locked while it changes.
unsafe impl GlobalAlloc for CachingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class_of(layout) else {
            // SAFETY: the caller's contract is passed on.
            return unsafe { System.alloc(layout) };
        };
        let (block, is_there) = self.pop(class);
        self.note_taken(class_size(class), !is_there);
        match block.is_null() {
            true => self.new_block(class_size(class)),
            false => block,
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class_of(layout) else {
            // SAFETY: the caller's contract is passed on.
            return unsafe { System.alloc_zeroed(layout) };
        };
        let (block, is_there) = self.pop(class);
        self.note_taken(class_size(class), !is_there);
        if block.is_null() {
            return self.new_block(class_size(class));
        }
        // SAFETY: the block holds at least `layout.size()` bytes and has no other owner.
        unsafe { ptr::write_bytes(block, 0, layout.size()) };
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match class_of(layout) {
            Some(class) => {
                self.in_use.fetch_sub(class_size(class), Ordering::Relaxed);
                self.push(class, block);
            }
            // SAFETY: the caller's contract is passed on.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller guarantees that the new size, rounded up, fits the alignment.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        match (class_of(layout), class_of(new_layout)) {
            // SAFETY: the caller's contract is passed on.
            (None, None) => unsafe { System.realloc(block, layout, new_size) },
            (old, new) if old == new => block,
            _ => {
                // SAFETY: the caller's contract gives a valid old block and a non-zero new size.
                let grown = unsafe { self.alloc(new_layout) };
                if !grown.is_null() {
                    let count = layout.size().min(new_size);
                    // SAFETY: both blocks hold `count` bytes and are distinct.
                    unsafe {
                        ptr::copy_nonoverlapping(block, grown, count);
                        self.dealloc(block, layout);
                    }
                }
                grown
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 16).unwrap()
    }

    #[test]
    fn a_class_holds_its_sizes_and_wastes_at_most_an_eighth() {
        let mut size = SMALLEST;
        while size < 1 << 30 {
            let class = class_of(layout(size)).unwrap();
            let held = class_size(class);
            assert!(held.is_multiple_of(ALIGNMENT));
            assert!(held >= size && held - size <= size / 8, "{size}: {held}");
            assert_eq!(class_of(layout(held)), Some(class));
            size += size / 13 + 1;
        }
    }

    #[test]
    fn small_huge_and_over_aligned_blocks_are_not_kept() {
        assert_eq!(class_of(layout(SMALLEST - 1)), None);
        assert_eq!(class_of(layout(1 << 37)), None);
        let aligned = Layout::from_size_align(SMALLEST, 4096).unwrap();
        assert_eq!(class_of(aligned), None);
    }

    #[test]
    fn a_freed_block_is_handed_out_again_and_zeroed_on_request() {
        let allocator = CachingAllocator::new();
        let layout = layout(SMALLEST + 1);
        // SAFETY: the blocks are used within their layout and freed once.
        unsafe {
            let first = allocator.alloc(layout);
            first.write_bytes(7, layout.size());
            allocator.dealloc(first, layout);
            let second = allocator.alloc_zeroed(layout);
            assert_eq!(first, second);
            assert!((0..layout.size()).all(|index| second.add(index).read() == 0));
            allocator.dealloc(second, layout);
        }
        assert_eq!(allocator.bytes_in_use(), 0);
        assert!(allocator.bytes_kept() > SMALLEST);
        allocator.release();
        assert_eq!(allocator.bytes_kept(), 0);
        // SAFETY: as above.
        unsafe {
            let third = allocator.alloc_zeroed(layout);
            assert!((0..layout.size()).all(|index| third.add(index).read() == 0));
            allocator.dealloc(third, layout);
        }
        assert!(allocator.bytes_kept() > SMALLEST);
    }

    #[test]
    fn blocks_larger_than_a_slab_are_mapped_and_unmapped() {
        let allocator = CachingAllocator::new();
        let layout = layout(SLAB + 5);
        // SAFETY: the blocks are used within their layout and freed once.
        unsafe {
            let block = allocator.alloc_zeroed(layout);
            assert_eq!(block.add(SLAB).read(), 0);
            block.add(SLAB).write(1);
            allocator.dealloc(block, layout);
            allocator.release();
            let block = allocator.alloc_zeroed(layout);
            assert_eq!(block.add(SLAB).read(), 0);
            allocator.dealloc(block, layout);
        }
        allocator.release();
    }

    #[test]
    fn growing_keeps_the_content() {
        let allocator = CachingAllocator::new();
        // SAFETY: the block is used within its layout and freed once.
        unsafe {
            let mut old = layout(1000);
            let mut block = allocator.alloc(old);
            block.write_bytes(9, 1000);
            for size in [SMALLEST, SMALLEST + 10, 4 * SMALLEST, 100_000] {
                block = allocator.realloc(block, old, size);
                old = layout(size);
                assert!((0..1000).all(|index| block.add(index).read() == 9));
            }
            allocator.dealloc(block, old);
        }
        assert_eq!(allocator.bytes_in_use(), 0);
        allocator.release();
    }

    #[test]
    fn what_is_held_stays_below_one_and_a_half_of_the_peak() {
        let allocator = CachingAllocator::new();
        let (mut peak, mut state) = (0, 1_u64);
        for _ in 0..2000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let layout = layout(SMALLEST + (state >> 42) as usize);
            // SAFETY: each block is freed once with its layout, untouched.
            unsafe {
                let block = allocator.alloc(layout);
                peak = peak.max(allocator.bytes_in_use());
                assert!(allocator.bytes_in_use() + allocator.bytes_kept() <= peak + peak / 2);
                allocator.dealloc(block, layout);
            }
        }
        allocator.release();
    }

    #[test]
    fn threads_share_blocks_without_mixing_them_up() {
        let allocator = CachingAllocator::new();
        std::thread::scope(|scope| {
            for tag in 0..4_u8 {
                let allocator = &allocator;
                scope.spawn(move || {
                    for round in 0..200 {
                        let layout = layout(SMALLEST + round * 1000);
                        // SAFETY: the block is used within its layout and freed once.
                        unsafe {
                            let block = allocator.alloc(layout);
                            block.write_bytes(tag, 64);
                            std::thread::yield_now();
                            assert!((0..64).all(|index| block.add(index).read() == tag));
                            allocator.dealloc(block, layout);
                        }
                    }
                });
            }
        });
        assert_eq!(allocator.bytes_in_use(), 0);
        allocator.release();
    }
}
