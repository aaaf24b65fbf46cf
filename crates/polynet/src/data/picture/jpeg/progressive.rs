//! Scans that add frequencies and bits: coefficients are gathered over all scans and transformed at
//! the end.
//!
//! Source: ITU-T T.81, annex G. A file that leaves bits out is refused: libjpeg would smooth it.

use super::{
    Fault, Jpeg, Needed, Plane, Shrink,
    header::Selected,
    huffman::{Bits, Table},
    idct::{Transform, ZIGZAG},
    scan::{Coded, Extent, Mcus},
    zeros,
};

/// What is known of a component's coefficients.
struct Coefficients {
    /// `[rows, columns, 64]`, each block in rows; padded to whole MCUs.
    blocks: Vec<[i16; 64]>,
    columns: usize,
    /// The lowest bit known of each frequency, in zigzag order.
    known: [Option<u32>; 64],
    quantization: Box<[u16; 64]>,
}

/// The planes of all components, as far as they are needed.
pub(super) fn planes(
    jpeg: &Jpeg<'_>,
    shrink: Shrink,
    needed: &Needed,
) -> Result<Vec<Plane>, Fault> {
    let mut all: Vec<Option<Coefficients>> = jpeg.components.iter().map(|_| None).collect();
    jpeg.each_scan(|coded| {
        if coded.scan.first == 0 && coded.scan.high == 0 {
            begin(jpeg, coded, &mut all)?;
        }
        note_bits(coded, &mut all)?;
        match coded.scan.first {
            0 => means(jpeg, coded, &mut all),
            _ => frequencies(jpeg, coded, &mut all),
        }
    })?;
    let planes = (0..).zip(all).map(|(index, coefficients)| {
        let coefficients = coefficients.ok_or(Fault::Damaged("a colour channel is missing"))?;
        if coefficients.known != [Some(0); 64] {
            return Err(Fault::Unsupported("no scans with its last details"));
        }
        coefficients.plane(jpeg, index, shrink, needed)
    });
    planes.collect()
}

/// Memory for the components of a scan that is the first of theirs.
fn begin(
    jpeg: &Jpeg<'_>,
    coded: &Coded<'_>,
    all: &mut [Option<Coefficients>],
) -> Result<(), Fault> {
    let new = |s: &&Selected| all[s.component].is_none();
    let new: Vec<Selected> = coded.scan.components.iter().filter(new).copied().collect();
    let (mcus, blocks) = (jpeg.mcu_columns() * jpeg.mcu_rows(), |s: &Selected| {
        let (columns, rows) = jpeg.blocks(s.component);
        columns * rows
    });
    coded.expect_blocks(new.iter().map(blocks).sum(), 1)?;
    for selected in new {
        let component = &jpeg.components[selected.component];
        let steps = coded.tables.quantization[component.quantization].clone();
        all[selected.component] = Some(Coefficients {
            blocks: zeros(mcus * jpeg.blocks_of_mcu(selected.component), [0; 64])?,
            columns: jpeg.mcu_columns() * component.horizontal,
            known: [None; 64],
            quantization: steps.ok_or(Fault::Damaged("a table is missing"))?,
        });
    }
    Ok(())
}

/// Refuses scans that don't go on where the ones before them ended.
fn note_bits(coded: &Coded<'_>, all: &mut [Option<Coefficients>]) -> Result<(), Fault> {
    let out_of_order = Fault::Damaged("its scans are out of order");
    let scan = &coded.scan;
    for selected in &scan.components {
        let Some(coefficients) = &mut all[selected.component] else {
            return Err(out_of_order);
        };
        for known in &mut coefficients.known[scan.first..=scan.last] {
            if *known != (scan.high > 0).then_some(scan.high) {
                return Err(out_of_order);
            }
            *known = Some(scan.low);
        }
    }
    Ok(())
}

