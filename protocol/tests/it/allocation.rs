//! Counts what a piece of code allocates: an allocator that passes everything on and keeps a sum per thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static ALLOCATED_BYTES: Cell<usize> = const { Cell::new(0) };
}

fn count(bytes: usize) {
    // Fails only while a thread ends; nothing is measured then.
    let _ = ALLOCATED_BYTES.try_with(|sum| sum.set(sum.get() + bytes));
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches a thread-local number only.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many bytes `work` asked for on this thread in total, freed ones included.
pub(crate) fn allocated_bytes<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = ALLOCATED_BYTES.get();
    let result = work();
    (ALLOCATED_BYTES.get() - before, result)
}

#[test]
fn allocations_are_counted() {
    let (bytes, _) = allocated_bytes(|| Vec::<u8>::with_capacity(12_345));
    assert_eq!(bytes, 12_345);
}
