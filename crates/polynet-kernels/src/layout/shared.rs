//! An arena's elements while tasks work on them side by side.

use super::arena::Arena;
use super::view::View;
use crate::element::Number;
use crate::simd::BLOCK;
use std::marker::PhantomData;

/// The elements of an arena, for tasks that write parts of their own and read what none writes.
///
/// In builds with debug assertions every place that is asked for is compared with the bounds.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'a, E> {
    first: *mut E,
    len: usize,
    arena: PhantomData<&'a mut [E]>,
}

// SAFETY: places come from unsafe functions only, whose callers vouch for who reads and writes.
unsafe impl<E: Send> Send for Shared<'_, E> {}
// SAFETY: as above.
unsafe impl<E: Send> Sync for Shared<'_, E> {}

impl<'a, E: Number> Shared<'a, E> {
    /// All elements, to be read and written.
    pub(crate) fn of(arena: &'a mut Arena<E>) -> Self {
        let elements = arena.as_mut_slice();
        Self {
            first: elements.as_mut_ptr(),
            len: elements.len(),
            arena: PhantomData,
        }
    }

    /// All elements, to be read alone.
    pub(crate) fn read_only(arena: &'a Arena<E>) -> Self {
        let elements = arena.as_slice();
        Self {
            first: elements.as_ptr().cast_mut(),
            len: elements.len(),
            arena: PhantomData,
        }
    }

    /// The place of `count` elements from `first` on.
    ///
    /// # Safety
    /// They lie in the arena.
    #[inline]
    pub(crate) unsafe fn at(self, first: usize, count: usize) -> *mut E {
        debug_assert!(
            first <= self.len && count <= self.len - first,
            "{count} elements from {first} on lie in an arena of {}",
            self.len
        );
        // SAFETY: by the contract.
        unsafe { self.first.add(first) }
    }

    /// Pixel (0, 0) of a plane, whose rows lie behind it.
    ///
    /// # Safety
    /// The view lies in the arena and has the plane.
    #[inline]
    pub(crate) unsafe fn plane(self, view: &View, image: usize, block: usize) -> *mut E {
        debug_assert!(image < view.images && block < view.blocks(), "a plane");
        let beside = 2 * view.halo * view.pixel_stride() + view.pixel_stride() - BLOCK;
        let elements = view.plane_stride() - beside;
        // SAFETY: by the contract.
        unsafe { self.at(view.at(image, block, 0, 0), elements) }
    }

    /// Whether `count` elements from a place on lie in the arena.
    pub(crate) fn holds(self, place: *const E, count: usize) -> bool {
        let bytes = (place as usize).wrapping_sub(self.first as usize);
        let all = self.len * size_of::<E>();
        bytes <= all && count <= (all - bytes) / size_of::<E>()
    }
}
