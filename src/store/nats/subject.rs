//! Subjects: the prefix, then the room's name, then the fact's kind, each of the two as one token.

use super::super::subjects::is_plain;

/// A name as one token. What is not plain is written as `%` and two digits, by bytes, so that no name splits or widens a subject.
pub(super) fn token(name: &str) -> String {
    let mut token = String::with_capacity(name.len());
    for byte in name.bytes() {
        if is_plain(byte) {
            token.push(char::from(byte));
        } else {
            token.push_str(&format!("%{byte:02X}"));
        }
    }
    // A subject has no empty tokens.
    if token.is_empty() { "%".to_owned() } else { token }
}

/// The name that a token stands for; nothing if it stands for none.
pub(super) fn name_of(token: &str) -> Option<String> {
    if token == "%" {
        return Some(String::new());
    }
    let mut bytes = Vec::with_capacity(token.len());
    let mut rest = token.as_bytes();
    while let [first, tail @ ..] = rest {
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        rest = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                bytes.push(u8::try_from(digit(high)? << 4 | digit(low)?).ok()?);
                tail
            }
            (b'%', _) => return None,
            (byte, tail) => {
                bytes.push(*byte);
                tail
            }
        };
    }
    String::from_utf8(bytes).ok()
}

/// The subject of the facts of a kind of a room: the prefix, the room's name, the kind. Of a name only letters of ASCII, digits, `-` and `_` stand as
/// they are; each other byte is written as `%` and two hexadecimal digits.
///
/// ```
/// use roomkeeper::store::nats::{named_by, subject_of};
///
/// let subject = subject_of("roomkeeper.facts", "arena/7 *.>", "door_opened");
/// assert_eq!(subject, "roomkeeper.facts.arena%2F7%20%2A%2E%3E.door_opened");
/// assert_eq!(named_by("roomkeeper.facts", &subject), Some(("arena/7 *.>".to_owned(), "door_opened".to_owned())));
/// ```
pub fn subject_of(prefix: &str, room: &str, kind: &str) -> String {
    format!("{prefix}.{}.{}", token(room), token(kind))
}

/// The room and the kind that a subject names; nothing if it is none of ours.
pub fn named_by(prefix: &str, subject: &str) -> Option<(String, String)> {
    let (room, kind) = subject.strip_prefix(prefix)?.strip_prefix('.')?.split_once('.')?;
    Some((name_of(room)?, name_of(kind)?)).filter(|_| !kind.contains('.'))
}

/// What the subjects of all facts of a room fit.
pub(super) fn of_room(prefix: &str, room: &str) -> String {
    format!("{prefix}.{}.*", token(room))
}

/// True if everything that fits one pattern of subjects fits the other.
pub(super) fn covers(wide: &str, narrow: &str) -> bool {
    let (mut wide, mut narrow) = (wide.split('.'), narrow.split('.'));
    loop {
        match (wide.next(), narrow.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_name_is_one_token_and_is_read_back(room in ".{0,64}", kind in "\\PC{0,32}") {
            let subject = subject_of("a.b", &room, &kind);
            prop_assert_eq!(subject.split('.').count(), 4);
            prop_assert!(subject.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'*' && byte != b'>'), "{}", subject);
            prop_assert!(covers(&of_room("a.b", &room), &subject));
            prop_assert_eq!(named_by("a.b", &subject), Some((room, kind)));
        }

        #[test]
        fn nonsense_names_nothing_and_breaks_nothing(text in ".{0,40}") {
            let _ = named_by("a", &format!("a.{text}"));
            let _ = (name_of(&text), covers(&text, "a.*.*"));
        }
    }

    #[test]
    fn a_pattern_covers_what_fits_it_and_no_more() {
        for wide in [">", "a.>", "a.b.>", "a.b.*.*", "*.b.*.*", "a.b.*.>"] {
            assert!(covers(wide, "a.b.*.*"), "{wide}");
        }
        for narrow in ["a.b.*", "a.b.*.door", "a.b.x.*", "b.>", "a.b.*.*.>", "a.b.*.*.*", ""] {
            assert!(!covers(narrow, "a.b.*.*"), "{narrow}");
        }
        assert!(!covers("a.*", "a.>"));
    }
}
