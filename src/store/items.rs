//! How facts and refusals stand in a chunk: a JSON array, an item a line, each with its mark in the chain of hashes.

use std::io::Write;

use super::chain::Chain;

/// The length of an item's mark: `,"h":"0123456789abcdef"}`.
const MARK_BYTES: usize = 24;

/// What stands between two items.
pub(crate) const SEPARATOR: &str = ",\n";

/// Adds an item to the chain, and its mark to its text.
pub(crate) fn mark(chain: &mut Chain, text: &mut Vec<u8>) {
    let mark = chain.extend(text);
    text.pop();
    // A vector takes whatever is written to it.
    let _ = write!(text, ",\"h\":\"{mark:016x}\"}}");
}

/// An item's text as it was before it was marked, and its mark.
pub(crate) fn unmarked(text: &str) -> Option<(String, u64)> {
    let (body, mark) = text.split_at_checked(text.len().checked_sub(MARK_BYTES)?)?;
    let mark = mark.strip_prefix(",\"h\":\"")?.strip_suffix("\"}")?;
    Some((format!("{body}}}"), u64::from_str_radix(mark, 16).ok()?))
}

/// Appends an item, or several as another array holds them, to an array that is open.
pub(crate) fn append(items: &[u8], array: &mut Vec<u8>) {
    array.extend_from_slice(if array.is_empty() { "[" } else { SEPARATOR }.as_bytes());
    array.extend_from_slice(items);
}

/// Closes an array.
pub(crate) fn closed(mut array: Vec<u8>) -> Vec<u8> {
    array.push(b']');
    array
}

/// The items of a closed array, as [`append`] takes them.
pub(crate) fn inner(array: &[u8]) -> &[u8] {
    array.strip_prefix(b"[").and_then(|inner| inner.strip_suffix(b"]")).unwrap_or(array)
}
