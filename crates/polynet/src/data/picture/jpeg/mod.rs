//! A decoder of the usual JPEG photographs that decodes a part of a picture, at full size or a
//! half, a quarter or an eighth of it.
//!
//! A training picture needs a part of a photograph at some size. Three things are saved: rows
//! below the part are not read; beside and above it only Huffman codes are; and where the part
//! shrinks anyway, blocks are transformed to 4×4, 2×2 or 1×1 samples (scaling in the domain of
//! the cosine transform).
//!
//! Law: at full size every sample is within 1 of libjpeg's (but for where colours clip), and a
//! part is the part of the whole. What this decoder doesn't know (progressive files, CMYK, unusual
//! sampling) or can't read is left to the crate `image`: the answer is then `None`.

mod colour;
mod header;
mod huffman;
mod idct;

use self::{
    huffman::{Bits, Table, read_block},
    idct::{Transform, ZIGZAG},
};

pub(super) use self::header::Jpeg;

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
}

/// What decoding a component takes.
struct Channel<'a> {
    transform: Transform,
    constant: &'a Table,
    varying: &'a Table,
    /// Blocks of an MCU.
    columns: usize,
    rows: usize,
    plane: Plane,
    previous: i32,
}

/// MCUs that hold a part.
struct Needed {
    columns: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
}

impl Jpeg<'_> {
    /// Width and height in pixels.
    pub(super) fn dimensions(&self) -> (u32, u32) {
        (self.width as u32, self.height as u32)
    }

    /// Width and height in pixels of the shrunk picture.
    pub(super) fn shrunk_dimensions(&self, shrink: Shrink) -> (usize, usize) {
        let divisor = shrink as usize;
        (self.width.div_ceil(divisor), self.height.div_ceil(divisor))
    }

    /// Decodes `part` of the shrunk picture to RGB bytes, `[height, width, 3]`. Nothing if the
    /// file is damaged in a way that shows.
    pub(super) fn decode(&self, shrink: Shrink, part: Part) -> Option<Vec<u8>> {
        let segments = Segments::of(self.scan)?;
        let side = 8 / shrink as usize;
        let luma = self.components.first()?;
        let (mcu_width, mcu_height) = (luma.horizontal * side, luma.vertical * side);
        // Chroma is interpolated from its neighbours.
        let needed = Needed {
            columns: part.left.saturating_sub(2) / mcu_width
                ..(part.left + part.width + 2)
                    .div_ceil(mcu_width)
                    .min(self.mcu_columns()),
            rows: part.top.saturating_sub(2) / mcu_height
                ..(part.top + part.height + 2)
                    .div_ceil(mcu_height)
                    .min(self.mcu_rows()),
        };
        let mut channels = (0..self.components.len())
            .map(|index| self.channel(index, shrink, &needed))
            .collect::<Option<Vec<_>>>()?;
        self.read(&segments, &needed, &mut channels)?;
        let planes: Vec<Plane> = channels.into_iter().map(|channel| channel.plane).collect();
        Some(colour::to_rgb(&planes, part))
    }

    fn mcu_columns(&self) -> usize {
        self.width.div_ceil(8 * self.components[0].horizontal)
    }

    fn mcu_rows(&self) -> usize {
        self.height.div_ceil(8 * self.components[0].vertical)
    }

    /// `None` if a table is missing.
    fn channel(&self, index: usize, shrink: Shrink, needed: &Needed) -> Option<Channel<'_>> {
        let (luma, component) = (self.components.first()?, self.components.get(index)?);
        let (across, down) = (
            luma.horizontal / component.horizontal,
            luma.vertical / component.vertical,
        );
        // Where chroma is half as large both ways, its shrinking takes one step less.
        let side = (8 / shrink as usize * across.min(down)).min(8);
        let quantization = self.quantization.get(component.quantization)?.as_deref()?;
        let (columns, rows) = (component.horizontal, component.vertical);
        let stride = needed.columns.len() * columns * side;
        let scaled =
            |size: usize, blocks: usize, of: usize| (size * blocks * side).div_ceil(8 * of);
        Some(Channel {
            transform: Transform::new(quantization, side),
            constant: self.constant.get(component.constant)?.as_ref()?,
            varying: self.varying.get(component.varying)?.as_ref()?,
            columns,
            rows,
            plane: Plane {
                samples: vec![0; stride * needed.rows.len() * rows * side],
                stride,
                left: needed.columns.start * columns * side,
                top: needed.rows.start * rows * side,
                width: scaled(self.width, columns, luma.horizontal),
                height: scaled(self.height, rows, luma.vertical),
            },
            previous: 0,
        })
    }

    /// Reads the MCUs up to the last one needed.
    fn read(
        &self,
        segments: &Segments,
        needed: &Needed,
        channels: &mut [Channel<'_>],
    ) -> Option<()> {
        let mcu_columns = self.mcu_columns();
        let mut until_restart = self.restart_interval;
        let mut parts = segments.iter();
        let mut bits = Bits::new(parts.next()?);
        for row in 0..needed.rows.end {
            for column in 0..mcu_columns {
                if self.restart_interval > 0 {
                    if until_restart == 0 {
                        if bits.ran_out() {
                            return None;
                        }
                        bits = Bits::new(parts.next()?);
                        until_restart = self.restart_interval;
                        channels.iter_mut().for_each(|channel| channel.previous = 0);
                    }
                    until_restart -= 1;
                }
                let place = (needed.rows.contains(&row) && needed.columns.contains(&column))
                    .then(|| (column - needed.columns.start, row - needed.rows.start));
                for channel in &mut *channels {
                    channel.read_mcu(&mut bits, place)?;
                }
            }
            if bits.ran_out() {
                return None;
            }
        }
        Some(())
    }
}

