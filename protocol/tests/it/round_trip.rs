//! Every message in every version: bytes made from its table are decoded, encoded again, and come out the same.

use bytes::Bytes;
use proptest::prelude::*;
use protocol::{MessageInfo, Reader, Writer, messages};

use crate::schema::{Kind, Message};
use crate::wire::{self, Dice};

/// The table and the generated code of each message.
pub(crate) fn pairs() -> Vec<(Message, &'static MessageInfo)> {
    let tables = wire::tables();
    assert_eq!(tables.len(), messages::ALL.len());
    let pair = |table: Message| {
        let info = messages::ALL.iter().find(|info| info.name == table.name).unwrap();
        (table, *info)
    };
    tables.into_iter().map(pair).collect()
}

/// Decodes and encodes again.
fn again(info: &MessageInfo, version: i16, bytes: &Bytes) -> Bytes {
    let mut reader = Reader::new(bytes.clone());
    let message = (info.decode)(&mut reader, version).unwrap_or_else(|error| panic!("{info:?} v{version}: {error}"));
    assert_eq!(reader.remaining(), 0, "{info:?} v{version}");
    let mut writer = Writer::new();
    message.encode_any(&mut writer, version).unwrap_or_else(|error| panic!("{info:?} v{version}: {error}"));
    writer.into_message()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_message_of_every_version_comes_back(seed: u64) {
        let mut dice = Dice::new(seed);
        for (table, info) in pairs() {
            for version in table.versions.low..=table.versions.high {
                let bytes = Bytes::from(wire::random_message(&table, version, &mut dice));
                prop_assert_eq!(again(info, version, &bytes), bytes, "{} v{}", table.name, version);
            }
        }
    }
}

#[test]
fn the_facts_of_the_tables_are_those_of_the_code() {
    for (table, info) in pairs() {
        assert_eq!((info.min, info.max), (table.versions.low, table.versions.high), "{}", table.name);
        assert_eq!(info.api, table.api);
        if table.kind == Kind::Request {
            assert!(info.name.ends_with("Request"));
        }
    }
}

#[test]
fn a_version_that_a_message_lacks_is_refused() {
    for (table, info) in pairs() {
        for version in [table.versions.low - 1, table.versions.high + 1, i16::MIN, i16::MAX] {
            let error = (info.decode)(&mut Reader::new(Bytes::from_static(&[0; 64])), version).unwrap_err();
            assert!(error.to_string().contains("has no version"), "{error}");
        }
    }
}
