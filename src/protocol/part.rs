//! A part: values of components whose delivery is `latest`, as many as fit a datagram, as of one tick. Each part stands for itself.
//!
//! ```text
//! part   := groups * 2 + needs?, [ticks back to the ordered batch that must be in first], groups * group
//! group  := shift * 8 + components - 1, components * component, count, first net id, gaps, values
//! gaps   := (count - 1) times: (distance to the net id before) - 1, as a Rice code with that shift: the upper bits as so
//!           many ones and a zero, the lower ones as they are; from the lowest bit of the first byte on, padded with zeros
//! values := for each of the components in their order: the value of each net id
//! ```
//!
//! Integers are those of a [batch](super::batch). The Rice code is what random distances cost least in: Golomb, "Run-length encodings",
//! IEEE Trans. Inf. Theory 12 (1966), with the parameter a power of two (Rice, JPL 79-22).

use super::codec::{CodecError, Reader, write_varint};
use super::ids::NetId;
use super::limits::{ENTITIES_MAX, LATEST_MAX, PART_BYTES_MAX};

/// Most components of one group. Entities with more go into several.
const GROUP_COMPONENTS_MAX: usize = 8;

/// Largest shift of a Rice code: no net id is larger.
const SHIFT_MAX: u32 = 20;

/// Most bytes of one item, with what its values cost besides. The rest of an entity's values is another item, so that each fits a part: for the heads of a part and
/// of a group 20 bytes are kept.
const ITEM_BYTES_MAX: usize = PART_BYTES_MAX - 20;

/// What a value costs besides its bytes: the number of its component, and an eighth of a group's head.
const VALUE_COST: usize = 4;

/// One entity of a part, and which of its components; the bits are places among the protocol's latest components.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartItem {
    pub(crate) id: u32,
    pub(crate) mask: u64,
    /// Where the spans of its values begin.
    first: u32,
}

impl PartItem {
    /// The places of its components.
    #[cfg_attr(not(feature = "host"), expect(dead_code, reason = "what only a host repairs"))]
    pub(crate) fn ordinals(&self) -> impl Iterator<Item = u8> + use<> {
        let mask = self.mask;
        (0..LATEST_MAX as u8).filter(move |ordinal| mask >> ordinal & 1 == 1)
    }
}

/// Values that go into parts: gathered, then [written](Self::write). The buffers are kept from tick to tick.
#[derive(Debug, Default)]
pub(crate) struct PartSource {
    items: Vec<PartItem>,
    /// For each item, in the order of its components: where its value stands.
    spans: Vec<(u32, u32)>,
    /// What the last item takes.
    last: usize,
    /// Scratch: the ends of the gaps, and a part that grows.
    body: Vec<u8>,
}

impl PartSource {
    pub(crate) fn clear(&mut self) {
        self.items.clear();
        self.spans.clear();
        self.last = 0;
    }

    /// Adds a value of the component at place `ordinal`. Values come entity by entity, and of an entity in the order of the places.
    pub(crate) fn push(&mut self, id: u32, ordinal: usize, (start, end): (usize, usize)) {
        let cost = end.saturating_sub(start) + VALUE_COST;
        let fits = self.last + cost <= ITEM_BYTES_MAX;
        match self.items.last_mut().filter(|item| item.id == id && fits) {
            Some(item) => {
                item.mask |= 1 << ordinal;
                self.last += cost;
            }
            None => {
                self.items.push(PartItem { id, mask: 1 << ordinal, first: self.spans.len() as u32 });
                self.last = cost;
            }
        }
        self.spans.push((start as u32, end as u32));
    }

    /// Writes all that was gathered into parts of at most `max` bytes. `components` are the numbers of the latest components by their
    /// places, `values` where all values stand. `needs` says for an entity how many ticks back the ordered batch is that must be
    /// in first, or nothing if it is in for certain. Entities that need something go into parts of their own.
    ///
    /// A value that is larger than `max` less some forty bytes does not fit a part; the caller sees to that.
    pub(crate) fn write(
        &mut self,
        components: &[usize],
        values: &[u8],
        max: usize,
        mut needs: impl FnMut(u32) -> Option<u32>,
        mut emit: impl FnMut(&[u8], &[PartItem]),
    ) {
        let mut needed: Vec<PartItem> = Vec::new();
        if self.items.iter().any(|item| needs(item.id).is_some()) {
            (needed, self.items) = self.items.iter().partition(|item| needs(item.id).is_some());
        }
        for (items, back) in [(std::mem::take(&mut self.items), false), (needed, true)] {
            let back = if back { items.iter().filter_map(|item| needs(item.id)).min() } else { None };
            let mut items = items;
            // Stable: within a group the net ids ascend as they did.
            if items.iter().any(|item| Some(item.mask) != items.first().map(|first| first.mask)) {
                items.sort_by_key(|item| item.mask);
            }
            self.write_items(&items, back, components, values, max, &mut emit);
            if self.items.capacity() == 0 {
                self.items = items;
            }
        }
        self.clear();
    }

