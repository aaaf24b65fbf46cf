//! A decoder of JPEGs that decodes a part of a picture, at full size or a half, a quarter or an
//! eighth of it.
//!
//! A training picture needs a part of a photograph at some size. Three things are saved: rows
//! below the part are not read; beside and above it only Huffman codes are; and where the part
//! shrinks anyway, blocks are transformed to 4×4, 2×2 or 1×1 samples (scaling in the domain of
//! the cosine transform).
//!
//! Law: at full size every pixel is that of libjpeg-turbo (its slow integer transform, its fancy
//! upsampling) to the bit, whatever the scans, the sampling and the colours are, and a part is the
//! part of the whole. What is not decoded (arithmetic coding, 12 bits, lossless and hierarchical
//! files) is refused by name, and so is damage that shows.

mod colour;
mod header;
mod huffman;
mod idct;
mod progressive;
mod scan;
mod sequential;

pub(super) use self::header::Jpeg;
use self::header::Process;

/// Why a picture is not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("expected a JPEG")]
    NoJpeg,
    #[error("the file ends before its JPEG image does")]
    EndsEarly,
    #[error("expected a JPEG coded as photographs are, this one has {0}; convert it first")]
    Unsupported(&'static str),
    #[error("the JPEG is damaged: {0}")]
    Damaged(&'static str),
    #[error("there is not enough memory for the picture")]
    Memory,
}

/// How much smaller than the file's a decoded picture is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shrink {
    /// Not at all.
    Full = 1,
    /// Half of each side.
    Half = 2,
    /// A quarter of each side.
    Quarter = 4,
    /// An eighth of each side.
    Eighth = 8,
}

/// A part of a picture in whole pixels of the (shrunk) picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) left: usize,
    pub(super) top: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

/// Decoded samples of one component.
struct Plane {
    samples: Vec<u8>,
    stride: usize,
    /// Where in the component the samples begin.
    left: usize,
    top: usize,
    /// Size of the whole component.
    width: usize,
    height: usize,
    /// How many times wider and higher the picture is.
    across: usize,
    down: usize,
}

/// MCUs or blocks that hold a part.
#[derive(Clone)]
struct Needed {
    columns: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
}

