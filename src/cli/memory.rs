//! Where a server takes its memory from, and how it gives it back.
#![expect(unsafe_code, reason = "how mimalloc gives memory back is said by a call of C")]

use std::ffi::c_int;

/// Where a server takes its memory from: hundreds of rooms tick in less time by it than by that of glibc. The library does not set it, a game does, beside its `main`:
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: roomkeeper::cli::Allocator = roomkeeper::cli::Allocator;
/// ```
pub use mimalloc::MiMalloc as Allocator;

/// mimalloc's option `allow_thp`, by its place in the list of them, for which the bindings have no name.
const ALLOW_THP: c_int = 43;
/// How many options there are in the version of mimalloc whose list that is.
const OPTIONS: c_int = 47;
/// Huge pages are asked for, and given back as a whole.
const WHOLE: std::ffi::c_long = 2;

/// Lets the allocator give memory back in whole huge pages (2 MiB) only, unless the environment says otherwise (`MIMALLOC_ALLOW_THP`).
///
/// By itself mimalloc asks Linux for huge pages and gives back parts of them; khugepaged then puts the parts together again, with fresh memory in the
/// holes, so that a busy server grew by a tenth in an hour, though it held no more than before. Without huge pages the rooms would take 7 % more of the processor
/// (docs/performance.md, "Hours of soak").
pub(super) fn keep_huge_pages_whole() {
    let is_said = std::env::vars_os().any(|(name, _)| name.eq_ignore_ascii_case("MIMALLOC_ALLOW_THP"));
    if libmimalloc_sys::_mi_option_last == OPTIONS && !is_said {
        // SAFETY: it is handed two numbers, looks whether the first is that of an option, and writes the second into a table. Other threads that give memory back
        // meanwhile read the one or the other value of an aligned word.
        unsafe { libmimalloc_sys::mi_option_set(ALLOW_THP, WHOLE) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_the_one_that_is_meant() {
        // SAFETY: each looks whether the number is that of an option.
        let get = |option| unsafe { libmimalloc_sys::mi_option_get(option) };
        assert_eq!(libmimalloc_sys::_mi_option_last, OPTIONS, "look for allow_thp in the list of options of this version");
        // What these are by themselves: allow_thp, minimal_purge_size, arena_max_object_size (2 GiB, in KiB), as the list has them one after the other.
        assert_eq!([ALLOW_THP, ALLOW_THP + 1, ALLOW_THP + 2].map(get), [1, 0, 2 << 20]);
        keep_huge_pages_whole();
        assert_eq!(get(ALLOW_THP), WHOLE);
    }
}
