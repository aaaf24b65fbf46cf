//! The handler of illegal instructions.

use super::decode::decode;
use super::state::State;
use std::cell::RefCell;
use std::ptr;
use std::sync::Once;

thread_local! {
    static STATE: RefCell<State> = const { RefCell::new(State::INITIAL) };
}

/// Handles illegal instructions from now on.
pub(super) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = handle;
        // SAFETY: zeros are an action, and the handler is one of three arguments.
        let result = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(libc::SIGILL, &action, ptr::null_mut())
        };
        assert_eq!(result, 0, "a handler of illegal instructions");
    });
}

/// Where the saved context has the registers, by their numbers in instructions.
const REGISTERS: [libc::c_int; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

/// Does what the instruction does and steps over it; the signal comes from this thread's own code, so nothing that
/// is borrowed here is borrowed there.
extern "C" fn handle(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the system gives a context with the registers of the thread, and instructions lie where it was.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let at = registers[libc::REG_RIP as usize] as *const u8;
        let found = decode(|index| at.add(index).read());
        let done = found.and_then(|found| {
            let register = |number: usize| registers[REGISTERS[number] as usize] as usize;
            let result = STATE.with_borrow_mut(|state| state.execute(found.instruction, register));
            result.ok().map(|()| found.length)
        });
        match done {
            Some(length) => registers[libc::REG_RIP as usize] += length as libc::greg_t,
            None => end(),
        }
    }
}

/// Lets the instruction be executed again without a handler, which ends the process.
fn end() {
    const MESSAGE: &str = "an illegal instruction that is none of tiles\n";
    // SAFETY: bytes of a text are written, and the default is an action.
    unsafe {
        libc::write(libc::STDERR_FILENO, MESSAGE.as_ptr().cast(), MESSAGE.len());
        libc::signal(libc::SIGILL, libc::SIG_DFL);
    }
}