    fn write_items(
        &mut self,
        items: &[PartItem],
        back: Option<u32>,
        components: &[usize],
        values: &[u8],
        max: usize,
        emit: &mut impl FnMut(&[u8], &[PartItem]),
    ) {
        let (mut begin, mut groups) = (0, 0_u64);
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        let mut at = 0;
        let mut finish = |body: &mut Vec<u8>, groups: &mut u64, begin: &mut usize, end: usize| {
            if *groups > 0 {
                let mut part = Vec::with_capacity(body.len() + 8);
                write_varint(*groups * 2 + u64::from(back.is_some()), &mut part);
                back.iter().for_each(|back| write_varint(u64::from(*back), &mut part));
                part.extend_from_slice(body);
                emit(&part, items.get(*begin..end).unwrap_or_default());
            }
            body.clear();
            (*groups, *begin) = (0, end);
        };
        while let Some(first) = items.get(at) {
            let group = items.get(at..).unwrap_or_default();
            let group = group.get(..group.partition_point(|item| item.mask == first.mask)).unwrap_or_default();
            let shift = shift_for(group);
            let room = max.saturating_sub(body.len() + 10);
            let taken = self.fitting(group, shift, room);
            if taken == 0 && groups > 0 {
                finish(&mut body, &mut groups, &mut begin, at);
                continue;
            }
            // One that fits no part goes out all the same: the caller keeps such values away.
            let taken = group.get(..taken.max(1)).unwrap_or_default();
            groups += self.write_group(taken, shift, components, values, &mut body);
            at += taken.len();
        }
        finish(&mut body, &mut groups, &mut begin, at);
        self.body = body;
    }

    /// How many of a group fit into so many bytes.
    fn fitting(&self, group: &[PartItem], shift: u32, room: usize) -> usize {
        let Some(first) = group.first() else { return 0 };
        let sets = first.mask.count_ones() as usize;
        // Heads: of each eight components one, with the ids again.
        let heads = sets.div_ceil(GROUP_COMPONENTS_MAX);
        let mut bytes = heads * 10 + sets * 2;
        let (mut bits, mut before) = (0_usize, first.id);
        for (count, item) in group.iter().enumerate() {
            let spans = self.spans.get(item.first as usize..item.first as usize + sets).unwrap_or_default();
            bytes += spans.iter().map(|(start, end)| (end - start) as usize).sum::<usize>();
            if count > 0 {
                bits += ((item.id - before - 1) >> shift) as usize + 1 + shift as usize;
            }
            before = item.id;
            if bytes + heads * bits.div_ceil(8) > room {
                return count;
            }
        }
        group.len()
    }

    /// Appends a group, or several if its entities have more than eight components. Returns how many.
    fn write_group(&self, items: &[PartItem], shift: u32, components: &[usize], values: &[u8], out: &mut Vec<u8>) -> u64 {
        let mask = items.first().map_or(0, |item| item.mask);
        let ordinals: Vec<usize> = (0..LATEST_MAX).filter(|ordinal| mask >> ordinal & 1 == 1).collect();
        for (chunk_at, chunk) in ordinals.chunks(GROUP_COMPONENTS_MAX).enumerate() {
            out.push((shift * 8) as u8 + chunk.len() as u8 - 1);
            for ordinal in chunk {
                write_varint(components.get(*ordinal).copied().unwrap_or_default() as u64, out);
            }
            write_varint(items.len() as u64, out);
            write_gaps(items, shift, out);
            for nth in 0..chunk.len() {
                let nth = chunk_at * GROUP_COMPONENTS_MAX + nth;
                for item in items {
                    let (start, end) = self.spans.get(item.first as usize + nth).copied().unwrap_or_default();
                    out.extend_from_slice(values.get(start as usize..end as usize).unwrap_or_default());
                }
            }
        }
        ordinals.chunks(GROUP_COMPONENTS_MAX).len() as u64
    }
}

