use super::decode::{Address, Decoded, Instruction, decode};
use super::tiles;
use crate::amx::{Extent, Factors, Tile};
use std::arch::asm;
use std::process::Command;

fn decoded(bytes: &[u8]) -> Option<Decoded> {
    decode(|index| bytes.get(index).copied().unwrap_or(0x90))
}

fn address(base: usize, index: Option<usize>, scale: u8, displacement: i32) -> Address {
    Address {
        base: Some(base),
        index,
        scale,
        displacement,
    }
}

/// Bytes by an assembler.
#[test]
fn instructions_are_decoded() {
    let cases: [(&[u8], Instruction); 13] = [
        // ldtilecfg [rax]
        (
            &[0xc4, 0xe2, 0x78, 0x49, 0x00],
            Instruction::Configure(address(0, None, 1, 0)),
        ),
        // ldtilecfg [r12 + 16]
        (
            &[0xc4, 0xc2, 0x78, 0x49, 0x44, 0x24, 0x10],
            Instruction::Configure(address(12, None, 1, 16)),
        ),
        // tilerelease
        (&[0xc4, 0xe2, 0x78, 0x49, 0xc0], Instruction::Release),
        // tilezero tmm5
        (&[0xc4, 0xe2, 0x7b, 0x49, 0xe8], Instruction::Zero(5)),
        // tileloadd tmm4, [rax + rcx]
        (
            &[0xc4, 0xe2, 0x7b, 0x4b, 0x24, 0x08],
            Instruction::Load {
                to: 4,
                from: address(0, Some(1), 1, 0),
            },
        ),
        // tileloadd tmm1, [r9 + 4*r10 - 8]
        (
            &[0xc4, 0x82, 0x7b, 0x4b, 0x4c, 0x91, 0xf8],
            Instruction::Load {
                to: 1,
                from: address(9, Some(10), 4, -8),
            },
        ),
        // tileloadd tmm2, [rsi]
        (
            &[0xc4, 0xe2, 0x7b, 0x4b, 0x14, 0x26],
            Instruction::Load {
                to: 2,
                from: address(6, None, 1, 0),
            },
        ),
        // tileloaddt1 tmm7, [r13 + r12 + 1024]
        (
            &[0xc4, 0x82, 0x79, 0x4b, 0xbc, 0x25, 0x00, 0x04, 0x00, 0x00],
            Instruction::Load {
                to: 7,
                from: address(13, Some(12), 1, 1024),
            },
        ),
        // tileloadd tmm0, [2*rdx + 64]
        (
            &[0xc4, 0xe2, 0x7b, 0x4b, 0x04, 0x55, 0x40, 0x00, 0x00, 0x00],
            Instruction::Load {
                to: 0,
                from: Address {
                    base: None,
                    index: Some(2),
                    scale: 2,
                    displacement: 64,
                },
            },
        ),
        // tilestored [rdi + r8], tmm3
        (
            &[0xc4, 0xa2, 0x7a, 0x4b, 0x1c, 0x07],
            Instruction::Store {
                from: 3,
                to: address(7, Some(8), 1, 0),
            },
        ),
        // tdpbf16ps tmm0, tmm4, tmm6
        (
            &[0xc4, 0xe2, 0x4a, 0x5c, 0xc4],
            Instruction::AddProducts {
                of: Factors::Bf16,
                to: 0,
                factors: [4, 6],
            },
        ),
        // tdpbf16ps tmm3, tmm5, tmm7
        (
            &[0xc4, 0xe2, 0x42, 0x5c, 0xdd],
            Instruction::AddProducts {
                of: Factors::Bf16,
                to: 3,
                factors: [5, 7],
            },
        ),
        // tdpbusd tmm1, tmm4, tmm7
        (
            &[0xc4, 0xe2, 0x41, 0x5e, 0xcc],
            Instruction::AddProducts {
                of: Factors::Bytes,
                to: 1,
                factors: [4, 7],
            },
        ),
    ];
    for (bytes, instruction) in cases {
        let length = bytes.len();
        let expected = Decoded {
            instruction,
            length,
        };
        assert_eq!(decoded(bytes), Some(expected), "{bytes:02x?}");
    }
}

