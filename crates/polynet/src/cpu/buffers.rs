//! Where the buffers of a program lie: two that are needed at the same time lie apart.

use super::program::Program;
use polynet_kernels::layout::{Pixel, View};
use polynet_kernels::plan;

/// Index of a buffer in [`Program::buffers`].
pub(super) type BufferId = usize;

/// A feature map, or a part of a concatenation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Buffer {
    pub(super) channels: usize,
    /// Rows and columns.
    pub(super) size: [usize; 2],
    /// Columns of zeros that its readers need on each side.
    pub(super) halo: usize,
    /// Whether the images of a batch lie side by side as pixels of one row.
    pub(super) is_row_of_images: bool,
    /// Whether its elements are bytes, which have an arena of their own.
    pub(super) is_bytes: bool,
    /// What lies side by side at a pixel.
    pub(super) pixel: Pixel,
}

impl Buffer {
    /// A feature map without a halo.
    pub(super) fn map(channels: usize, size: [usize; 2]) -> Self {
        Self {
            channels,
            size,
            halo: 0,
            is_row_of_images: false,
            is_bytes: false,
            pixel: Pixel::Block,
        }
    }

    /// A feature map of bytes like one of other elements.
    pub(super) fn bytes_like(other: Self) -> Self {
        Self {
            is_bytes: true,
            ..Self::map(other.channels, other.size)
        }
    }

    /// One pixel an image.
    pub(super) fn row_of_images(channels: usize) -> Self {
        Self {
            is_row_of_images: true,
            ..Self::map(channels, [1, 1])
        }
    }

    /// Images, and rows and columns of each, as the buffer stores them.
    fn geometry(&self, images: usize) -> (usize, [usize; 2]) {
        match self.is_row_of_images {
            true => (1, [1, images]),
            false => (images, self.size),
        }
    }

    fn elements(&self, images: usize) -> usize {
        let (images, size) = self.geometry(images);
        let elements = View::elements_of(self.pixel, images, self.channels, size, self.halo);
        // So that whatever comes next begins at one of its pixels.
        let largest = match self.is_bytes {
            true => Pixel::FourBlocks,
            false => Pixel::TwoBlocks,
        };
        elements.next_multiple_of(largest.channels())
    }

    fn view(&self, start: usize, images: usize) -> View {
        let (images, size) = self.geometry(images);
        View::of(self.pixel, start, images, self.channels, size, self.halo)
    }
}

/// Where a program's buffers lie for a number of images at once, and the elements of the arenas that
/// hold them.
///
/// Rows of images, what comes after the last pool, lie in an arena of their own, which is `f32` whatever the maps
/// are: rounding the logits to bf16 would cost accuracy and save nothing.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    starts: Vec<usize>,
    /// Images at once.
    pub(super) images: usize,
    /// Of the feature maps.
    pub(super) elements: usize,
    /// Of the rows of images.
    pub(super) row_elements: usize,
    /// Of the maps of bytes.
    pub(super) byte_elements: usize,
}

impl Plan {
    /// Places the buffers.
    pub(super) fn new(program: &Program, images: usize) -> Self {
        let lives = program.lives();
        let mut starts = vec![0; program.buffers.len()];
        let mut place = |is_there: &dyn Fn(&Buffer) -> bool| {
            let ids: Vec<usize> = (0..program.buffers.len())
                .filter(|&id| is_there(&program.buffers[id]))
                .collect();
            let sizes = ids.iter().map(|&id| program.buffers[id].elements(images));
            let lives: Vec<_> = ids.iter().map(|&id| lives[id]).collect();
            let (places, elements) = plan::place(&sizes.collect::<Vec<_>>(), &lives);
            for (id, start) in ids.into_iter().zip(places) {
                starts[id] = start;
            }
            elements
        };
        let elements = place(&|buffer| !buffer.is_row_of_images && !buffer.is_bytes);
        let row_elements = place(&|buffer| buffer.is_row_of_images);
        let byte_elements = place(&|buffer| buffer.is_bytes);
        Self {
            starts,
            images,
            elements,
            row_elements,
            byte_elements,
        }
    }

