//! The microkernel: one or two tiles of 16 pixels times one or two of 16 output channels.
//!
//! It is written in the processor's instructions, which no compiler reorders, and once more with [tiles in plain
//! Rust](Tile), which take the same steps in the same order.

use crate::amx::{Extent, Factors, Registers, TILE_ROWS, Tile};
use crate::element::PerElement;
use crate::layout::BLOCK;
use crate::simd::Isa;

/// Bytes of a tile's row.
pub(super) const ROW_BYTES: usize = 64;

/// Bytes from a pixel's sums to the next one's.
pub(super) const SUM_BYTES: usize = size_of::<f32>() * 2 * BLOCK;

/// Bytes of a step's weights for 16 output channels.
const HALF_BYTES: usize = TILE_ROWS * ROW_BYTES;

/// A step of a sum, for two tiles of pixels.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Step {
    /// The first rows.
    pub(super) tiles: [*const u8; 2],
    /// Bytes from the panel's weights to those of the step.
    pub(super) weights: usize,
}

/// The arguments of the microkernel.
#[repr(C)]
pub(super) struct Call {
    pub(super) steps: *const Step,
    pub(super) count: usize,
    /// Bytes between neighbouring rows of the inputs' tiles.
    pub(super) row_bytes: usize,
    /// The panel's weights.
    pub(super) weights: *const u8,
    /// What the sums begin with, 32 numbers a pixel; `f32`, or whole ones of bytes, of as many bits.
    pub(super) start: *const f32,
    /// Bytes between those of neighbouring pixels: 0 for a bias, which all have in common.
    pub(super) start_bytes: usize,
    /// `[32 pixels][32 channels]`, as `start`.
    pub(super) sums: *mut f32,
    /// Memory to ask for on the way: its first line.
    pub(super) ahead: *const u8,
    /// Lines to ask for at each step.
    pub(super) ahead_lines: usize,
}

/// A microkernel.
///
/// # Safety
/// All pointers of the call are valid for what the kernel reads and writes, and the registers are configured if
/// it uses them.
pub(super) type Kernel = unsafe fn(&Call);

/// The microkernels of `[1 or 2 tiles of pixels][1 or 2 halves of a panel]`.
pub(super) type Kernels = [[Kernel; 2]; 2];

/// Who multiplies tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Products {
    /// The processor.
    #[cfg(target_arch = "x86_64")]
    Amx,
    /// Plain Rust, with the same results.
    Plain,
}

impl Products {
    /// By an instruction set.
    pub(super) fn of(isa: Isa) -> Self {
        #[cfg(target_arch = "x86_64")]
        if isa.multiplies_tiles() {
            return Self::Amx;
        }
        let _ = isa;
        Self::Plain
    }

    /// The registers that the microkernels need while they are called.
    ///
    /// # Safety
    /// The instruction set that these are of is the processor's.
    pub(super) unsafe fn registers(self) -> Registers {
        match self {
            // SAFETY: by the contract.
            #[cfg(target_arch = "x86_64")]
            Self::Amx => unsafe { Registers::configure() },
            Self::Plain => Registers::none(),
        }
    }
}

impl Products {
    /// Those of bytes.
    pub(super) fn of_bytes(self) -> Kernels {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx => bytes::KERNELS,
            Self::Plain => plain_kernels::<true>(),
        }
    }
}

impl PerElement for Products {
    /// Of the elements, tiles multiply bf16 alone.
    type Of<E: 'static> = Option<Kernels>;

    fn of_f32(self) -> Option<Kernels> {
        None
    }

    fn of_bf16(self) -> Option<Kernels> {
        Some(match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx => bf16::KERNELS,
            Self::Plain => plain_kernels::<false>(),
        })
    }
}

const fn plain_kernels<const OF_BYTES: bool>() -> Kernels {
    [
        [plain::<OF_BYTES, 1, 1>, plain::<OF_BYTES, 1, 2>],
        [plain::<OF_BYTES, 2, 1>, plain::<OF_BYTES, 2, 2>],
    ]
}

