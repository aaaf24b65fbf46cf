//! What comes before and between scans: sizes, components, colours, tables.

use image::metadata::Orientation;

use super::{Fault, huffman::Table};
use crate::data::picture::orient;

/// A JPEG up to its first scan: Huffman-coded, 8 bits, grey, YCbCr, RGB, CMYK or YCCK, in any
/// number of scans. Everything else is refused by name.
pub(in crate::data) struct Jpeg<'a> {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) process: Process,
    pub(super) colours: Colours,
    pub(super) components: Vec<Component>,
    /// The most blocks of an MCU that a component has, horizontally and vertically.
    pub(super) most: (usize, usize),
    /// As they are before the first scan.
    pub(super) tables: Tables,
    /// What the camera wrote, as TIFF.
    exif: Option<&'a [u8]>,
    /// The first scan's header and everything after it.
    pub(super) first_scan: &'a [u8],
}

/// How coefficients are spread over scans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Process {
    /// Each block in one piece.
    Sequential,
    /// Frequencies and bits in any number of scans.
    Progressive,
}

/// What the components are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colours {
    Grey,
    YCbCr,
    Rgb,
    /// Ink, as shares of its absence (Adobe's way, which is everyone's).
    Cmyk,
    /// The same, the first three as YCbCr.
    Ycck,
}

/// A colour channel.
pub(super) struct Component {
    id: u8,
    /// Blocks of an MCU, horizontally and vertically.
    pub(super) horizontal: usize,
    pub(super) vertical: usize,
    /// Which table it is quantized by.
    pub(super) quantization: usize,
}

/// Tables, which may change between scans.
#[derive(Clone, Default)]
pub(super) struct Tables {
    pub(super) quantization: [Option<Box<[u16; 64]>>; 4],
    pub(super) constant: [Option<Table>; 4],
    pub(super) varying: [Option<Table>; 4],
    /// MCUs between two restarts, or 0.
    pub(super) restart_interval: usize,
}

/// What a scan holds.
pub(super) struct Scan {
    pub(super) components: Vec<Selected>,
    /// The first and the last frequency, in zigzag order.
    pub(super) first: usize,
    pub(super) last: usize,
    /// The lowest bit that the scans before had, or 0 if there were none.
    pub(super) high: u32,
    /// The lowest bit of this one.
    pub(super) low: u32,
}

/// A component of a scan and the tables that code it.
#[derive(Clone, Copy)]
pub(super) struct Selected {
    pub(super) component: usize,
    pub(super) constant: usize,
    pub(super) varying: usize,
}

/// What applications have written, by which libjpeg tells the colours.
#[derive(Default)]
struct Signs {
    jfif: bool,
    /// The transform of Adobe's marker.
    adobe: Option<u8>,
}

impl<'a> Jpeg<'a> {
    /// Reads everything up to the first scan.
    pub(in crate::data) fn parse(bytes: &'a [u8]) -> Result<Self, Fault> {
        let mut rest = bytes.strip_prefix(&[0xFF, 0xD8]).ok_or(Fault::NoJpeg)?;
        let mut signs = Signs::default();
        let mut tables = Tables::default();
        let (mut exif, mut frame) = (None, None);
        loop {
            let (code, segment) = next_segment(&mut rest)?;
            match code {
                0xC0..=0xC2 => {
                    if frame.replace((code, segment)).is_some() {
                        return Err(Fault::Damaged("it has two frames"));
                    }
                }
                0xDA => break,
                0xD9 => return Err(Fault::Damaged("it has no picture")),
                0xE0 => signs.jfif |= segment.len() >= 14 && segment.starts_with(b"JFIF\0"),
                0xE1 if exif.is_none() => exif = segment.strip_prefix(b"Exif\0\0"),
                0xEE if segment.len() >= 12 && segment.starts_with(b"Adobe") => {
                    signs.adobe = Some(segment[11]);
                }
                _ => tables.read(code, segment)?,
            }
        }
        let (code, segment) = frame.ok_or(Fault::Damaged("it has no frame"))?;
        let process = match code {
            0xC2 => Process::Progressive,
            _ => Process::Sequential,
        };
        let mut jpeg = Self {
            width: 0,
            height: 0,
            process,
            colours: Colours::Grey,
            components: Vec::new(),
            most: (1, 1),
            tables,
            exif,
            first_scan: rest,
        };
        jpeg.frame(segment, &signs)?;
        Ok(jpeg)
    }