/// A scan of the blocks' means.
fn means(
    jpeg: &Jpeg<'_>,
    coded: &Coded<'_>,
    all: &mut [Option<Coefficients>],
) -> Result<(), Fault> {
    let interleaved = coded.scan.components.len() > 1;
    let refines = coded.scan.high > 0;
    let mut channels = Vec::new();
    for (index, coefficients) in all.iter_mut().enumerate() {
        let selected = coded.scan.components.iter().find(|s| s.component == index);
        let (Some(selected), Some(coefficients)) = (selected, coefficients) else {
            continue;
        };
        let component = &jpeg.components[index];
        let table = coded.tables.constant.get(selected.constant);
        let table = table.and_then(Option::as_ref);
        if table.is_none() && !refines {
            return Err(Fault::Damaged("a table is missing"));
        }
        channels.push(Means {
            coefficients,
            table,
            columns: if interleaved { component.horizontal } else { 1 },
            rows: if interleaved { component.vertical } else { 1 },
            previous: 0,
        });
    }
    let (columns, rows) = match coded.scan.components.as_slice() {
        [alone] => jpeg.blocks(alone.component),
        _ => (jpeg.mcu_columns(), jpeg.mcu_rows()),
    };
    let mut scan = MeansScan {
        channels,
        low: coded.scan.low,
        refines,
    };
    coded.each_mcu(all_of(columns, rows), &mut scan)
}

fn all_of(columns: usize, rows: usize) -> Extent {
    Extent {
        columns,
        rows,
        rows_read: rows,
    }
}

struct Means<'a> {
    coefficients: &'a mut Coefficients,
    table: Option<&'a Table>,
    /// Blocks of an MCU.
    columns: usize,
    rows: usize,
    previous: i32,
}

struct MeansScan<'a> {
    channels: Vec<Means<'a>>,
    low: u32,
    refines: bool,
}

impl Mcus for MeansScan<'_> {
    fn restart(&mut self) {
        self.channels
            .iter_mut()
            .for_each(|channel| channel.previous = 0);
    }

    fn read(&mut self, bits: &mut Bits<'_>, column: usize, row: usize) -> Option<()> {
        for channel in &mut self.channels {
            for number in 0..channel.rows * channel.columns {
                let x = column * channel.columns + number % channel.columns;
                let y = row * channel.rows + number / channel.columns;
                let block = &mut channel.coefficients.blocks[y * channel.coefficients.columns + x];
                if self.refines {
                    block[0] |= i16::from(bits.bit()) << self.low;
                    continue;
                }
                bits.ensure();
                let (_, difference) = channel.table?.next(bits)?;
                channel.previous = channel.previous.wrapping_add(difference);
                block[0] = (channel.previous << self.low) as i16;
            }
        }
        Some(())
    }
}

/// A scan of some frequencies of one component.
fn frequencies(
    jpeg: &Jpeg<'_>,
    coded: &Coded<'_>,
    all: &mut [Option<Coefficients>],
) -> Result<(), Fault> {
    let [selected] = coded.scan.components.as_slice() else {
        return Err(Fault::Damaged("a scan has a range that can't be"));
    };
    let table = coded.tables.varying.get(selected.varying);
    let (Some(Some(table)), Some(coefficients)) = (table, &mut all[selected.component]) else {
        return Err(Fault::Damaged("a table is missing"));
    };
    let mut scan = FrequencyScan {
        coefficients,
        table,
        first: coded.scan.first,
        last: coded.scan.last,
        low: coded.scan.low,
        refines: coded.scan.high > 0,
        empty_blocks: 0,
    };
    let (columns, rows) = jpeg.blocks(selected.component);
    coded.each_mcu(all_of(columns, rows), &mut scan)
}

struct FrequencyScan<'a> {
    coefficients: &'a mut Coefficients,
    table: &'a Table,
    first: usize,
    last: usize,
    low: u32,
    refines: bool,
    /// Blocks to come, this one included, in which nothing new begins.
    empty_blocks: u32,
}