/// # Safety
/// As [`Kernel`].
unsafe fn plain<const OF_BYTES: bool, const TILES: usize, const HALVES: usize>(call: &Call) {
    let whole = [TILE_ROWS, ROW_BYTES];
    let factors = match OF_BYTES {
        true => Factors::Bytes,
        false => Factors::Bf16,
    };
    // SAFETY: by the contract.
    unsafe {
        for tile in 0..TILES {
            for half in 0..HALVES {
                let start = call
                    .start
                    .byte_add(tile * TILE_ROWS * call.start_bytes + half * ROW_BYTES);
                let mut sums = Tile::read(start.cast(), call.start_bytes as isize, whole);
                for index in 0..call.count {
                    let step = &*call.steps.add(index);
                    let weights = call.weights.byte_add(step.weights + half * HALF_BYTES);
                    let inputs = Tile::read(step.tiles[tile], call.row_bytes as isize, whole);
                    let weights = Tile::read(weights, ROW_BYTES as isize, whole);
                    sums.add_products(factors, [&inputs, &weights], Extent::WHOLE);
                }
                let to = call
                    .sums
                    .byte_add(tile * TILE_ROWS * SUM_BYTES + half * ROW_BYTES);
                sums.write(to.cast(), SUM_BYTES as isize, whole);
            }
        }
    }
}

/// The processor's microkernel for some tiles of pixels and halves of a panel, by the instruction of a product: lines
/// that load the sums, those that load a step, its products, and lines that store the sums. Sums are in tiles 0 to 3, inputs in 4 and 5, weights in 6 and 7.
#[cfg(target_arch = "x86_64")]
macro_rules! amx_kernel {
    ($name:ident, $instruction:literal, load: [$($load:literal),*], step: [$($step:literal),*],
        products: [$($product:literal),*], store: [$($store:literal),*]) => {
        /// # Safety
        /// As [`Kernel`].
        unsafe fn $name(call: &Call) {
            // SAFETY: by the contract; tiles are loaded and stored inside what the call says.
            unsafe {
                std::arch::asm!(
                    "mov {a}, [{call} + {START}]",
                    "mov {row}, [{call} + {START_BYTES}]",
                    "mov {b}, {row}",
                    "shl {b}, 4",
                    "add {b}, {a}",
                    $($load,)*
                    "mov {left}, [{call} + {COUNT}]",
                    "mov {line}, 64",
                    "test {left}, {left}",
                    "jz 6f",
                    "mov {step}, [{call} + {STEPS}]",
                    "mov {row}, [{call} + {ROW_BYTES}]",
                    "mov {weights}, [{call} + {WEIGHTS}]",
                    "mov {ahead}, [{call} + {AHEAD}]",
                    "mov {lines}, [{call} + {AHEAD_LINES}]",
                    "2:",
                    "mov {w}, {lines}",
                    "test {w}, {w}",
                    "jz 4f",
                    "3:",
                    "prefetcht1 [{ahead}]",
                    "add {ahead}, 64",
                    "dec {w}",
                    "jnz 3b",
                    "4:",
                    "mov {a}, [{step}]",
                    "mov {b}, [{step} + 8]",
                    "mov {w}, [{step} + 16]",
                    "add {w}, {weights}",
                    $($step,)*
                    $(concat!($instruction, $product),)*
                    "add {step}, 24",
                    "dec {left}",
                    "jnz 2b",
                    "6:",
                    "mov {a}, [{call} + {SUMS}]",
                    "mov {row}, {SUM_BYTES}",
                    $($store,)*
                    call = in(reg) call,
                    step = out(reg) _,
                    left = out(reg) _,
                    row = out(reg) _,
                    weights = out(reg) _,
                    line = out(reg) _,
                    ahead = out(reg) _,
                    lines = out(reg) _,
                    a = out(reg) _,
                    b = out(reg) _,
                    w = out(reg) _,
                    STEPS = const std::mem::offset_of!(Call, steps),
                    COUNT = const std::mem::offset_of!(Call, count),
                    ROW_BYTES = const std::mem::offset_of!(Call, row_bytes),
                    WEIGHTS = const std::mem::offset_of!(Call, weights),
                    START = const std::mem::offset_of!(Call, start),
                    START_BYTES = const std::mem::offset_of!(Call, start_bytes),
                    SUMS = const std::mem::offset_of!(Call, sums),
                    AHEAD = const std::mem::offset_of!(Call, ahead),
                    AHEAD_LINES = const std::mem::offset_of!(Call, ahead_lines),
                    SUM_BYTES = const SUM_BYTES,
                    out("tmm0") _,
                    out("tmm1") _,
                    out("tmm2") _,
                    out("tmm3") _,
                    out("tmm4") _,
                    out("tmm5") _,
                    out("tmm6") _,
                    out("tmm7") _,
                    options(nostack)
                );
            }
        }
    };
}

