//! Time and chance of a thread, pinned for everything that runs on it.
//!
//! Our own code asks tokio's paused clock and the thread's generator. Libraries do not: openraft, hyper and `std`'s hash maps
//! ask the C library for the time and for random bytes. So the two functions of the C library that they all end in are
//! defined here, and the linker takes ours. On threads without a world they do what the C library does.
#![allow(unsafe_code, reason = "functions of the C library are defined here, in its own signatures")]

use std::cell::Cell;
use std::ffi::{c_int, c_uint, c_void};
use std::time::{Duration, Instant};

/// What all clocks show when a world begins: 2026-01-01 00:00:00 UTC.
const EPOCH: Duration = Duration::from_secs(1_767_225_600);

thread_local! {
    static TIME: Cell<Option<Duration>> = const { Cell::new(None) };
    /// The beginning, as `std` has it.
    static START: Cell<Option<Instant>> = const { Cell::new(None) };
    /// tokio is being asked for the time, and may ask the C library.
    static IS_ASKED: Cell<bool> = const { Cell::new(false) };
    static CHANCE: Cell<u64> = const { Cell::new(0) };
    /// By how many seconds wall clocks are wrong.
    static WRONG_BY: Cell<i64> = const { Cell::new(0) };
}

/// From now on this thread has the chance of `seed` and a clock that only [`set_time`] moves. Once per thread: what libraries
/// keep for a thread is not taken back.
pub(crate) fn pin(seed: u64) {
    CHANCE.set(seed ^ 0x9e37_79b9_7f4a_7c15);
    TIME.set(Some(Duration::ZERO));
    START.set(Some(Instant::now()));
}

/// That long has passed since the beginning, for everything outside of a node. Inside, tokio's paused clock tells the time.
pub(crate) fn set_time(elapsed: Duration) {
    TIME.set(Some(elapsed));
}

/// Wall clocks are wrong by so many seconds from now on.
pub(crate) fn set_wrong_by(seconds: i64) {
    WRONG_BY.set(seconds);
}

/// How long has passed since the beginning.
pub(crate) fn elapsed() -> Duration {
    now().unwrap_or_default()
}

/// The same, on a thread with a world.
fn now() -> Option<Duration> {
    let outside = TIME.get()?;
    let Some(start) = START.get().filter(|_| !IS_ASKED.replace(true)) else { return Some(outside) };
    // Without a runtime it asks us again.
    let inside = tokio::time::Instant::now().into_std().duration_since(start);
    IS_ASKED.set(false);
    Some(inside)
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
fn next_word() -> u64 {
    let state = CHANCE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    CHANCE.set(state);
    let mut word = state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

const REALTIME: c_int = 0;
const REALTIME_COARSE: c_int = 5;

/// The C library's `struct timespec` on 64-bit Linux.
#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

/// # Safety
/// As the C library's: `into` points to a writable `timespec`.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: c_int, into: *mut Timespec) -> c_int {
    let (seconds, nanoseconds) = match now() {
        Some(elapsed) => {
            let now = EPOCH + elapsed;
            let wrong_by = if matches!(clock, REALTIME | REALTIME_COARSE) { WRONG_BY.get() } else { 0 };
            let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX).saturating_add(wrong_by);
            (seconds, i64::from(now.subsec_nanos()))
        }
        None => {
            let id = match clock {
                REALTIME => rustix::time::ClockId::Realtime,
                REALTIME_COARSE => rustix::time::ClockId::RealtimeCoarse,
                6 => rustix::time::ClockId::MonotonicCoarse,
                7 => rustix::time::ClockId::Boottime,
                2 => rustix::time::ClockId::ProcessCPUTime,
                3 => rustix::time::ClockId::ThreadCPUTime,
                _ => rustix::time::ClockId::Monotonic,
            };
            let now = rustix::time::clock_gettime(id);
            (now.tv_sec, now.tv_nsec)
        }
    };
    // SAFETY: the caller gives a place for one value.
    unsafe { into.write(Timespec { seconds, nanoseconds }) };
    0
}

/// # Safety
/// As the C library's: `into` points to `len` writable bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(into: *mut c_void, len: usize, flags: c_uint) -> isize {
    // SAFETY: the caller gives a place for so many bytes.
    let bytes = unsafe { std::slice::from_raw_parts_mut(into.cast::<std::mem::MaybeUninit<u8>>(), len) };
    if TIME.get().is_none() {
        let flags = rustix::rand::GetRandomFlags::from_bits_retain(flags);
        return rustix::rand::getrandom(bytes, flags).map_or(-1, |(got, _)| got.len().cast_signed());
    }
    for chunk in bytes.chunks_mut(8) {
        for (byte, chance) in chunk.iter_mut().zip(next_word().to_le_bytes()) {
            byte.write(chance);
        }
    }
    len.cast_signed()
}
