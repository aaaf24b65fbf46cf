//! Where every buffer lies: two that live at the same time lie apart.
//!
//! Feature maps lie in one arena. What comes after the last pool lies in another, which is `f32`
//! whatever the maps are: rounding the logits to bf16 would cost accuracy and save nothing.

use super::program::{Buffer, Program};
use polynet_kernels::layout::View;
use polynet_kernels::{Element, plan};

/// Feature maps that a cache holds beside the weights.
const CACHE_BYTES: usize = 16 << 20;

/// Where a program's buffers lie for a number of images at once, and the elements of the arenas that
/// hold them.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    starts: Vec<usize>,
    /// Images at once.
    pub(super) images: usize,
    /// Of the feature maps.
    pub(super) elements: usize,
    /// Of the rows of images.
    pub(super) row_elements: usize,
}

impl Plan {
    /// Places the buffers.
    pub(super) fn new(program: &Program, images: usize) -> Self {
        let lifetimes = program.lifetimes();
        let mut starts = vec![0; program.buffers.len()];
        let mut place = |of_rows: bool| {
            let is_there = |id: &usize| program.buffers[*id].is_row_of_images == of_rows;
            let ids: Vec<usize> = (0..program.buffers.len()).filter(is_there).collect();
            let sizes = ids.iter().map(|&id| elements(&program.buffers[id], images));
            let lives: Vec<_> = ids.iter().map(|&id| lifetimes[id]).collect();
            let (places, elements) = plan::place(&sizes.collect::<Vec<_>>(), &lives);
            for (id, start) in ids.into_iter().zip(places) {
                starts[id] = start;
            }
            elements
        };
        let (elements, row_elements) = (place(false), place(true));
        Self {
            starts,
            images,
            elements,
            row_elements,
        }
    }

    /// The plan for as many images at once, up to `most`, as keep the maps in a cache: a large batch
    /// at once would move every map to memory and back, and is up to a fifth slower.
    pub(super) fn in_cache<E: Element>(program: &Program, most: usize) -> Self {
        let one = Self::new(program, 1);
        let bytes = size_of::<E>() * one.elements;
        let images = (CACHE_BYTES / bytes.max(1)).clamp(1, most.max(1));
        if images == 1 {
            one
        } else {
            Self::new(program, images)
        }
    }

    /// The views of the buffers for some of the plan's images.
    pub(super) fn views(&self, program: &Program, images: usize) -> Vec<View> {
        assert!(
            images <= self.images,
            "the plan is for {} images",
            self.images
        );
        let buffers = program.buffers.iter().zip(&self.starts);
        buffers
            .map(|(buffer, &start)| view(buffer, start, images))
            .collect()
    }
}

/// Images, and rows and columns of each, as the buffer stores them.
fn geometry(buffer: &Buffer, images: usize) -> (usize, [usize; 2]) {
    if buffer.is_row_of_images {
        (1, [1, images])
    } else {
        (images, buffer.size)
    }
}

fn elements(buffer: &Buffer, images: usize) -> usize {
    let (images, size) = geometry(buffer, images);
    View::elements(images, buffer.channels, size, buffer.halo)
}

fn view(buffer: &Buffer, start: usize, images: usize) -> View {
    let (images, size) = geometry(buffer, images);
    View::new(start, images, buffer.channels, size, buffer.halo)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Architecture;
    use crate::nn::Precision;

    #[test]
    fn buffers_that_live_together_lie_apart() {
        for spec in ["small-polynet", "ir-3-6-3; B: mpoly-3 x6", "resnet-50"] {
            let architecture: Architecture = spec.parse().unwrap();
            let program = Program::new(&architecture.graph().unwrap(), Precision::F32);
            let plan = Plan::new(&program, 2);
            let views = plan.views(&program, 2);
            let lifetimes = program.lifetimes();
            let is_row = |id: usize| program.buffers[id].is_row_of_images;
            for (a, (first, last)) in lifetimes.iter().enumerate() {
                let elements = match is_row(a) {
                    true => plan.row_elements,
                    false => plan.elements,
                };
                assert!(views[a].end() <= elements, "{spec}: buffer {a}");
                for (b, (other_first, other_last)) in lifetimes.iter().enumerate().skip(a + 1) {
                    let together =
                        first <= other_last && other_first <= last && is_row(a) == is_row(b);
                    let apart = !views[a].overlaps(&views[b]);
                    assert!(!together || apart, "{spec}: buffers {a} and {b}");
                }
            }
        }
    }
}
