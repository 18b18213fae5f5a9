//! What may stand in names of NATS: asked by what publishes there, and by the configuration, which knows them in servers without it too.

/// The stream, unless another one is named.
pub(crate) const STREAM: &str = "ROOMKEEPER";

/// With what subjects begin, unless something else is named.
pub(crate) const PREFIX: &str = "roomkeeper.facts";

/// What stands as it is in a name.
pub(super) fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// True if a text is the name of a stream.
pub(crate) fn is_stream(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(is_plain)
}

/// True if a text is a prefix of subjects: tokens with dots between them, none of them empty, without wildcards, and not the server's own.
pub(crate) fn is_prefix(text: &str) -> bool {
    let is_token = |token: &str| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'*' && byte != b'>');
    text.len() <= 128 && !text.starts_with(['$', '_']) && text.split('.').all(is_token)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nonsense_breaks_nothing(text in ".{0,40}") {
            let _ = (is_prefix(&text), is_stream(&text));
        }
    }

    #[test]
    fn a_prefix_is_nothing_that_widens() {
        assert!(["roomkeeper.facts", "a", "A-b_1.c"].into_iter().all(is_prefix));
        assert!(!["", ".", "a.", ".a", "a..b", "a.*", "a.>", "a b", "$JS.API", "_INBOX.a", "ä"].into_iter().any(is_prefix));
    }
}
