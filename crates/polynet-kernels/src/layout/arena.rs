//! Memory that begins at a cache line.

use crate::element::Number;
use std::fmt;
use std::marker::PhantomData;

/// A cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[allow(dead_code)] [u8; 64]);

/// Memory for elements that begins at a cache line.
pub struct Arena<E = f32> {
    lines: Box<[Line]>,
    elements: PhantomData<E>,
}

impl<E> Default for Arena<E> {
    fn default() -> Self {
        Self {
            lines: Box::default(),
            elements: PhantomData,
        }
    }
}

impl<E: Number> Arena<E> {
    /// Elements of a cache line.
    const IN_LINE: usize = size_of::<Line>() / size_of::<E>();

    /// Zeros for `len` elements.
    ///
    /// # Panics
    /// If they are more than an address space holds.
    pub fn new(len: usize) -> Self {
        let lines = Box::new_zeroed_slice(len.div_ceil(Self::IN_LINE));
        Self {
            // SAFETY: bytes of zeros are a line, and every element's number zero.
            lines: unsafe { lines.assume_init() },
            elements: PhantomData,
        }
    }

    /// Elements: those that were asked for, and more up to the end of a cache line.
    pub fn len(&self) -> usize {
        self.lines.len() * Self::IN_LINE
    }

    /// Whether it has no element.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The elements.
    pub fn as_slice(&self) -> &[E] {
        // SAFETY: a line is whole elements of plain bytes without padding, and the box owns them.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len()) }
    }

    /// The elements.
    pub fn as_mut_slice(&mut self) -> &mut [E] {
        let len = self.len();
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), len) }
    }

    /// The bytes of the elements.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        // SAFETY: every line is 64 bytes without padding, and the box owns them.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), size_of_val(&*self.lines)) }
    }
}

impl From<&[f32]> for Arena {
    fn from(values: &[f32]) -> Self {
        let mut arena = Self::new(values.len());
        arena.as_mut_slice()[..values.len()].copy_from_slice(values);
        arena
    }
}

impl<E: Number> fmt::Debug for Arena<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arena({} elements)", self.len())
    }
}