#[test]
fn what_is_none_of_tiles_is_not_decoded() {
    for bytes in [
        // ud2
        &[0x0f, 0x0b][..],
        // vaddps ymm0, ymm1, ymm2 in three bytes
        &[0xc4, 0xe1, 0x74, 0x58, 0xc2],
        // tdpbssd tmm0, tmm4, tmm6
        &[0xc4, 0xe2, 0x4b, 0x5e, 0xc4],
        // tdpbusd tmm0, tmm4, tmm4, which is refused
        &[0xc4, 0xe2, 0x59, 0x5e, 0xc4],
        // tdpbf16ps tmm0, tmm4, tmm4, which is refused
        &[0xc4, 0xe2, 0x5a, 0x5c, 0xc4],
        // tileloadd tmm4, [rax] without rows
        &[0xc4, 0xe2, 0x7b, 0x4b, 0x20],
        // ldtilecfg [rip + 0]
        &[0xc4, 0xe2, 0x78, 0x49, 0x05, 0, 0, 0, 0],
        // andn, whose prefix is alike
        &[0xc4, 0xe2, 0x78, 0xf2, 0xc0],
    ] {
        assert_eq!(decoded(bytes), None, "{bytes:02x?}");
    }
}

#[repr(C, align(64))]
struct Config([u8; 64]);

/// Tiles of the given rows and bytes of rows.
fn config(shapes: [[u8; 2]; 8]) -> Config {
    let mut config = Config([0; 64]);
    config.0[0] = 1;
    for (tile, [rows, bytes]) in shapes.into_iter().enumerate() {
        config.0[48 + tile] = rows;
        config.0[16 + 2 * tile] = bytes;
    }
    config
}

/// Bytes of small bf16 numbers.
fn pairs(seed: usize) -> Vec<u8> {
    let number = |index: usize| half::bf16::from_f32(((seed + index * 37) % 31) as f32 / 8.0 - 2.0);
    (0..1024)
        .flat_map(|index| number(index).to_le_bytes())
        .collect()
}

/// The sums of products of rows that lie some bytes apart in two memories, by instructions, stored 80 bytes apart.
fn multiplied(
    of: Factors,
    [first, second]: [&[u8]; 2],
    strides: [usize; 2],
    shapes: [[u8; 2]; 8],
) -> Vec<u8> {
    let config = config(shapes);
    let mut sums = vec![9_u8; 16 * 80];
    macro_rules! multiply_twice {
        ($instruction:literal) => {
            asm!(
                "ldtilecfg [{config}]",
                "tilezero tmm2",
                "tileloadd tmm0, [{first} + {first_stride}]",
                "tileloaddt1 tmm1, [{second} + 2*{second_stride} - 16]",
                concat!($instruction, " tmm2, tmm0, tmm1"),
                concat!($instruction, " tmm2, tmm0, tmm1"),
                "tilestored [{sums} + {sums_stride}], tmm2",
                "tilerelease",
                config = in(reg) &raw const config,
                first = in(reg) first.as_ptr(),
                first_stride = in(reg) strides[0],
                second = in(reg) second.as_ptr().wrapping_add(16),
                second_stride = in(reg) strides[1] / 2,
                sums = in(reg) sums.as_mut_ptr(),
                sums_stride = in(reg) 80_usize,
                out("tmm0") _,
                out("tmm1") _,
                out("tmm2") _,
                options(nostack)
            )
        };
    }
    // SAFETY: there are tiles or an emulator of them, and the memory holds the rows.
    unsafe {
        match of {
            Factors::Bf16 => multiply_twice!("tdpbf16ps"),
            Factors::Bytes => multiply_twice!("tdpbusd"),
        }
    }
    sums
}