impl Jpeg<'_> {
    /// Width and height in pixels.
    pub(super) fn dimensions(&self) -> (u32, u32) {
        (self.width as u32, self.height as u32)
    }

    /// How many colour channels the file has.
    pub(super) fn channels(&self) -> usize {
        self.components.len()
    }

    /// Width and height in pixels of the shrunk picture.
    pub(super) fn shrunk_dimensions(&self, shrink: Shrink) -> (usize, usize) {
        let divisor = shrink as usize;
        (self.width.div_ceil(divisor), self.height.div_ceil(divisor))
    }

    /// The most bytes that decoding asks for at once, beyond the file's own.
    pub(super) fn memory(&self, shrink: Shrink, part: Part) -> u64 {
        let (out, needed) = (
            3 * (part.width * part.height) as u64,
            self.needed(shrink, part),
        );
        let each = |size: fn(&Self, usize, usize, &Needed) -> u64| -> u64 {
            let all = 0..self.components.len();
            all.map(|index| size(self, index, self.side(index, shrink), &needed))
                .sum()
        };
        let planes = each(|jpeg, index, side, needed| {
            let blocks = jpeg.blocks_of_mcu(index) * needed.columns.len() * needed.rows.len();
            (blocks * side * side) as u64
        });
        let coefficients = each(|jpeg, index, _, _| {
            (128 * jpeg.blocks_of_mcu(index) * jpeg.mcu_columns() * jpeg.mcu_rows()) as u64
        });
        match self.process {
            Process::Sequential => planes + out,
            // A component's coefficients go when its samples are there.
            Process::Progressive => planes + out.max(coefficients),
        }
    }

    /// Decodes `part` of the shrunk picture to RGB bytes, `[height, width, 3]`.
    pub(super) fn decode(&self, shrink: Shrink, part: Part) -> Result<Vec<u8>, Fault> {
        let needed = self.needed(shrink, part);
        let planes = match self.process {
            Process::Sequential => sequential::planes(self, shrink, &needed)?,
            Process::Progressive => progressive::planes(self, shrink, &needed)?,
        };
        colour::to_rgb(&planes, self.colours, part)
    }

    /// The MCUs that hold a part and what is interpolated from beside it.
    fn needed(&self, shrink: Shrink, part: Part) -> Needed {
        let side = 8 / shrink as usize;
        let range = |start: usize, length: usize, mcu: usize, count: usize| {
            start.saturating_sub(2) / mcu..(start + length + 2).div_ceil(mcu).min(count)
        };
        let (width, height) = (self.most.0 * side, self.most.1 * side);
        Needed {
            columns: range(part.left, part.width, width, self.mcu_columns()),
            rows: range(part.top, part.height, height, self.mcu_rows()),
        }
    }

    fn mcu_columns(&self) -> usize {
        self.width.div_ceil(8 * self.most.0)
    }

    fn mcu_rows(&self) -> usize {
        self.height.div_ceil(8 * self.most.1)
    }

    /// How many blocks a component has in an MCU of all components.
    fn blocks_of_mcu(&self, index: usize) -> usize {
        self.components[index].horizontal * self.components[index].vertical
    }

    /// How many blocks a component has across and down, those of padding not counted.
    fn blocks(&self, index: usize) -> (usize, usize) {
        let component = &self.components[index];
        (
            (self.width * component.horizontal).div_ceil(8 * self.most.0),
            (self.height * component.vertical).div_ceil(8 * self.most.1),
        )
    }

    /// The blocks of a component in the MCUs that are needed, without padding.
    fn needed_blocks(&self, index: usize, needed: &Needed) -> Needed {
        let (component, (columns, rows)) = (&self.components[index], self.blocks(index));
        let range = |mcus: &std::ops::Range<usize>, factor: usize, count: usize| {
            (mcus.start * factor).min(count)..(mcus.end * factor).min(count)
        };
        Needed {
            columns: range(&needed.columns, component.horizontal, columns),
            rows: range(&needed.rows, component.vertical, rows),
        }
    }

    /// Samples a side that a component's blocks become: where it is sampled more coarsely than the
    /// picture both ways, its shrinking takes fewer steps.
    fn side(&self, index: usize, shrink: Shrink) -> usize {
        let component = &self.components[index];
        let mut side = 8 / shrink as usize;
        let fits = |side: usize, most: usize, factor: usize| {
            (most * (8 / shrink as usize)).is_multiple_of(factor * side)
        };
        while side < 8
            && fits(2 * side, self.most.0, component.horizontal)
            && fits(2 * side, self.most.1, component.vertical)
        {
            side *= 2;
        }
        side
    }

    /// An empty plane for the blocks of a component that are needed.
    fn plane(&self, index: usize, shrink: Shrink, needed: &Needed) -> Result<Plane, Fault> {
        let (component, side) = (&self.components[index], self.side(index, shrink));
        let (columns, rows) = (component.horizontal * side, component.vertical * side);
        let stride = needed.columns.len() * columns;
        let mcu = 8 / shrink as usize;
        Ok(Plane {
            samples: zeros(stride * needed.rows.len() * rows, 0)?,
            stride,
            left: needed.columns.start * columns,
            top: needed.rows.start * rows,
            width: (self.width * columns).div_ceil(8 * self.most.0),
            height: (self.height * rows).div_ceil(8 * self.most.1),
            across: self.most.0 * mcu / columns,
            down: self.most.1 * mcu / rows,
        })
    }
}

impl Plane {
    /// The samples of a row, from the plane's left edge; rows outside the component are its
    /// nearest.
    fn row(&self, y: isize) -> &[u8] {
        let y = y.clamp(0, self.height as isize - 1) as usize;
        &self.samples[(y - self.top) * self.stride..][..self.stride]
    }
}

impl Shrink {
    /// From the smallest picture to the largest.
    pub(super) const ALL: [Self; 4] = [Self::Eighth, Self::Quarter, Self::Half, Self::Full];
}

/// `count` times `value`, or an error where there is no memory for them.
fn zeros<T: Copy>(count: usize, value: T) -> Result<Vec<T>, Fault> {
    let mut all = Vec::new();
    all.try_reserve_exact(count).map_err(|_| Fault::Memory)?;
    all.resize(count, value);
    Ok(all)
}

#[cfg(test)]
mod tests;