impl Mcus for FrequencyScan<'_> {
    fn restart(&mut self) {
        self.empty_blocks = 0;
    }

    fn read(&mut self, bits: &mut Bits<'_>, column: usize, row: usize) -> Option<()> {
        match self.refines {
            true => self.refine(bits, column, row),
            false => self.begin(bits, column, row),
        }
    }
}

impl FrequencyScan<'_> {
    /// The first bits of a block's frequencies.
    fn begin(&mut self, bits: &mut Bits<'_>, column: usize, row: usize) -> Option<()> {
        if self.empty_blocks > 0 {
            self.empty_blocks -= 1;
            return Some(());
        }
        let block = &mut self.coefficients.blocks[row * self.coefficients.columns + column];
        let mut k = self.first;
        while k <= self.last {
            bits.ensure();
            let (run, value) = self.table.next(bits)?;
            if value == 0 && run < 15 {
                self.empty_blocks = run_of_blocks(bits, run) - 1;
                break;
            }
            k += usize::from(run);
            if value != 0 {
                if k > self.last {
                    return None;
                }
                block[usize::from(ZIGZAG[k & 63])] = (value << self.low) as i16;
            }
            k += 1;
        }
        Some(())
    }

    /// One more bit of each frequency.
    fn refine(&mut self, bits: &mut Bits<'_>, column: usize, row: usize) -> Option<()> {
        let block = &mut self.coefficients.blocks[row * self.coefficients.columns + column];
        let mut k = self.first;
        while self.empty_blocks == 0 && k <= self.last {
            bits.ensure();
            let (mut zeros, value) = self.table.next(bits)?;
            if value == 0 && zeros < 15 {
                self.empty_blocks = run_of_blocks(bits, zeros);
                break;
            }
            if value.abs() > 1 {
                return None;
            }
            // Over coefficients that are there already, and over as many zeros as the run says.
            while k <= self.last {
                let coefficient = &mut block[usize::from(ZIGZAG[k & 63])];
                if *coefficient != 0 {
                    correct(bits, coefficient, self.low);
                } else if zeros == 0 {
                    break;
                } else {
                    zeros -= 1;
                }
                k += 1;
            }
            if value != 0 {
                if k > self.last {
                    return None;
                }
                block[usize::from(ZIGZAG[k & 63])] = (value << self.low) as i16;
            }
            k += 1;
        }
        if self.empty_blocks > 0 {
            for k in k..=self.last {
                let coefficient = &mut block[usize::from(ZIGZAG[k & 63])];
                if *coefficient != 0 {
                    correct(bits, coefficient, self.low);
                }
            }
            self.empty_blocks -= 1;
        }
        Some(())
    }
}

/// How many blocks, this one included, a symbol ends.
fn run_of_blocks(bits: &mut Bits<'_>, exponent: u8) -> u32 {
    bits.ensure();
    (1 << exponent) + bits.number(exponent.into())
}

/// The next bit of a coefficient that isn't zero.
fn correct(bits: &mut Bits<'_>, coefficient: &mut i16, low: u32) {
    let bit = 1i16 << low;
    if bits.bit() && *coefficient & bit == 0 {
        *coefficient = coefficient.wrapping_add(coefficient.signum() * bit);
    }
}

impl Coefficients {
    fn plane(
        &self,
        jpeg: &Jpeg<'_>,
        index: usize,
        shrink: Shrink,
        needed: &Needed,
    ) -> Result<Plane, Fault> {
        let transform = Transform::new(&self.quantization, jpeg.side(index, shrink));
        let mut plane = jpeg.plane(index, shrink, needed)?;
        let side = transform.side;
        let needed = jpeg.needed_blocks(index, needed);
        for (y, row) in needed.rows.enumerate() {
            let blocks = &self.blocks[row * self.columns..][needed.columns.clone()];
            for (x, block) in blocks.iter().enumerate() {
                let has_frequencies = block[1..].iter().any(|&value| value != 0);
                let last = if has_frequencies { 63 } else { 0 };
                let out = &mut plane.samples[y * side * plane.stride + x * side..];
                transform.write(block, last, out, plane.stride);
            }
        }
        Ok(plane)
    }
}
