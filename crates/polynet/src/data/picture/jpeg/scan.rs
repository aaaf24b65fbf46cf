//! The scans of a file, one after the other, and the MCUs of a scan.

use std::borrow::Cow;

use super::{
    Fault, Jpeg,
    header::{Scan, Tables, next_segment},
    huffman::Bits,
};

/// The most scans of a file. Programs write up to a few dozen; each costs time for all blocks.
const MAX_SCANS: usize = 200;

/// What a scan is read with.
pub(super) struct Coded<'a> {
    pub(super) scan: Scan,
    pub(super) tables: &'a Tables,
    segments: Segments,
}

/// What is done with the MCUs of a scan.
pub(super) trait Mcus {
    /// Forgets what the last ones left behind.
    fn restart(&mut self);

    /// Reads one; nothing for codes that don't exist.
    fn read(&mut self, bits: &mut Bits<'_>, column: usize, row: usize) -> Option<()>;
}

/// How many MCUs a scan has, and how many rows of them are read.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    pub(super) columns: usize,
    pub(super) rows: usize,
    /// At most `rows`.
    pub(super) rows_read: usize,
}

impl Jpeg<'_> {
    /// Calls `visit` for each scan of the file, up to its end.
    pub(super) fn each_scan(
        &self,
        mut visit: impl FnMut(&Coded<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut tables = Cow::Borrowed(&self.tables);
        let mut rest = self.first_scan;
        for _ in 0..MAX_SCANS {
            let length = rest.first_chunk().ok_or(Fault::EndsEarly)?;
            let length = usize::from(u16::from_be_bytes(*length));
            let header = rest.get(2..length).ok_or(Fault::EndsEarly)?;
            rest = &rest[length..];
            let coded = Coded {
                scan: self.scan(header)?,
                segments: Segments::take(&mut rest)?,
                tables: &tables,
            };
            visit(&coded)?;
            loop {
                match next_segment(&mut rest)? {
                    (0xD9, _) => return Ok(()),
                    (0xDA, _) => break,
                    (code, segment) => tables.to_mut().read(code, segment)?,
                }
            }
        }
        Err(Fault::Unsupported("more than 200 scans"))
    }
}

impl Coded<'_> {
    /// Refuses a scan that can't hold as many blocks, before there is memory for them.
    pub(super) fn expect_blocks(&self, blocks: usize, bits_each: usize) -> Result<(), Fault> {
        match blocks.saturating_mul(bits_each) <= 8 * self.segments.bytes.len() {
            true => Ok(()),
            false => Err(Fault::EndsEarly),
        }
    }

    /// Reads the MCUs in order.
    pub(super) fn each_mcu(&self, extent: Extent, mcus: &mut impl Mcus) -> Result<(), Fault> {
        let interval = self.tables.restart_interval;
        let mut segments = self.segments.iter();
        let mut bits = Bits::new(segments.next().ok_or(Fault::EndsEarly)?.1);
        let mut until_restart = interval;
        let mut restarts = 0;
        for row in 0..extent.rows_read {
            for column in 0..extent.columns {
                if interval > 0 {
                    if until_restart == 0 {
                        let (marker, segment) = segments.next().ok_or(Fault::EndsEarly)?;
                        if bits.ran_out() || marker != Some(restarts % 8) {
                            return Err(Fault::Damaged("a part between restarts is missing"));
                        }
                        restarts = (restarts + 1) % 8;
                        bits = Bits::new(segment);
                        until_restart = interval;
                        mcus.restart();
                    }
                    until_restart -= 1;
                }
                let read = mcus.read(&mut bits, column, row);
                read.ok_or(Fault::Damaged("it has codes that don't exist"))?;
            }
            if bits.ran_out() {
                return Err(Fault::EndsEarly);
            }
        }
        Ok(())
    }
}

/// The coded data between restart markers, without stuffed zeros.
struct Segments {
    bytes: Vec<u8>,
    /// Where each ends, and the number of the restart marker before it.
    ends: Vec<(Option<u8>, usize)>,
}

impl Segments {
    /// Takes everything up to the next marker that is no restart.
    fn take(rest: &mut &[u8]) -> Result<Self, Fault> {
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(rest.len())
            .map_err(|_| Fault::Memory)?;
        let mut ends = Vec::new();
        let mut begun = None;
        loop {
            let plain = rest.iter().position(|&byte| byte == 0xFF);
            let plain = plain.ok_or(Fault::EndsEarly)?;
            bytes.extend_from_slice(&rest[..plain]);
            let marker = &rest[plain..];
            match marker.get(1).ok_or(Fault::EndsEarly)? {
                0x00 => {
                    bytes.push(0xFF);
                    *rest = &marker[2..];
                }
                0xFF => *rest = &marker[1..], // fill before a marker
                code @ 0xD0..=0xD7 => {
                    ends.push((begun, bytes.len()));
                    begun = Some(code - 0xD0);
                    *rest = &marker[2..];
                }
                _ => {
                    ends.push((begun, bytes.len()));
                    *rest = marker;
                    return Ok(Self { bytes, ends });
                }
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = (Option<u8>, &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        starts
            .zip(&self.ends)
            .map(|(start, &(marker, end))| (marker, &self.bytes[start..end]))
    }
}
