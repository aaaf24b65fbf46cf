//! Where every buffer lies: two that live at the same time lie apart.
//!
//! Feature maps lie in one arena. What comes after the last pool lies in another, which is `f32`
//! whatever the maps are: rounding the logits to bf16 would cost accuracy and save nothing.

use super::program::{Buffer, Program};
use polynet_kernels::layout::View;
use polynet_kernels::plan;

/// The views of a program's buffers for a batch, and the elements of the arenas that hold them.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) views: Vec<View>,
    /// Of the feature maps.
    pub(super) elements: usize,
    /// Of the rows of images.
    pub(super) row_elements: usize,
}

impl Plan {
    /// Places the buffers.
    pub(super) fn new(program: &Program, images: usize) -> Self {
        let lifetimes = program.lifetimes();
        let mut views = vec![None; program.buffers.len()];
        let mut place = |of_rows: bool| {
            let is_there = |id: &usize| program.buffers[*id].is_row_of_images == of_rows;
            let ids: Vec<usize> = (0..program.buffers.len()).filter(is_there).collect();
            let sizes = ids.iter().map(|&id| elements(&program.buffers[id], images));
            let lives: Vec<_> = ids.iter().map(|&id| lifetimes[id]).collect();
            let (starts, elements) = plan::place(&sizes.collect::<Vec<_>>(), &lives);
            for (id, start) in ids.into_iter().zip(starts) {
                views[id] = Some(view(&program.buffers[id], start, images));
            }
            elements
        };
        let (elements, row_elements) = (place(false), place(true));
        Self {
            views: views.into_iter().flatten().collect(),
            elements,
            row_elements,
        }
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
            let lifetimes = program.lifetimes();
            let is_row = |id: usize| program.buffers[id].is_row_of_images;
            for (a, (first, last)) in lifetimes.iter().enumerate() {
                let elements = match is_row(a) {
                    true => plan.row_elements,
                    false => plan.elements,
                };
                assert!(plan.views[a].end() <= elements, "{spec}: buffer {a}");
                for (b, (other_first, other_last)) in lifetimes.iter().enumerate().skip(a + 1) {
                    let together =
                        first <= other_last && other_first <= last && is_row(a) == is_row(b);
                    let apart = !plan.views[a].overlaps(&plan.views[b]);
                    assert!(!together || apart, "{spec}: buffers {a} and {b}");
                }
            }
        }
    }
}
