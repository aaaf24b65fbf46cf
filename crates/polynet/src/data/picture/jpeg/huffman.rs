//! Huffman codes of a scan, and the bits they are read from.

/// Bits that are looked up at once. Most coefficients, with their code and their value, fit.
const LOOKUP_BITS: u32 = 11;

/// The most bits a value has (of 8-bit samples).
const LARGEST_SIZE: u32 = 11;

/// The bits of a scan without stuffed zeros.
#[derive(Clone, Copy)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    position: usize,
    /// The next bits, from the top; below the `count` valid ones may lie some of those to come.
    buffer: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            position: 0,
            buffer: 0,
            count: 0,
        }
    }

    /// Makes at least 56 bits ready; beyond the end they are zeros.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        let next = match self
            .bytes
            .get(self.position..)
            .map(<[u8]>::first_chunk::<8>)
        {
            Some(Some(bytes)) => u64::from_be_bytes(*bytes),
            Some(None) => self.last_bytes(),
            None => 0,
        };
        self.buffer |= next >> self.count;
        self.position += ((63 - self.count) >> 3) as usize;
        self.count |= 56;
    }

    #[cold]
    fn last_bytes(&self) -> u64 {
        let mut last = [0; 8];
        let rest = &self.bytes[self.position..];
        last[..rest.len()].copy_from_slice(rest);
        u64::from_be_bytes(last)
    }

    #[inline(always)]
    fn top(&self, count: u32) -> u32 {
        ((self.buffer >> 32) as u32) >> (32 - count)
    }

    #[inline(always)]
    fn consume(&mut self, count: u32) {
        self.buffer <<= count;
        self.count -= count;
    }

    /// The signed value that `size` bits (1 to 16) mean.
    #[inline(always)]
    fn value(&mut self, size: u32) -> i32 {
        let bits = self.top(size) as i32;
        self.consume(size);
        extended(bits, size)
    }

    /// Makes at least 27 bits ready: a code and its value.
    #[inline(always)]
    pub(super) fn ensure(&mut self) {
        if self.count < 27 {
            self.refill();
        }
    }

    /// A number of `count` bits (0 to 16) that are ready.
    #[inline(always)]
    pub(super) fn number(&mut self, count: u32) -> u32 {
        let bits = ((self.buffer >> 32) >> (32 - count)) as u32;
        self.consume(count);
        bits
    }

    /// The next bit, ready or not.
    #[inline(always)]
    pub(super) fn bit(&mut self) -> bool {
        if self.count == 0 {
            self.refill();
        }
        self.number(1) == 1
    }

    /// Whether more was read than there is.
    pub(super) fn ran_out(&self) -> bool {
        8 * self.position > 8 * self.bytes.len() + self.count as usize
    }
}

/// Values with a leading zero bit are the negative ones.
#[inline(always)]
fn extended(bits: i32, size: u32) -> i32 {
    if bits < 1 << (size - 1) {
        bits - (1 << size) + 1
    } else {
        bits
    }
}

/// What the next bits begin with.
#[derive(Clone, Copy, Default)]
struct Entry {
    /// A coefficient whose bits were all looked up, or 0.
    value: i16,
    /// Run and size of the symbol.
    symbol: u8,
    /// Bits that this takes; 0 for codes longer than the table.
    length: u8,
}

/// A Huffman table.
#[derive(Clone)]
pub(super) struct Table {
    entries: Box<[Entry; 1 << LOOKUP_BITS]>,
    symbols: Vec<u8>,
    /// For each length the first code beyond it, in 16 bits, and what to add to a code of that
    /// length to find its symbol.
    limits: [u32; 17],
    offsets: [i32; 17],
}

impl Table {
    /// A table of `counts[i]` codes of `i + 1` bits. Nothing if there are more than fit.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut table = Self {
            entries: Box::new([Entry::default(); 1 << LOOKUP_BITS]),
            symbols: symbols.to_vec(),
            limits: [0; 17],
            offsets: [0; 17],
        };
        let (mut code, mut index) = (0u32, 0usize);
        for length in 1..=16u32 {
            let count = usize::from(counts[length as usize - 1]);
            table.offsets[length as usize] = index as i32 - code as i32;
            for &symbol in symbols.get(index..index + count)? {
                table.enter(code, length, symbol);
                code += 1;
            }
            index += count;
            if code > 1 << length {
                return None;
            }
            table.limits[length as usize] = code << (16 - length);
            code <<= 1;
        }
        Some(table)
    }

    fn enter(&mut self, code: u32, length: u32, symbol: u8) {
        if length > LOOKUP_BITS {
            return;
        }
        let free = LOOKUP_BITS - length;
        let size = u32::from(symbol & 15);
        for rest in 0..1u32 << free {
            let Some(entry) = self.entries.get_mut(((code << free) | rest) as usize) else {
                return;
            };
            *entry = Entry {
                value: 0,
                symbol,
                length: length as u8,
            };
            if size > 0 && size <= free {
                let bits = (rest >> (free - size)) as i32;
                entry.value = extended(bits, size) as i16;
                entry.length = (length + size) as u8;
            }
        }
    }

    #[cold]
    fn long_code(&self, bits: &mut Bits<'_>) -> Option<u8> {
        let next = bits.top(16);
        let length = (1..=16).find(|&length| next < self.limits[length])?;
        let index = (next >> (16 - length)) as i32 + self.offsets[length];
        bits.consume(length as u32);
        self.symbols.get(usize::try_from(index).ok()?).copied()
    }

    /// Run of zeros, value (0 if the symbol has none). Takes at most 16 + 11 bits, so that two
    /// may follow a refill. Nothing for codes that don't exist.
    #[inline(always)]
    pub(super) fn next(&self, bits: &mut Bits<'_>) -> Option<(u8, i32)> {
        let entry = self.entries[bits.top(LOOKUP_BITS) as usize];
        if entry.value != 0 {
            bits.consume(u32::from(entry.length));
            return Some((entry.symbol >> 4, i32::from(entry.value)));
        }
        let symbol = if entry.length > 0 {
            bits.consume(u32::from(entry.length));
            entry.symbol
        } else {
            self.long_code(bits)?
        };
        let value = match u32::from(symbol & 15) {
            0 => 0,
            size @ 1..=LARGEST_SIZE => bits.value(size),
            _ => return None,
        };
        Some((symbol >> 4, value))
    }
}

/// Reads a block: calls `coefficient` with position in zigzag order and value for each that is
/// not zero. `previous` is the last constant coefficient of the component. Gives the position of
/// the last coefficient, or nothing for codes that don't exist.
#[inline(always)]
pub(super) fn read_block(
    source: &mut Bits<'_>,
    constant: &Table,
    varying: &Table,
    previous: &mut i32,
    mut coefficient: impl FnMut(usize, i32),
) -> Option<usize> {
    // A copy stays in registers.
    let mut copy = *source;
    let bits = &mut copy;
    bits.refill();
    let (_, difference) = constant.next(bits)?;
    *previous = previous.wrapping_add(difference);
    coefficient(0, *previous);
    let (mut last, mut position) = (0, 1);
    bits.refill();
    'block: loop {
        for _ in 0..2 {
            let (run, value) = varying.next(bits)?;
            position += usize::from(run);
            if value == 0 {
                if run != 15 {
                    break 'block;
                }
            } else {
                if position > 63 {
                    return None;
                }
                coefficient(position, value);
                last = position;
            }
            position += 1;
            if position > 63 {
                break 'block;
            }
        }
        bits.refill();
    }
    *source = copy;
    Some(last)
}