/// The processor's microkernels, by the instruction of a product.
#[cfg(target_arch = "x86_64")]
macro_rules! amx_kernels {
    ($module:ident, $instruction:literal) => {
        mod $module {
            use super::*;

            pub(super) const KERNELS: Kernels = [[amx_1x1, amx_1x2], [amx_2x1, amx_2x2]];

            amx_kernel!(
                amx_2x2, $instruction,
                load: [
                    "tileloadd tmm0, [{a} + {row}]",
                    "tileloadd tmm1, [{a} + {row} + 64]",
                    "tileloadd tmm2, [{b} + {row}]",
                    "tileloadd tmm3, [{b} + {row} + 64]"
                ],
                step: [
                    "tileloadd tmm4, [{a} + {row}]",
                    "tileloadd tmm6, [{w} + {line}]",
                    "tileloadd tmm5, [{b} + {row}]",
                    "tileloadd tmm7, [{w} + {line} + 1024]"
                ],
                products: [
                    " tmm0, tmm4, tmm6",
                    " tmm2, tmm5, tmm6",
                    " tmm1, tmm4, tmm7",
                    " tmm3, tmm5, tmm7"
                ],
                store: [
                    "tilestored [{a} + {row}], tmm0",
                    "tilestored [{a} + {row} + 64], tmm1",
                    "tilestored [{a} + {row} + 2048], tmm2",
                    "tilestored [{a} + {row} + 2112], tmm3"
                ]
            );
            amx_kernel!(
                amx_2x1, $instruction,
                load: ["tileloadd tmm0, [{a} + {row}]", "tileloadd tmm2, [{b} + {row}]"],
                step: [
                    "tileloadd tmm4, [{a} + {row}]",
                    "tileloadd tmm6, [{w} + {line}]",
                    "tileloadd tmm5, [{b} + {row}]"
                ],
                products: [" tmm0, tmm4, tmm6", " tmm2, tmm5, tmm6"],
                store: [
                    "tilestored [{a} + {row}], tmm0",
                    "tilestored [{a} + {row} + 2048], tmm2"
                ]
            );
            amx_kernel!(
                amx_1x2, $instruction,
                load: ["tileloadd tmm0, [{a} + {row}]", "tileloadd tmm1, [{a} + {row} + 64]"],
                step: [
                    "tileloadd tmm4, [{a} + {row}]",
                    "tileloadd tmm6, [{w} + {line}]",
                    "tileloadd tmm7, [{w} + {line} + 1024]"
                ],
                products: [" tmm0, tmm4, tmm6", " tmm1, tmm4, tmm7"],
                store: [
                    "tilestored [{a} + {row}], tmm0",
                    "tilestored [{a} + {row} + 64], tmm1"
                ]
            );
            amx_kernel!(
                amx_1x1, $instruction,
                load: ["tileloadd tmm0, [{a} + {row}]"],
                step: ["tileloadd tmm4, [{a} + {row}]", "tileloadd tmm6, [{w} + {line}]"],
                products: [" tmm0, tmm4, tmm6"],
                store: ["tilestored [{a} + {row}], tmm0"]
            );
        }
    };
}

#[cfg(target_arch = "x86_64")]
amx_kernels!(bf16, "tdpbf16ps");
#[cfg(target_arch = "x86_64")]
amx_kernels!(bytes, "tdpbusd");