    /// How the picture is to be turned to be seen upright.
    pub(in crate::data) fn orientation(&self) -> Orientation {
        let stated = self.exif.and_then(orient::stated);
        stated.unwrap_or(Orientation::NoTransforms)
    }

    fn frame(&mut self, segment: &[u8], signs: &Signs) -> Result<(), Fault> {
        let &[bits, h1, h2, w1, w2, count, ref components @ ..] = segment else {
            return Err(CUT);
        };
        if bits != 8 {
            return Err(Fault::Unsupported("12 bits a sample"));
        }
        self.height = u16::from_be_bytes([h1, h2]).into();
        self.width = u16::from_be_bytes([w1, w2]).into();
        if self.height == 0 {
            return Err(Fault::Unsupported("a height that comes after the picture"));
        }
        if self.width == 0 || components.len() < 3 * usize::from(count) {
            return Err(Fault::Damaged("its frame has no size"));
        }
        for component in components.as_chunks::<3>().0.iter().take(count.into()) {
            let [id, factors, quantization] = *component;
            let (horizontal, vertical) = (usize::from(factors >> 4), usize::from(factors & 15));
            if !(1..=4).contains(&horizontal) || !(1..=4).contains(&vertical) || quantization > 3 {
                return Err(Fault::Damaged(
                    "its frame has sampling factors that can't be",
                ));
            }
            self.most = (self.most.0.max(horizontal), self.most.1.max(vertical));
            self.components.push(Component {
                id,
                horizontal,
                vertical,
                quantization: quantization.into(),
            });
        }
        if self.components.len() == 1 {
            // Blocks of a single component are not interleaved, whatever it says.
            (self.components[0].horizontal, self.components[0].vertical) = (1, 1);
            self.most = (1, 1);
        }
        let most = self.most;
        let divides = |c: &Component| {
            most.0.is_multiple_of(c.horizontal) && most.1.is_multiple_of(c.vertical)
        };
        if !self.components.iter().all(divides) {
            return Err(Fault::Unsupported("sampling factors that divide no other"));
        }
        self.colours = colours(&self.components, signs)?;
        Ok(())
    }

    /// Which of the frame's components are in a scan, and which part of their coefficients.
    pub(super) fn scan(&self, segment: &[u8]) -> Result<Scan, Fault> {
        let (&count, rest) = segment.split_first().ok_or(CUT)?;
        let (selectors, rest) = (rest.split_at_checked(2 * usize::from(count))).ok_or(CUT)?;
        let &[first, last, bits, ..] = rest else {
            return Err(CUT);
        };
        let select = |&[id, tables]: &[u8; 2]| {
            let component = self.components.iter().position(|c| c.id == id);
            Some(Selected {
                component: component?,
                constant: usize::from(tables >> 4),
                varying: usize::from(tables & 15),
            })
        };
        let components: Option<Vec<_>> = selectors.as_chunks().0.iter().map(select).collect();
        let components = components.ok_or(Fault::Damaged("a scan has an unknown component"))?;
        let ascends = components.is_sorted_by(|a, b| a.component < b.component);
        if components.is_empty() || !ascends {
            return Err(Fault::Damaged("the components of a scan are out of order"));
        }
        let scan = Scan {
            components,
            first: first.into(),
            last: last.into(),
            high: u32::from(bits >> 4),
            low: u32::from(bits & 15),
        };
        match self.process {
            Process::Sequential => Ok(scan),
            Process::Progressive if scan.is_progression() => Ok(scan),
            Process::Progressive => Err(Fault::Damaged("a scan has a range that can't be")),
        }
    }
}

impl Scan {
    fn is_progression(&self) -> bool {
        let frequencies = match self.first {
            0 => self.last == 0,
            _ => self.first <= self.last && self.last < 64 && self.components.len() == 1,
        };
        frequencies && self.low <= 13 && (self.high == 0 || self.high == self.low + 1)
    }
}

