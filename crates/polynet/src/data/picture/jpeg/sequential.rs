//! Scans whose blocks come in one piece: they are transformed as they are read, and those that no
//! one needs are passed by.

use super::{
    Fault, Jpeg, Needed, Plane, Shrink,
    huffman::{Bits, Table, read_block},
    idct::{Transform, ZIGZAG},
    scan::{Coded, Extent, Mcus},
};

/// The fewest bits of a block: a code for its mean and one for its end.
const BLOCK_BITS: usize = 2;

/// The planes of all components, as far as they are needed.
pub(super) fn planes(
    jpeg: &Jpeg<'_>,
    shrink: Shrink,
    needed: &Needed,
) -> Result<Vec<Plane>, Fault> {
    let mut planes: Vec<Option<Plane>> = jpeg.components.iter().map(|_| None).collect();
    jpeg.each_scan(|coded| {
        let (extent, part) = extent(jpeg, coded, needed);
        let selected = &coded.scan.components;
        if selected.iter().any(|s| planes[s.component].is_some()) {
            return Err(Fault::Damaged("a colour channel is there twice"));
        }
        let interleaved = selected.len() > 1;
        let mcu_blocks: usize = match interleaved {
            true => selected
                .iter()
                .map(|s| jpeg.blocks_of_mcu(s.component))
                .sum(),
            false => 1,
        };
        coded.expect_blocks(extent.columns * extent.rows * mcu_blocks, BLOCK_BITS)?;
        let channels = selected.iter().map(|selected| {
            let component = &jpeg.components[selected.component];
            let missing = Fault::Damaged("a table is missing");
            let table = |tables: &'_ [Option<Table>; 4], index: usize| tables.get(index)?.clone();
            let steps = coded.tables.quantization[component.quantization].as_deref();
            let plane = jpeg.plane(selected.component, shrink, needed)?;
            let channel = || {
                Some(Channel {
                    transform: Transform::new(steps?, jpeg.side(selected.component, shrink)),
                    constant: table(&coded.tables.constant, selected.constant)?,
                    varying: table(&coded.tables.varying, selected.varying)?,
                    columns: if interleaved { component.horizontal } else { 1 },
                    rows: if interleaved { component.vertical } else { 1 },
                    plane,
                    previous: 0,
                })
            };
            channel().ok_or(missing)
        });
        let mut channels = Channels {
            channels: channels.collect::<Result<_, _>>()?,
            needed: part,
        };
        coded.each_mcu(extent, &mut channels)?;
        for (selected, channel) in selected.iter().zip(channels.channels) {
            planes[selected.component] = Some(channel.plane);
        }
        Ok(())
    })?;
    let planes: Option<Vec<_>> = planes.into_iter().collect();
    planes.ok_or(Fault::Damaged("a colour channel is missing"))
}

/// How many MCUs the scan has, and which of them are needed.
fn extent(jpeg: &Jpeg<'_>, coded: &Coded<'_>, needed: &Needed) -> (Extent, Needed) {
    let (columns, rows, needed) = match coded.scan.components.as_slice() {
        [alone] => {
            let (columns, rows) = jpeg.blocks(alone.component);
            (columns, rows, jpeg.needed_blocks(alone.component, needed))
        }
        _ => (jpeg.mcu_columns(), jpeg.mcu_rows(), needed.clone()),
    };
    let extent = Extent {
        columns,
        rows,
        rows_read: needed.rows.end,
    };
    (extent, needed)
}

/// What decoding a component takes.
struct Channel {
    transform: Transform,
    constant: Table,
    varying: Table,
    /// Blocks of an MCU.
    columns: usize,
    rows: usize,
    plane: Plane,
    previous: i32,
}

struct Channels {
    channels: Vec<Channel>,
    needed: Needed,
}

impl Mcus for Channels {
    fn restart(&mut self) {
        self.channels
            .iter_mut()
            .for_each(|channel| channel.previous = 0);
    }

    #[inline(always)]
    fn read(&mut self, bits: &mut Bits<'_>, column: usize, row: usize) -> Option<()> {
        let needed = &self.needed;
        let place = (needed.rows.contains(&row) && needed.columns.contains(&column))
            .then(|| (column - needed.columns.start, row - needed.rows.start));
        for channel in &mut self.channels {
            channel.read_mcu(bits, place)?;
        }
        Some(())
    }
}

impl Channel {
    /// Reads its blocks of an MCU and, where `place` says that it is needed, writes them.
    #[inline(always)]
    fn read_mcu(&mut self, bits: &mut Bits<'_>, place: Option<(usize, usize)>) -> Option<()> {
        let Some((column, row)) = place else {
            for _ in 0..self.rows * self.columns {
                read_block(
                    bits,
                    &self.constant,
                    &self.varying,
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
                    &self.constant,
                    &self.varying,
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
