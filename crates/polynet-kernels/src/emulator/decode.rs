//! Instructions of tiles from their bytes: the prefix VEX of three bytes, an opcode, a mode byte, and for an address
//! a byte of scale, index and base and a displacement.

use crate::amx::Factors;

/// An instruction of tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instruction {
    /// Takes the configuration at a place.
    Configure(Address),
    Release,
    Zero(usize),
    Load {
        to: usize,
        from: Address,
    },
    Store {
        from: usize,
        to: Address,
    },
    /// Products of two tiles are added to a third.
    AddProducts {
        of: Factors,
        to: usize,
        factors: [usize; 2],
    },
}

/// A place in memory by the registers of a thread. As the start of rows, `stride` is what the index is scaled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) base: Option<usize>,
    pub(super) index: Option<usize>,
    pub(super) scale: u8,
    pub(super) displacement: i32,
}

/// What [`decode`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decoded {
    pub(super) instruction: Instruction,
    /// Bytes.
    pub(super) length: usize,
}

/// The compulsory prefix that VEX stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Prefix {
    None,
    X66,
    Xf3,
    Xf2,
}

/// The instruction at the beginning of some bytes, of which `at` gives one; none if it is not one of tiles.
pub(super) fn decode(at: impl Fn(usize) -> u8) -> Option<Decoded> {
    // Bits of registers are inverted: R, X and B, then the map of opcodes.
    let [vex, second, third, opcode, mode] = [0, 1, 2, 3, 4].map(&at);
    let is_wide_or_long = third & 0x84 != 0;
    if vex != 0xc4 || second & 0x1f != 2 || is_wide_or_long {
        return None;
    }
    let is_high = |bit: u8| usize::from(second & bit == 0) * 8;
    let [register_high, index_high, base_high] = [0x80, 0x40, 0x20].map(is_high);
    let prefix = [Prefix::None, Prefix::X66, Prefix::Xf3, Prefix::Xf2][usize::from(third & 3)];
    let vector = usize::from(!third >> 3 & 15);
    let register = usize::from(mode >> 3 & 7) + register_high;
    let of_registers = mode >> 6 == 3;
    let last = usize::from(mode & 7) + base_high;
    let tiles = |tiles: &[usize]| tiles.iter().all(|&tile| tile < 8);
    let address = || address(&at, [index_high, base_high]);
    let of_memory = |make: &dyn Fn(Address) -> Instruction, needs_rows: bool| {
        let (address, length) = address()?;
        let is_right = !needs_rows || mode & 7 == 4;
        is_right.then(|| (make(address), length))
    };
    let (instruction, length) = match (opcode, prefix, of_registers) {
        (0x49, Prefix::None, false) if register == 0 && vector == 0 => {
            of_memory(&Instruction::Configure, false)?
        }
        (0x49, Prefix::None, true) if mode == 0xc0 && vector == 0 => (Instruction::Release, 5),
        (0x49, Prefix::Xf2, true) if last == 0 && vector == 0 && tiles(&[register]) => {
            (Instruction::Zero(register), 5)
        }
        // The second of these only hints at where the rows are kept.
        (0x4b, Prefix::Xf2 | Prefix::X66, false) if vector == 0 && tiles(&[register]) => {
            let load = |from| Instruction::Load { to: register, from };
            of_memory(&load, true)?
        }
        (0x4b, Prefix::Xf3, false) if vector == 0 && tiles(&[register]) => {
            let store = |to| Instruction::Store { from: register, to };
            of_memory(&store, true)?
        }
        (0x5c, Prefix::Xf3, true) | (0x5e, Prefix::X66, true)
            if tiles(&[register, last, vector]) =>
        {
            let of = match opcode {
                0x5c => Factors::Bf16,
                _ => Factors::Bytes,
            };
            let factors = [last, vector];
            let are_distinct = register != last && register != vector && last != vector;
            are_distinct.then_some((
                Instruction::AddProducts {
                    of,
                    to: register,
                    factors,
                },
                5,
            ))?
        }
        _ => return None,
    };
    Some(Decoded {
        instruction,
        length,
    })
}

/// The address behind a mode byte, and the length of the whole instruction.
fn address(
    at: impl Fn(usize) -> u8,
    [index_high, base_high]: [usize; 2],
) -> Option<(Address, usize)> {
    let mode = at(4);
    let kind = mode >> 6;
    let (mut base, mut index, mut scale) = (usize::from(mode & 7) + base_high, None, 1);
    let mut length = 5;
    let mut has_base = true;
    if mode & 7 == 4 {
        let byte = at(5);
        length += 1;
        base = usize::from(byte & 7) + base_high;
        let register = usize::from(byte >> 3 & 7) + index_high;
        // The stack's pointer is no index.
        index = (register != 4).then_some(register);
        scale = 1 << (byte >> 6);
        has_base = kind != 0 || byte & 7 != 5;
    } else if kind == 0 && mode & 7 == 5 {
        // An address beside the instruction itself.
        return None;
    }
    let displacement = match (kind, has_base) {
        (1, _) => {
            length += 1;
            i32::from(at(length - 1) as i8)
        }
        (0, true) => 0,
        _ => {
            length += 4;
            i32::from_le_bytes([4, 3, 2, 1].map(|before| at(length - before)))
        }
    };
    let address = Address {
        base: has_base.then_some(base),
        index,
        scale,
        displacement,
    };
    Some((address, length))
}