impl Tables {
    /// Takes over what a segment says that may also stand between scans.
    pub(super) fn read(&mut self, code: u8, segment: &[u8]) -> Result<(), Fault> {
        match code {
            0xC4 => self.huffman(segment),
            0xDB => self.quantization(segment),
            0xDD => {
                let interval = segment.first_chunk().ok_or(CUT)?;
                self.restart_interval = u16::from_be_bytes(*interval).into();
                Ok(())
            }
            // What applications leave, and comments.
            0xE0..=0xEF | 0xFE => Ok(()),
            0xC3 | 0xCB => Err(Fault::Unsupported("lossless coding")),
            0xC9 | 0xCA | 0xCC => Err(Fault::Unsupported("arithmetic coding")),
            0xC5..=0xC7 | 0xCD..=0xCF | 0xDE | 0xDF => {
                Err(Fault::Unsupported("hierarchical coding"))
            }
            0xDC => Err(Fault::Unsupported("a height that comes after the picture")),
            _ => Err(Fault::Damaged("it has an unknown marker")),
        }
    }

    fn huffman(&mut self, mut segment: &[u8]) -> Result<(), Fault> {
        while let [selector, after @ ..] = segment {
            let (counts, after) = after.split_first_chunk::<16>().ok_or(CUT)?;
            let total = counts.iter().map(|&count| usize::from(count)).sum();
            let (symbols, after) = after.split_at_checked(total).ok_or(CUT)?;
            let tables = match selector >> 4 {
                0 => &mut self.constant,
                _ => &mut self.varying,
            };
            let to = tables.get_mut(usize::from(selector & 15));
            let table = Table::new(counts, symbols);
            let (Some(to), Some(table), 0 | 1) = (to, table, selector >> 4) else {
                return Err(Fault::Damaged("it has a Huffman table that can't be"));
            };
            *to = Some(table);
            segment = after;
        }
        Ok(())
    }

    fn quantization(&mut self, mut segment: &[u8]) -> Result<(), Fault> {
        while let [selector, after @ ..] = segment {
            let (wide, size) = (selector >> 4 == 1, 64 << (selector >> 4).min(1));
            let (values, after) = after.split_at_checked(size).ok_or(CUT)?;
            let table = std::array::from_fn(|k| match wide {
                true => u16::from_be_bytes([values[2 * k], values[2 * k + 1]]),
                false => values[k].into(),
            });
            let to = self.quantization.get_mut(usize::from(selector & 15));
            *to.ok_or(Fault::Damaged("it has a quantization table too many"))? =
                Some(Box::new(table));
            segment = after;
        }
        Ok(())
    }
}

/// A segment that ends before what it says.
const CUT: Fault = Fault::Damaged("one of its segments is too short");

/// Takes the next marker that has a segment, and the segment. Bytes before a marker that belong to
/// nothing are passed by, as libjpeg does.
pub(super) fn next_segment<'a>(rest: &mut &'a [u8]) -> Result<(u8, &'a [u8]), Fault> {
    loop {
        let marker = rest.iter().position(|&byte| byte == 0xFF);
        let after = &rest[marker.ok_or(Fault::EndsEarly)?..];
        let fill = after.iter().position(|&byte| byte != 0xFF);
        let after = &after[fill.ok_or(Fault::EndsEarly)?..];
        let (code, after) = (after[0], &after[1..]);
        *rest = after;
        match code {
            0x00 | 0x01 | 0xD0..=0xD7 => {} // no markers, or markers without a segment
            0xD8 => return Err(Fault::Damaged("a second picture begins inside it")),
            0xD9 => return Ok((code, &[])),
            _ => {
                let length = after.first_chunk().ok_or(Fault::EndsEarly)?;
                let length = usize::from(u16::from_be_bytes(*length));
                if length < 2 {
                    return Err(CUT);
                }
                let segment = after.get(2..length).ok_or(Fault::EndsEarly)?;
                // The header of a scan stays, for whoever reads the scan.
                *rest = if code == 0xDA {
                    after
                } else {
                    &after[length..]
                };
                return Ok((code, segment));
            }
        }
    }
}

/// What libjpeg takes the components for.
fn colours(components: &[Component], signs: &Signs) -> Result<Colours, Fault> {
    let ids: Vec<u8> = components.iter().map(|c| c.id).collect();
    match (components.len(), signs.adobe) {
        (1, _) => Ok(Colours::Grey),
        (3, _) if signs.jfif => Ok(Colours::YCbCr),
        (3, Some(0)) => Ok(Colours::Rgb),
        (3, None) if ids == *b"RGB" => Ok(Colours::Rgb),
        (3, _) => Ok(Colours::YCbCr),
        (4, None | Some(0)) => Ok(Colours::Cmyk),
        (4, _) => Ok(Colours::Ycck),
        _ => Err(Fault::Unsupported("neither 1 nor 3 nor 4 colour channels")),
    }
}
