//! Where every buffer lies: two that live at the same time lie apart.

use super::program::{Buffer, Program};
use polynet_kernels::layout::View;
use polynet_kernels::plan;

/// The views of a program's buffers for a batch, and the elements of the arena that holds them.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) views: Vec<View>,
    pub(super) elements: usize,
}

impl Plan {
    /// Places the buffers.
    pub(super) fn new(program: &Program, images: usize) -> Self {
        let sizes: Vec<usize> = program
            .buffers
            .iter()
            .map(|buffer| elements(buffer, images))
            .collect();
        let (starts, elements) = plan::place(&sizes, &program.lifetimes());
        let buffers = program.buffers.iter().zip(starts);
        Self {
            views: buffers
                .map(|(buffer, start)| view(buffer, start, images))
                .collect(),
            elements,
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

    #[test]
    fn buffers_that_live_together_lie_apart() {
        for spec in ["small-polynet", "ir-3-6-3; B: mpoly-3 x6", "resnet-50"] {
            let architecture: Architecture = spec.parse().unwrap();
            let program = Program::new(&architecture.graph().unwrap());
            let plan = Plan::new(&program, 2);
            let lifetimes = program.lifetimes();
            let mut needed = 0;
            for (a, (first, last)) in lifetimes.iter().enumerate() {
                needed = needed.max(plan.views[a].end());
                for (b, (other_first, other_last)) in lifetimes.iter().enumerate().skip(a + 1) {
                    let together = first <= other_last && other_first <= last;
                    let apart = !plan.views[a].overlaps(&plan.views[b]);
                    assert!(!together || apart, "{spec}: buffers {a} and {b}");
                }
            }
            assert!(needed <= plan.elements, "{spec}");
        }
    }
}
