//! Whether tiles can be used: the processor has them, and the system lets the process have their registers.

/// Asks the processor, and once a process the system: registers of tiles are large, so that Linux keeps room
/// for them only where they were asked for.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) fn are_available() -> bool {
    use std::sync::OnceLock;
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| has_tiles() && is_permitted())
}

/// Tiles are asked for on Linux alone.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub(super) fn are_available() -> bool {
    false
}

/// Tiles, and their products of bf16 and of bytes.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn has_tiles() -> bool {
    const BF16: u32 = 1 << 22;
    const TILES: u32 = 1 << 24;
    const BYTES: u32 = 1 << 25;
    const ALL: u32 = BF16 | TILES | BYTES;
    let leaves = std::arch::x86_64::__cpuid(0).eax;
    leaves >= 7 && {
        let features = std::arch::x86_64::__cpuid_count(7, 0).edx;
        features & ALL == ALL
    }
}

/// By `arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)`, which holds for all threads.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn is_permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XFEATURE_XTILEDATA: i64 = 18;
    let result: i64;
    // SAFETY: the call takes two numbers and changes nothing but what the process may use.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack)
        );
    }
    result == 0
}