/// The shift with which the gaps between some net ids cost least: the logarithm of the mean gap times ln 2.
fn shift_for(items: &[PartItem]) -> u32 {
    let (Some(first), Some(last)) = (items.first(), items.last()) else { return 0 };
    let gaps = items.len().saturating_sub(1).max(1) as u64;
    // 0.69 in sixteenths.
    let scaled = u64::from((last.id - first.id).saturating_sub(gaps as u32)) * 11 / 16 / gaps;
    (u64::BITS - scaled.leading_zeros()).saturating_sub(1).min(SHIFT_MAX)
}

fn write_gaps(items: &[PartItem], shift: u32, out: &mut Vec<u8>) {
    let Some((first, rest)) = items.split_first() else { return };
    write_varint(u64::from(first.id), out);
    let (mut bits, mut used, mut before) = (0_u64, 0_u32, first.id);
    let mut put = |value: u64, count: u32, out: &mut Vec<u8>| {
        bits |= value << used;
        used += count;
        while used >= 8 {
            out.push(bits as u8);
            bits >>= 8;
            used -= 8;
        }
        if count == 0 && used > 0 {
            out.push(bits as u8);
        }
    };
    for item in rest {
        let gap = item.id - before - 1;
        before = item.id;
        let mut ones = gap >> shift;
        while ones > 30 {
            put((1 << 30) - 1, 30, out);
            ones -= 30;
        }
        // The zero after the ones is the bit above them.
        put((1 << ones) - 1, ones + 1, out);
        if shift > 0 {
            put(u64::from(gap & ((1 << shift) - 1)), shift, out);
        }
    }
    put(0, 0, out);
}

fn read_gaps(reader: &mut Reader<'_>, count: usize, shift: u32, ids: &mut Vec<NetId>) -> Result<(), CodecError> {
    let at = reader.at();
    let too_large = |id: u64| CodecError::TooLarge { what: "net id", value: id, max: ENTITIES_MAX as u64 - 1, at };
    let first = reader.varint()?;
    if first >= ENTITIES_MAX as u64 {
        return Err(too_large(first));
    }
    ids.push(NetId(first as u32));
    let (mut bits, mut left, mut id) = (0_u8, 0_u32, first);
    let mut take = |reader: &mut Reader<'_>| -> Result<u64, CodecError> {
        if left == 0 {
            (bits, left) = (reader.byte()?, 8);
        }
        let bit = bits & 1;
        (bits, left) = (bits >> 1, left - 1);
        Ok(u64::from(bit))
    };
    for _ in 1..count {
        let mut ones = 0_u64;
        while take(reader)? == 1 {
            ones += 1;
        }
        let mut gap = ones << shift;
        for place in 0..shift {
            gap |= take(reader)? << place;
        }
        id += gap + 1;
        if id >= ENTITIES_MAX as u64 {
            return Err(too_large(id));
        }
        ids.push(NetId(id as u32));
    }
    Ok(())
}

/// How many ticks back the ordered batch is that must be in before a part: `None` if the part needs none.
///
/// # Errors
/// If the part's head is malformed.
#[cfg_attr(not(feature = "client"), expect(dead_code, reason = "what only a replica asks"))]
pub(crate) fn part_needs(part: &[u8]) -> Result<Option<u32>, CodecError> {
    let mut reader = Reader::new(part);
    if reader.varint()? % 2 == 0 { Ok(None) } else { reader.varint_u32("ticks back").map(Some) }
}

