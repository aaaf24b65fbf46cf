//! Memory from the operating system.
//!
//! Huge pages are not asked for: steady work is no faster with them here, and where memory is in pieces
//! or lent by a host, a process that starts waits for them up to a second.

#[cfg(unix)]
pub(super) use unix::{discard, map, unmap};

#[cfg(not(unix))]
pub(super) use other::{discard, map, unmap};

/// Where mappings begin: at a huge page of the common processors, so that the system may use them.
const HUGE_PAGE: usize = 2 << 20;

#[cfg(unix)]
mod unix {
    use super::HUGE_PAGE;
    use std::ptr;

    /// `size` bytes of zeros that begin at a huge page; null if there are none.
    pub(in crate::memory) fn map(size: usize) -> *mut u8 {
        let length = size + HUGE_PAGE;
        // SAFETY: a new private mapping touches nothing that is there.
        let start = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(ptr::null_mut(), length, protection, flags, -1, 0)
        };
        if start == libc::MAP_FAILED {
            return ptr::null_mut();
        }
        let start: *mut u8 = start.cast();
        let before = start.align_offset(HUGE_PAGE);
        let block = start.wrapping_add(before);
        // SAFETY: both parts lie in the new mapping, at its ends.
        unsafe {
            trim(start, before);
            let page = page_size();
            let end = size.next_multiple_of(page);
            trim(block.wrapping_add(end), length - before - end);
        }
        block
    }

    /// # Safety
    /// The range lies in a mapping at pages and is not used any more.
    unsafe fn trim(start: *mut u8, length: usize) {
        if length > 0 {
            // SAFETY: by the contract.
            unsafe { libc::munmap(start.cast(), length) };
        }
    }

    fn page_size() -> usize {
        // SAFETY: it only asks.
        let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(size).unwrap_or(4096).max(4096)
    }

    /// Gives a mapping of [`map`] back.
    ///
    /// # Safety
    /// It is one of `size` bytes and is not used any more.
    pub(in crate::memory) unsafe fn unmap(block: *mut u8, size: usize) {
        // SAFETY: by the contract.
        unsafe { trim(block, size.next_multiple_of(page_size())) }
    }

    /// Gives the memory of whole pages of a block back, but for its first bytes. The addresses stay.
    ///
    /// # Safety
    /// What is in the block beyond the first bytes is not needed any more.
    pub(in crate::memory) unsafe fn discard(block: *mut u8, size: usize, first: usize) {
        let page = page_size();
        let start = (block as usize + first).next_multiple_of(page);
        let end = (block as usize + size) / page * page;
        if start < end {
            // SAFETY: whole pages inside the block.
            unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
        }
    }
}

#[cfg(not(unix))]
mod other {
    use super::HUGE_PAGE;
    use std::alloc::{GlobalAlloc, Layout, System};

    fn layout(size: usize) -> Layout {
        // SAFETY: the alignment is a power of two, and sizes are far below `isize::MAX`.
        unsafe { Layout::from_size_align_unchecked(size, HUGE_PAGE) }
    }

    /// `size` bytes of zeros that begin at a huge page; null if there are none.
    pub(in crate::memory) fn map(size: usize) -> *mut u8 {
        // SAFETY: the size is not zero.
        unsafe { System.alloc_zeroed(layout(size)) }
    }

    /// Gives a block of [`map`] back.
    ///
    /// # Safety
    /// It is one of `size` bytes and is not used any more.
    pub(in crate::memory) unsafe fn unmap(block: *mut u8, size: usize) {
        // SAFETY: by the contract.
        unsafe { System.dealloc(block, layout(size)) }
    }

    /// Does nothing: parts of a block cannot be given back.
    ///
    /// # Safety
    /// None.
    pub(in crate::memory) unsafe fn discard(_: *mut u8, _: usize, _: usize) {}
}
