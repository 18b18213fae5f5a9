//! The packets of a round until they are taken. Where they are almost as long as each other they are made so, since the system then takes
//! them at once: three for little more than what one costs.

use std::sync::Arc;

use crate::protocol::PADDING;
use crate::room::Part;

/// Most bytes of padding in a packet.
const PADDING_MAX: usize = 32;

/// A packet to be sent: what is its own, and a part that it shares with other members' packets.
#[derive(Debug)]
pub(super) struct Packet {
    /// Where its own bytes stand in the buffer.
    pub(super) own: (usize, usize),
    /// How many of them are its head. The padding follows it.
    pub(super) head: usize,
    pub(super) padding: usize,
    pub(super) shared: Option<Arc<Part>>,
}

impl Packet {
    pub(super) fn bytes(&self) -> usize {
        self.own.1 - self.own.0 + self.padding + self.shared.as_ref().map_or(0, |part| part.body.len())
    }

    /// Hands over the two pieces that it consists of. `padded` is a buffer.
    pub(super) fn hand_over(&self, buffer: &[u8], padded: &mut Vec<u8>, mut send: impl FnMut(&[u8], &[u8])) {
        let own = buffer.get(self.own.0..self.own.1).unwrap_or_default();
        let shared = self.shared.as_ref().map_or(&[][..], |part| &part.body);
        let Some((head, frames)) = own.split_at_checked(self.head).filter(|_| self.padding > 0) else { return send(own, shared) };
        padded.clear();
        padded.extend_from_slice(head);
        padded.resize(head.len() + self.padding, PADDING);
        padded.extend_from_slice(frames);
        send(padded, shared);
    }
}

/// Gives packets that follow each other the same size, where that takes little; but the last of them, which may be shorter.
pub(super) fn level(mut packets: &mut [Packet]) {
    while packets.len() > 1 {
        let (count, size) = together(packets.iter().map(Packet::bytes));
        let (these, others) = packets.split_at_mut(count.clamp(1, packets.len()));
        if let Some((_, these)) = these.split_last_mut() {
            these.iter_mut().for_each(|packet| packet.padding += size - packet.bytes());
        }
        packets = others;
    }
}

/// How many of these can be sent at once, from the first on, and the size of all but the last.
fn together(sizes: impl Iterator<Item = usize>) -> (usize, usize) {
    let (mut count, mut least, mut most) = (0, usize::MAX, 0);
    for size in sizes {
        if count > 0 && size > most && size - least > PADDING_MAX {
            break;
        }
        count += 1;
        (least, most) = (least.min(size), most.max(size));
        if most - least > PADDING_MAX {
            // Much shorter than the others: it is the last.
            break;
        }
    }
    (count, most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packets(sizes: &[usize]) -> Vec<Packet> {
        sizes.iter().map(|size| Packet { own: (0, *size), head: 4, padding: 0, shared: None }).collect()
    }

    fn leveled(sizes: &[usize]) -> Vec<usize> {
        let mut packets = packets(sizes);
        level(&mut packets);
        packets.iter().map(Packet::bytes).collect()
    }

    #[test]
    fn packets_of_almost_one_size_get_it_and_the_last_stays_as_it_is() {
        assert_eq!(leveled(&[1_170, 1_180, 600]), [1_180, 1_180, 600]);
        assert_eq!(leveled(&[1_180, 1_170, 1_175]), [1_180, 1_180, 1_175]);
        assert_eq!(leveled(&[1_180, 400, 1_170, 1_180]), [1_180, 400, 1_180, 1_180]);
        assert_eq!(leveled(&[100, 1_180]), [100, 1_180]);
        assert_eq!(leveled(&[7]), [7]);
        assert_eq!(leveled(&[]), [0; 0]);
    }

    proptest! {
        #[test]
        fn padding_is_little_and_makes_no_packet_the_largest(sizes in prop::collection::vec(10..1_200_usize, 0..20)) {
            let after = leveled(&sizes);
            prop_assert!(sizes.iter().zip(&after).all(|(before, after)| (*before..=before + PADDING_MAX).contains(after)));
            prop_assert_eq!(sizes.iter().max(), after.iter().max());
        }

        #[test]
        fn padding_stands_behind_the_head(padding in 0..40_usize, bytes in prop::collection::vec(any::<u8>(), 4..50)) {
            let packet = Packet { own: (0, bytes.len()), head: 4, padding, shared: None };
            let mut came = Vec::new();
            packet.hand_over(&bytes, &mut Vec::new(), |own, _| came = own.to_vec());
            prop_assert_eq!(came, [&bytes[..4], &vec![PADDING; padding], &bytes[4..]].concat());
        }
    }
}
