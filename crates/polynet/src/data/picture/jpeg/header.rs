//! What comes before a scan: sizes, components, tables.

use image::metadata::Orientation;

use super::huffman::Table;

/// A JPEG of one scan, as most photographs are: sequential, Huffman-coded, 8 bits, grey or
/// YCbCr. Everything else is none of ours.
pub(in crate::data) struct Jpeg<'a> {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) components: Vec<Component>,
    pub(super) quantization: [Option<Box<[u16; 64]>>; 4],
    pub(super) constant: [Option<Table>; 4],
    pub(super) varying: [Option<Table>; 4],
    /// MCUs between two restarts, or 0.
    pub(super) restart_interval: usize,
    /// What the camera wrote, as TIFF.
    exif: Option<&'a [u8]>,
    /// Everything after the header of the scan.
    pub(super) scan: &'a [u8],
}

/// A colour channel.
#[derive(Default)]
pub(super) struct Component {
    id: u8,
    /// Blocks of an MCU, horizontally and vertically.
    pub(super) horizontal: usize,
    pub(super) vertical: usize,
    /// Which tables it uses.
    pub(super) quantization: usize,
    pub(super) constant: usize,
    pub(super) varying: usize,
}

impl<'a> Jpeg<'a> {
    /// Reads everything up to the scan. Nothing if the file is damaged or of a kind that isn't
    /// read here.
    pub(in crate::data) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut jpeg = Self {
            width: 0,
            height: 0,
            components: Vec::new(),
            quantization: Default::default(),
            constant: Default::default(),
            varying: Default::default(),
            restart_interval: 0,
            exif: None,
            scan: &[],
        };
        let mut rest = bytes.strip_prefix(&[0xFF, 0xD8])?;
        loop {
            let [0xFF, code, after @ ..] = rest else {
                return None;
            };
            if *code == 0xFF {
                rest = &rest[1..]; // a marker may be preceded by any number of these
                continue;
            }
            let length = usize::from(u16::from_be_bytes(*after.first_chunk()?));
            let segment = after.get(2..length)?;
            rest = &after[length..];
            match code {
                0xC0 | 0xC1 => jpeg.frame(segment)?,
                0xC4 => jpeg.huffman_tables(segment)?,
                0xDB => jpeg.quantization_tables(segment)?,
                0xDD => jpeg.restart_interval = u16::from_be_bytes(*segment.first_chunk()?).into(),
                0xDA => {
                    jpeg.scan_header(segment)?;
                    jpeg.scan = rest;
                    return Some(jpeg);
                }
                // Adobe's marker with transform 0: the channels are red, green and blue.
                0xEE if segment.starts_with(b"Adobe") && segment.get(11) == Some(&0) => {
                    return None;
                }
                0xE1 if jpeg.exif.is_none() => jpeg.exif = segment.strip_prefix(b"Exif\0\0"),
                // Comments and what applications leave.
                0xE0..=0xEF | 0xFE => {}
                _ => return None,
            }
        }
    }

    /// How the picture is to be turned to be seen upright.
    pub(in crate::data) fn orientation(&self) -> Orientation {
        let stated = self.exif.and_then(Orientation::from_exif_chunk);
        stated.unwrap_or(Orientation::NoTransforms)
    }

    fn frame(&mut self, segment: &[u8]) -> Option<()> {
        let [8, h1, h2, w1, w2, count @ (1 | 3), components @ ..] = segment else {
            return None;
        };
        if !self.components.is_empty() || components.len() < 3 * usize::from(*count) {
            return None;
        }
        self.height = u16::from_be_bytes([*h1, *h2]).into();
        self.width = u16::from_be_bytes([*w1, *w2]).into();
        for component in components.chunks_exact(3).take((*count).into()) {
            self.components.push(Component {
                id: component[0],
                horizontal: usize::from(component[1] >> 4),
                vertical: usize::from(component[1] & 15),
                quantization: usize::from(component[2]),
                ..Component::default()
            });
        }
        if *count == 1 {
            // Blocks of a single component are not interleaved, whatever it says.
            (self.components[0].horizontal, self.components[0].vertical) = (1, 1);
        }
        let ids: Vec<u8> = self.components.iter().map(|c| c.id).collect();
        let is_rgb = ids == *b"RGB";
        (self.width > 0 && self.height > 0 && !is_rgb && self.sampling_is_usual()).then_some(())
    }

    /// Chroma as large as luma, or half as wide, or half as large in both directions.
    fn sampling_is_usual(&self) -> bool {
        match self.components.as_slice() {
            [luma, chroma @ ..] => {
                let usual = |c: &Component| (c.horizontal, c.vertical) == (1, 1);
                matches!((luma.horizontal, luma.vertical), (1, 1) | (2, 1 | 2))
                    && chroma.iter().all(usual)
            }
            [] => false,
        }
    }

    fn huffman_tables(&mut self, mut segment: &[u8]) -> Option<()> {
        while let [selector, after @ ..] = segment {
            let (counts, after) = after.split_first_chunk::<16>()?;
            let total = counts.iter().map(|&count| usize::from(count)).sum();
            let (symbols, after) = after.split_at_checked(total)?;
            let tables = match selector >> 4 {
                0 => &mut self.constant,
                1 => &mut self.varying,
                _ => return None,
            };
            *tables.get_mut(usize::from(selector & 15))? = Some(Table::new(counts, symbols)?);
            segment = after;
        }
        Some(())
    }

    fn quantization_tables(&mut self, mut segment: &[u8]) -> Option<()> {
        while let [selector, after @ ..] = segment {
            let (wide, size) = (selector >> 4 == 1, 64 << (selector >> 4).min(1));
            let (values, after) = after.split_at_checked(size)?;
            let table = std::array::from_fn(|k| match wide {
                true => u16::from_be_bytes([values[2 * k], values[2 * k + 1]]),
                false => values[k].into(),
            });
            *self.quantization.get_mut(usize::from(selector & 15))? = Some(Box::new(table));
            segment = after;
        }
        Some(())
    }

    /// All components must be in the one scan, in order.
    fn scan_header(&mut self, segment: &[u8]) -> Option<()> {
        let count = self.components.len();
        let (&stated, selectors) = segment.split_first()?;
        if usize::from(stated) != count || count == 0 || selectors.len() < 2 * count {
            return None;
        }
        for (component, selector) in self.components.iter_mut().zip(selectors.chunks_exact(2)) {
            if component.id != selector[0] {
                return None;
            }
            component.constant = usize::from(selector[1] >> 4);
            component.varying = usize::from(selector[1] & 15);
        }
        Some(())
    }
}
