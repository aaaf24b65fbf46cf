//! The registers of a thread, configured as whole tiles while they are used.

#[cfg(target_arch = "x86_64")]
use super::plain::TILE_ROWS;
use std::marker::PhantomData;

/// Tile registers that are configured until this is dropped, or none.
///
/// Tiles that stay in use make every change of threads dearer, so that a task gives them back.
pub(crate) struct Registers {
    are_configured: bool,
    /// Registers are the thread's own.
    of_thread: PhantomData<*const ()>,
}

impl Registers {
    /// None are needed.
    pub(crate) fn none() -> Self {
        Self {
            are_configured: false,
            of_thread: PhantomData,
        }
    }

    /// Configures eight tiles of 16 rows of 64 bytes.
    ///
    /// # Safety
    /// The processor has tiles, which the system lets the process use, or they are emulated.
    #[cfg(target_arch = "x86_64")]
    pub(crate) unsafe fn configure() -> Self {
        static WHOLE: Config = Config::whole_tiles();
        // SAFETY: by the contract; the memory is a configuration.
        unsafe {
            std::arch::asm!("ldtilecfg [{config}]", config = in(reg) &raw const WHOLE, options(nostack, readonly));
        }
        Self {
            are_configured: true,
            of_thread: PhantomData,
        }
    }
}

impl Drop for Registers {
    fn drop(&mut self) {
        #[cfg(target_arch = "x86_64")]
        if self.are_configured {
            // SAFETY: they were configured, so that there are some.
            unsafe { std::arch::asm!("tilerelease", options(nostack, nomem)) }
        }
        self.are_configured = false;
    }
}

/// A product of tiles of zeros, by an instruction.
#[cfg(target_arch = "x86_64")]
macro_rules! multiply_zeros_by {
    ($name:ident, $instruction:literal) => {
        /// Multiplies tiles of zeros in registers, for measuring: four sums grow side by side, so many times.
        ///
        /// # Safety
        /// As [`Registers::configure`].
        #[cfg(target_arch = "x86_64")]
        pub(crate) unsafe fn $name(rounds: usize) {
            if rounds == 0 {
                return;
            }
            // SAFETY: by the contract; no memory is touched.
            unsafe {
                let _registers = Registers::configure();
                std::arch::asm!(
                    "2:",
                    concat!($instruction, " tmm0, tmm4, tmm6"),
                    concat!($instruction, " tmm2, tmm5, tmm6"),
                    concat!($instruction, " tmm1, tmm4, tmm7"),
                    concat!($instruction, " tmm3, tmm5, tmm7"),
                    "dec {rounds}",
                    "jnz 2b",
                    rounds = inout(reg) rounds => _,
                    out("tmm0") _,
                    out("tmm1") _,
                    out("tmm2") _,
                    out("tmm3") _,
                    options(nostack, nomem)
                );
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
multiply_zeros_by!(multiply_zeros, "tdpbf16ps");
#[cfg(target_arch = "x86_64")]
multiply_zeros_by!(multiply_zeros_of_bytes, "tdpbusd");

/// What `LDTILECFG` reads: the palette, a row to begin at, bytes of a row and rows of each tile.
#[cfg(target_arch = "x86_64")]
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

#[cfg(target_arch = "x86_64")]
impl Config {
    const fn whole_tiles() -> Self {
        let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
        let mut tile = 0;
        while tile < 8 {
            row_bytes[tile] = 64;
            rows[tile] = TILE_ROWS as u8;
            tile += 1;
        }
        Self {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes,
            rows,
        }
    }
}
