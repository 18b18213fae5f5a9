//! What a thread holds of memory, counted while unit tests run: a door may hold no more than it says.
#![expect(unsafe_code, reason = "an allocator is; all that it does besides counting is the system's")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Below zero where others' memory was freed.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, with a count of what each thread holds.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// It neither allocates nor panics.
fn count(by: isize) {
    let held = HELD.get().saturating_add(by);
    HELD.set(held);
    MOST.set(MOST.get().max(held));
}

fn grown(pointer: *mut u8, by: usize) -> *mut u8 {
    if !pointer.is_null() {
        count(by.cast_signed());
    }
    pointer
}

// SAFETY: all is the system's, for what the caller promises; what is done besides is counting.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        grown(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        grown(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        let moved = grown(unsafe { System.realloc(pointer, layout, size) }, size);
        // While it moved both were there.
        if !moved.is_null() {
            count(-layout.size().cast_signed());
        }
        moved
    }
}

/// What this thread holds.
pub(super) fn held() -> isize {
    HELD.get()
}

/// The most bytes that this thread held at once while it did something, over what it held before.
pub(super) fn most_held(doing: impl FnOnce()) -> usize {
    let before = held();
    MOST.set(before);
    doing();
    MOST.get().saturating_sub(before).cast_unsigned()
}