impl Channel<'_> {
    /// Reads its blocks of an MCU and, where `place` says that it is needed, writes them.
    #[inline(always)]
    fn read_mcu(&mut self, bits: &mut Bits<'_>, place: Option<(usize, usize)>) -> Option<()> {
        let Some((column, row)) = place else {
            for _ in 0..self.rows * self.columns {
                read_block(
                    bits,
                    self.constant,
                    self.varying,
                    &mut self.previous,
                    |_, _| {},
                )?;
            }
            return Some(());
        };
        let side = self.transform.side;
        for block_row in 0..self.rows {
            for block_column in 0..self.columns {
                let mut block = [0i16; 64];
                let last = read_block(
                    bits,
                    self.constant,
                    self.varying,
                    &mut self.previous,
                    |k, value| {
                        block[usize::from(ZIGZAG[k & 63])] = value as i16;
                    },
                )?;
                let y = (row * self.rows + block_row) * side;
                let x = (column * self.columns + block_column) * side;
                let out = &mut self.plane.samples[y * self.plane.stride + x..];
                self.transform.write(&block, last, out, self.plane.stride);
            }
        }
        Some(())
    }
}

/// The coded data between restart markers, without stuffed zeros.
struct Segments {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Segments {
    /// Nothing if anything but the end of the image follows the scan.
    fn of(scan: &[u8]) -> Option<Self> {
        let mut bytes = Vec::with_capacity(scan.len());
        let mut ends = Vec::new();
        let mut rest = scan;
        loop {
            let plain = rest.iter().position(|&byte| byte == 0xFF)?;
            bytes.extend_from_slice(&rest[..plain]);
            rest = &rest[plain + 1..];
            match rest.first()? {
                0x00 => {
                    bytes.push(0xFF);
                    rest = &rest[1..];
                }
                0xFF => {} // fill before a marker
                0xD0..=0xD7 => {
                    ends.push(bytes.len());
                    rest = &rest[1..];
                }
                0xD9 => {
                    ends.push(bytes.len());
                    return Some(Self { bytes, ends });
                }
                _ => return None,
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, &end)| &self.bytes[start..end])
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

#[cfg(test)]
mod tests;
