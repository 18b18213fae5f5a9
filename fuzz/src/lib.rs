//! Opens a door of roomkeeper to what a fuzzer makes, and watches what that costs.
//!
//! Every byte that is allocated is counted. While a door is open, what is held over what was held before may not exceed what the door says: so
//! many bytes for each byte of input, and so many besides.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use roomkeeper::fuzzing::{DOORS, Door, seeds};

/// The system's allocator, with a count of what is held.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn grow(by: usize) {
    let held = HELD.fetch_add(by, Relaxed) + by;
    MOST.fetch_max(held, Relaxed);
}

// SAFETY: all is the system's; what is done besides is counting.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // While it moves both are there.
        grow(size);
        HELD.fetch_sub(layout.size(), Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Opens a door to an input. Panics if it breaks a promise, or holds more than it may.
pub fn open(door: &Door, input: &[u8]) {
    let before = HELD.load(Relaxed);
    MOST.store(before, Relaxed);
    (door.open)(input);
    let held = MOST.load(Relaxed).saturating_sub(before);
    let allowed = door.bytes_per_byte * input.len() + door.bytes_besides;
    tell(door, input.len(), held);
    assert!(held <= allowed, "{}: {held} bytes were held for an input of {}, {allowed} are allowed", door.name, input.len());
}

/// With `ROOMKEEPER_COST` in the environment: what the dearest inputs so far have cost, by a straight line through nothing and what is besides.
fn tell(door: &Door, input: usize, held: usize) {
    static WANTED: OnceLock<bool> = OnceLock::new();
    static DEAREST: AtomicUsize = AtomicUsize::new(0);
    let per_byte = held.saturating_sub(64 * 1024) / input.max(64);
    if *WANTED.get_or_init(|| std::env::var_os("ROOMKEEPER_COST").is_some()) && DEAREST.fetch_max(per_byte, Relaxed) < per_byte {
        eprintln!("{}: {input} bytes, {held} held, {per_byte} for each", door.name);
    }
}

/// The door of a name. It is opened once to nothing: what is built for all inputs is not counted for the first. With `ROOMKEEPER_SEEDS` in the
/// environment its seeds are written into the folder of that name.
pub fn door(name: &str) -> &'static Door {
    let Some(door) = DOORS.iter().find(|door| door.name == name) else { panic!("there is no door {name}") };
    (door.open)(&[]);
    if let Some(folder) = std::env::var_os("ROOMKEEPER_SEEDS").map(std::path::PathBuf::from) {
        for (_, seed, bytes) in seeds().into_iter().filter(|(of, ..)| *of == name) {
            std::fs::write(folder.join(seed), bytes).unwrap();
        }
    }
    door
}

/// A fuzz target.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        libfuzzer_sys::fuzz_target!(|input: &[u8]| {
            static DOOR: std::sync::OnceLock<&roomkeeper::fuzzing::Door> = std::sync::OnceLock::new();
            $crate::open(DOOR.get_or_init(|| $crate::door($name)), input);
        });
    };
}