#[test]
fn instructions_do_what_plain_tiles_do() {
    if tiles().is_none() {
        return;
    }
    let memory = [pairs(3), pairs(77)];
    let memory = [&memory[0][..], &memory[1][..]];
    for (strides, [rows, words, columns]) in [
        ([64, 64], [16, 16, 16]),
        ([48, 72], [3, 5, 7]),
        ([100, 64], [16, 1, 2]),
    ] {
        let bytes = [4 * words, 4 * columns, 4 * columns];
        let mut shapes = [[0; 2]; 8];
        let in_rows = [rows, words, rows];
        for tile in 0..3 {
            shapes[tile] = [in_rows[tile] as u8, bytes[tile] as u8];
        }
        let extent = Extent {
            rows,
            words,
            columns,
        };
        for of in [Factors::Bf16, Factors::Bytes] {
            let found = multiplied(of, memory, strides, shapes);
            let mut expected = Tile::ZERO;
            let mut stored = vec![9_u8; 16 * 80];
            // SAFETY: the memory holds the rows.
            unsafe {
                let first = Tile::read(memory[0].as_ptr(), strides[0] as isize, [rows, bytes[0]]);
                let second = Tile::read(memory[1].as_ptr(), strides[1] as isize, [words, bytes[1]]);
                expected.add_products(of, [&first, &second], extent);
                expected.add_products(of, [&first, &second], extent);
                expected.write(stored.as_mut_ptr(), 80, [rows, bytes[2]]);
            }
            assert_eq!(found, stored, "{of:?} {extent:?}");
        }
    }
}

#[test]
fn threads_have_tiles_of_their_own() {
    if tiles().is_none() {
        return;
    }
    let whole = [[16, 64]; 8];
    let memory: Vec<Vec<u8>> = (0..4).map(pairs).collect();
    let alone: Vec<Vec<u8>> = memory
        .iter()
        .map(|bytes| multiplied(Factors::Bf16, [bytes, bytes], [64, 64], whole))
        .collect();
    std::thread::scope(|scope| {
        for (bytes, alone) in memory.iter().zip(&alone) {
            scope.spawn(move || {
                for _ in 0..50 {
                    assert_eq!(
                        multiplied(Factors::Bf16, [bytes, bytes], [64, 64], whole),
                        *alone
                    );
                }
            });
        }
    });
}

/// Set where a test is to end its process.
const IS_TO_END: &str = "POLYNET_TEST_IS_TO_END";

/// Whether this is the process that a test is to end.
fn is_to_end() -> bool {
    std::env::var_os(IS_TO_END).is_some() && tiles().is_some()
}

/// Runs one of the tests below in a process of its own; whether an illegal instruction ended it.
fn ends(test: &str) -> bool {
    use std::os::unix::process::ExitStatusExt;
    let program = std::env::current_exe().expect("the tests are a program");
    let name = format!("emulator::tests::{test}");
    let mut command = Command::new(program);
    command.args(["--exact", &name]).env(IS_TO_END, "yes");
    let output = command.output().expect("the tests run");
    output.status.signal() == Some(libc::SIGILL)
}

#[test]
fn other_illegal_instructions_end_the_process() {
    if tiles().is_some() {
        assert!(ends("an_instruction_that_no_processor_has"));
        assert!(ends("a_product_of_tiles_that_are_not_configured"));
    }
}

#[test]
fn an_instruction_that_no_processor_has() {
    if is_to_end() {
        // SAFETY: it ends the process.
        unsafe { asm!("ud2") }
    }
}

#[test]
fn a_product_of_tiles_that_are_not_configured() {
    if is_to_end() {
        // SAFETY: it ends the process.
        unsafe { asm!("tdpbf16ps tmm2, tmm0, tmm1", out("tmm2") _) }
    }
}