/// Takes the values of a part. What is read of `input` must be exactly the value.
pub(crate) trait VisitPart {
    /// The value of one component of one entity.
    fn value(&mut self, component: usize, id: NetId, input: &mut Reader<'_>) -> Result<(), CodecError>;
}

/// Reads a part.
///
/// # Errors
/// If it is malformed, or if the visitor says so. The visitor has then seen some of it.
pub(crate) fn read_part(part: &[u8], visitor: &mut impl VisitPart) -> Result<(), CodecError> {
    let mut reader = Reader::new(part);
    let head = reader.varint()?;
    if head % 2 == 1 {
        reader.varint_u32("ticks back")?;
    }
    let (mut components, mut ids) = (Vec::new(), Vec::new());
    for _ in 0..head / 2 {
        let at = reader.at();
        let shape = u32::from(reader.byte()?);
        let shift = shape / 8;
        if shift > SHIFT_MAX {
            return Err(CodecError::TooLarge { what: "shift", value: u64::from(shift), max: u64::from(SHIFT_MAX), at });
        }
        components.clear();
        for _ in 0..shape % 8 + 1 {
            components.push(reader.varint_u32("component")? as usize);
        }
        let at = reader.at();
        let count = reader.varint()?;
        // Each costs at least a bit.
        let most = reader.rest().len() as u64 * 8;
        if count == 0 || count > most {
            return Err(CodecError::TooLarge { what: "values", value: count, max: most, at });
        }
        ids.clear();
        read_gaps(&mut reader, count as usize, shift, &mut ids)?;
        for component in &components {
            for id in &ids {
                visitor.value(*component, *id, &mut reader)?;
            }
        }
    }
    reader.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    #[derive(Default)]
    struct Read(BTreeMap<(usize, u32), u8>);

    impl VisitPart for Read {
        fn value(&mut self, component: usize, id: NetId, input: &mut Reader<'_>) -> Result<(), CodecError> {
            // A value is its length, then so many times itself.
            let size = input.byte()?;
            input.bytes(usize::from(size))?;
            assert_eq!(self.0.insert((component, id.get()), size), None, "a value stands once");
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn what_is_gathered_comes_out_in_parts_that_fit(
            values in prop::collection::btree_map(0..60_000_u32, prop::collection::btree_map(0..20_usize, 0..50_u8, 1..12), 1..200),
            fresh in 0..60_000_u32,
        ) {
            let components: Vec<usize> = (0..20).map(|ordinal| ordinal * 300).collect();
            let (mut source, mut bytes) = (PartSource::default(), Vec::new());
            for (id, of_entity) in &values {
                for (ordinal, size) in of_entity {
                    let start = bytes.len();
                    bytes.push(*size);
                    bytes.resize(bytes.len() + usize::from(*size), *size);
                    source.push(*id, *ordinal, (start, bytes.len()));
                }
            }
            let (mut read, mut named) = (Read::default(), 0);
            let needs = |id: u32| (id >= fresh).then_some(id % 7);
            source.write(&components, &bytes, 1_150, needs, |part, items| {
                assert!(part.len() <= 1_150, "{}", part.len());
                let wanted = items.iter().filter_map(|item| needs(item.id)).min();
                assert!(items.iter().all(|item| needs(item.id).is_some() == wanted.is_some()));
                assert_eq!(part_needs(part).unwrap().is_some(), wanted.is_some());
                assert!(part_needs(part).unwrap() <= wanted);
                read_part(part, &mut read).unwrap();
                named += items.iter().map(|item| item.mask.count_ones() as usize).sum::<usize>();
            });
            let wanted: BTreeMap<(usize, u32), u8> =
                values.iter().flat_map(|(id, of)| of.iter().map(|(ordinal, size)| ((ordinal * 300, *id), *size))).collect();
            prop_assert_eq!(named, wanted.len());
            prop_assert_eq!(read.0, wanted);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut count = 0;
            struct Count<'a>(&'a mut usize);
            impl VisitPart for Count<'_> {
                fn value(&mut self, _: usize, _: NetId, input: &mut Reader<'_>) -> Result<(), CodecError> {
                    *self.0 += 1;
                    input.byte().map(drop)
                }
            }
            let _ = read_part(&bytes, &mut Count(&mut count));
            let _ = part_needs(&bytes);
        }
    }

    #[test]
    fn values_of_one_entity_that_are_more_than_a_part_together_go_in_several() {
        // Two large ones; three of the largest; as many as there can be; and some that just don't fit.
        for (count, size) in [(2, 700), (3, 1_024), (LATEST_MAX, 18), (12, 100)] {
            let (mut source, bytes) = (PartSource::default(), vec![7; count * size]);
            (0..count).for_each(|nth| source.push(5, nth, (nth * size, (nth + 1) * size)));
            source.push(6, 0, (0, size));
            let components: Vec<usize> = (0..count).collect();
            let (mut sizes, mut told) = (Vec::new(), 0);
            source.write(
                &components,
                &bytes,
                PART_BYTES_MAX,
                |_| None,
                |part, items| {
                    sizes.push(part.len());
                    told += items.iter().map(|item| item.mask.count_ones() as usize).sum::<usize>();
                },
            );
            assert!(told == count + 1 && sizes.iter().all(|size| *size <= PART_BYTES_MAX), "{count} of {size}: {sizes:?}");
        }
    }

    #[test]
    fn a_hundred_of_a_thousand_entities_cost_five_bits_each() {
        let mut source = PartSource::default();
        let mut id = 0;
        for n in 0..100_u32 {
            id += 1 + n * 7 % 19;
            source.push(id, 0, (0, 1));
        }
        let mut sizes = Vec::new();
        source.write(&[3], &[0], 1_150, |_| None, |part, _| sizes.push(part.len()));
        assert!(sizes.len() == 1 && sizes[0] <= 100 + 65 + 6, "{sizes:?}");
    }
}
