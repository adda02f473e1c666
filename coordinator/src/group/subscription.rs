//! Topics named in a consumer's subscription.
//!
//! Layout (Kafka's `ConsumerProtocolSubscription`, whose version 0 is the head of all later ones): `int16` version,
//! `int32` count, then per topic an `int16` length and that many bytes of UTF-8. What follows is not for us.

use std::collections::BTreeSet;
use std::sync::Arc;

/// The topics in `metadata`, or `None` if it is not a subscription. Allocates no more than `metadata` is long.
pub(super) fn subscribed_topics(metadata: &[u8]) -> Option<BTreeSet<Arc<str>>> {
    let (version, rest) = split_i16(metadata)?;
    if version < 0 {
        return None;
    }
    let (count, mut rest) = rest.split_at_checked(4)?;
    let count = i32::from_be_bytes(count.try_into().ok()?);
    let mut topics = BTreeSet::new();
    for _ in 0..count {
        let (length, after) = split_i16(rest)?;
        let (name, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
        topics.insert(Arc::from(std::str::from_utf8(name).ok()?));
        rest = after;
    }
    Some(topics)
}

/// How many topics [`subscribed_topics`] finds, without keeping them; 0 if it is not a subscription.
pub(super) fn count_topics(metadata: &[u8]) -> usize {
    let Some((count, mut rest)) = metadata.get(2..).and_then(<[u8]>::split_first_chunk::<4>) else { return 0 };
    let count = i32::from_be_bytes(*count);
    for _ in 0..count {
        let name = split_i16(rest).and_then(|(length, after)| after.get(usize::try_from(length).ok()?..));
        let Some(after) = name else { return 0 };
        rest = after;
    }
    usize::try_from(count).unwrap_or(0)
}

fn split_i16(bytes: &[u8]) -> Option<(i16, &[u8])> {
    let (number, rest) = bytes.split_at_checked(2)?;
    Some((i16::from_be_bytes(number.try_into().ok()?), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_from_every_version_of_the_subscription() {
        let bytes = b"\x00\x03\x00\x00\x00\x02\x00\x01a\x00\x02bc\xff\xff\xff\xff";
        let names: Vec<_> = subscribed_topics(bytes).unwrap().into_iter().collect();
        assert_eq!(names, [Arc::from("a"), Arc::from("bc")]);
        assert_eq!(count_topics(bytes), 2);
    }

    #[test]
    fn a_lying_count_or_length_is_refused() {
        assert_eq!(subscribed_topics(b""), None);
        assert_eq!(subscribed_topics(b"\x00\x00\x7f\xff\xff\xff\x00\x01a"), None);
        assert_eq!(subscribed_topics(b"\x00\x00\x00\x00\x00\x01\x00\x09a"), None);
        assert_eq!(subscribed_topics(b"\x00\x00\x00\x00\x00\x01\xff\xffa"), None);
        assert_eq!(count_topics(b"\x00\x00\x7f\xff\xff\xff\x00\x01a"), 0);
    }
}