    /// Bytes of the feature maps, which have elements of some bytes.
    pub(super) fn map_bytes(&self, element: usize) -> usize {
        element * self.elements + self.byte_elements
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
            .map(|(buffer, &start)| buffer.view(start, images))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::{Architecture, Graph};
    use crate::cpu::lower;
    use crate::cpu::program::Step;
    use crate::step::{LossOptions, Paths, Precision, StepOptions};

    fn check(spec: &str, program: &Program) {
        let plan = Plan::new(program, 2);
        let views = plan.views(program, 2);
        let lives = program.lives();
        let elements = |id: usize| match program.buffers[id] {
            Buffer {
                is_row_of_images: true,
                ..
            } => plan.row_elements,
            Buffer { is_bytes: true, .. } => plan.byte_elements,
            _ => plan.elements,
        };
        let arena = |id: usize| {
            let buffer = program.buffers[id];
            (buffer.is_row_of_images, buffer.is_bytes)
        };
        for (a, (first, last)) in lives.iter().enumerate() {
            assert!(views[a].end() <= elements(a), "{spec}: buffer {a}");
            for (b, (other_first, other_last)) in lives.iter().enumerate().skip(a + 1) {
                let together = first <= other_last && other_first <= last;
                let apart = arena(a) != arena(b) || !views[a].overlaps(&views[b]);
                assert!(!together || apart, "{spec}: buffers {a} and {b}");
            }
        }
    }

    #[test]
    fn feature_maps_lie_as_tiles_are_read_and_images_and_rows_do_not() {
        for spec in ["small-polynet; width = 0.125", "resnet-50", "inception-v4"] {
            let graph: Graph = spec.parse::<Architecture>().unwrap().graph().unwrap();
            let program = lower::tiled_prediction(&graph).program;
            for (id, buffer) in program.buffers.iter().enumerate() {
                let is_map =
                    !program.steps.contains(&Step::Input { to: id }) && !buffer.is_row_of_images;
                assert_eq!(
                    buffer.pixel == Pixel::TwoBlocks,
                    is_map,
                    "{spec}: buffer {id}"
                );
            }
        }
    }

    /// With a step of each map that can be of bytes.
    fn in_bytes(graph: &Graph) -> lower::Prediction {
        let lowered = lower::quantized(graph, Precision::Bf16, &|_| Some(0.5));
        lowered.unwrap_or_else(|_| unreachable!("all steps are one"))
    }

    #[test]
    fn maps_of_bytes_lie_as_tiles_are_read_and_others_do_not() {
        let spec = "small-polynet; width = 0.125";
        let graph: Graph = spec.parse::<Architecture>().unwrap().graph().unwrap();
        let buffers = lower::tiled(in_bytes(&graph)).program.buffers;
        assert!(buffers.iter().any(|buffer| buffer.is_bytes));
        for buffer in buffers {
            assert_eq!(buffer.pixel == Pixel::FourBlocks, buffer.is_bytes);
            assert!(buffer.is_bytes || buffer.pixel == Pixel::Block);
        }
    }

    #[test]
    fn buffers_that_live_together_lie_apart() {
        for spec in ["small-polynet", "ir-3-6-3; B: mpoly-3 x6", "resnet-50"] {
            let graph: Graph = spec.parse::<Architecture>().unwrap().graph().unwrap();
            check(spec, &lower::prediction(&graph, Precision::F32).program);
            check(spec, &lower::tiled_prediction(&graph).program);
            check(spec, &in_bytes(&graph).program);
            check(spec, &lower::tiled(in_bytes(&graph)).program);
            let paths = Paths::all(&graph);
            let options = StepOptions::new(LossOptions::default(), &paths);
            check(spec, &lower::training(&graph, &options).program);
        }
    }
}
