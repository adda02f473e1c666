//! Bytes of messages, made straight from the tables by an interpreter that shares nothing with the generated code but
//! the parser of the tables. They are canonical: a tagged field is there only if it differs from its default.

use std::fs;
use std::path::Path;

use crate::schema::{Field, FieldType, Message, Struct};

/// All tables.
pub(crate) fn tables() -> Vec<Message> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "schema"));
    paths.sort();
    let parse = |path: &std::path::PathBuf| {
        Message::parse(&path.display().to_string(), &fs::read_to_string(path).unwrap()).unwrap()
    };
    paths.iter().map(parse).collect()
}

/// Numbers that follow from a seed (xorshift).
pub(crate) struct Dice(u64);

impl Dice {
    /// The same seed, the same numbers.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.bits() >> 33).unwrap() % limit
    }

    /// True once in `times`.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// The bytes of a random value of the message in a version.
pub(crate) fn random_message(message: &Message, version: i16, dice: &mut Dice) -> Vec<u8> {
    let mut wire = Wire { message, version, flexible: message.flexible.contains(version), bytes: Vec::new() };
    wire.group(&message.structs[0], Some(dice));
    wire.bytes
}

struct Wire<'a> {
    message: &'a Message,
    version: i16,
    flexible: bool,
    bytes: Vec<u8>,
}

/// Without dice: the default.
impl<'a> Wire<'a> {
    fn group(&mut self, group: &'a Struct, mut dice: Option<&mut Dice>) {
        let version = self.version;
        let is_tagged = |field: &&Field| field.tag.is_some_and(|(_, range)| range.contains(version));
        let present: Vec<&Field> = group.fields.iter().filter(|field| field.versions.contains(version)).collect();
        for field in present.iter().filter(|field| !is_tagged(field)) {
            self.field(field, false, dice.as_deref_mut());
        }
        if self.flexible {
            let mut tagged: Vec<&Field> = present.into_iter().filter(is_tagged).collect();
            tagged.sort_by_key(|field| field.tag.unwrap().0);
            self.tags(&tagged, dice);
        }
    }

    fn tags(&mut self, fields: &[&'a Field], mut dice: Option<&mut Dice>) {
        let mut tags = Vec::new();
        for field in fields {
            let default = self.aside(|wire| wire.field(field, true, None));
            let value = self.aside(|wire| wire.field(field, true, dice.as_deref_mut()));
            if value != default {
                tags.push((field.tag.unwrap().0, value));
            }
        }
        if let Some(dice) = dice {
            let mut tag = 100;
            while dice.once_in(12) {
                tag += 1 + u32::try_from(dice.below(1000)).unwrap();
                tags.push((tag, (0..dice.below(200)).map(|_| 0xAA).collect()));
            }
        }
        self.varint(u32::try_from(tags.len()).unwrap());
        for (tag, content) in tags {
            self.varint(tag);
            self.varint(u32::try_from(content.len()).unwrap());
            self.bytes.extend(content);
        }
    }

    fn aside(&mut self, work: impl FnOnce(&mut Self)) -> Vec<u8> {
        let before = std::mem::take(&mut self.bytes);
        work(self);
        std::mem::replace(&mut self.bytes, before)
    }

    fn field(&mut self, field: &'a Field, is_tagged: bool, mut dice: Option<&mut Dice>) {
        let flexible = self.flexible;
        self.flexible &= field.flexible.is_none_or(|range| range.contains(self.version));
        let nullable = field.nullable.contains(self.version);
        let null_default = field.default.as_deref() == Some("null")
            || (field.kind == FieldType::Records && field.default.is_none() && nullable);
        let null = nullable && dice.as_deref_mut().map_or(null_default, |dice| dice.once_in(4));
        match (&field.kind, null) {
            (FieldType::Struct(_), true) => self.bytes.push(if is_tagged { 0 } else { 0xff }),
            (FieldType::String, true) if !self.flexible => self.bytes.extend([0xff; 2]),
            (_, true) if !self.flexible => self.bytes.extend([0xff; 4]),
            (_, true) => self.bytes.push(0),
            (kind, false) => {
                if nullable && matches!(kind, FieldType::Struct(_)) {
                    self.bytes.push(1);
                }
                match dice {
                    Some(dice) => self.random(kind, dice),
                    None => self.default(kind, field.default.as_deref()),
                }
            }
        }
        self.flexible = flexible;
    }

    fn default(&mut self, kind: &'a FieldType, text: Option<&str>) {
        let number: i64 = text.and_then(|text| text.parse().ok()).unwrap_or(0);
        match kind {
            FieldType::Bool => self.bytes.push(u8::from(text == Some("true"))),
            FieldType::Number(name) => self.number(name, number.cast_unsigned()),
            FieldType::Uuid => self.bytes.extend([0; 16]),
            FieldType::String => self.short_length(0),
            FieldType::Bytes | FieldType::Records | FieldType::Array(_) => self.long_length(0),
            FieldType::Struct(name) => self.group(self.message.find(name).unwrap(), None),
        }
    }

    fn random(&mut self, kind: &'a FieldType, dice: &mut Dice) {
        match kind {
            FieldType::Bool => self.bytes.push(u8::from(dice.once_in(2))),
            FieldType::Number(name) => self.number(name, dice.bits()),
            FieldType::Uuid => self.bytes.extend((0..16).map(|_| dice.bits().to_le_bytes()[0])),
            FieldType::String => {
                let text: String = (0..length(dice, 300)).map(|_| ['a', '.', 'é', '雪'][dice.below(4)]).collect();
                self.short_length(text.len());
                self.bytes.extend(text.bytes());
            }
            FieldType::Bytes | FieldType::Records => {
                let content = vec![0x5A; length(dice, 6000)];
                self.long_length(content.len());
                self.bytes.extend(content);
            }
            FieldType::Array(element) => {
                let most = if element.struct_name().is_some() { 4 } else { 200 };
                let count = dice.below(4).max(if dice.once_in(20) { dice.below(most) } else { 0 });
                self.long_length(count);
                for _ in 0..count {
                    self.random(element, dice);
                }
            }
            FieldType::Struct(name) => self.group(self.message.find(name).unwrap(), Some(dice)),
        }
    }

    fn number(&mut self, name: &str, bits: u64) {
        let bytes = bits.to_be_bytes();
        let width = match name {
            "i8" => 1,
            "i16" | "u16" => 2,
            "i32" | "u32" => 4,
            _ => 8,
        };
        self.bytes.extend(&bytes[8 - width..]);
    }

    fn short_length(&mut self, length: usize) {
        if self.flexible {
            self.varint(u32::try_from(length + 1).unwrap());
        } else {
            self.bytes.extend(i16::try_from(length).unwrap().to_be_bytes());
        }
    }

    fn long_length(&mut self, length: usize) {
        if self.flexible {
            self.varint(u32::try_from(length + 1).unwrap());
        } else {
            self.bytes.extend(i32::try_from(length).unwrap().to_be_bytes());
        }
    }

    fn varint(&mut self, mut value: u32) {
        while value > 0x7f {
            self.bytes.push(0x80 | u8::try_from(value & 0x7f).unwrap());
            value >>= 7;
        }
        self.bytes.push(u8::try_from(value).unwrap());
    }
}

/// Mostly short, now and then long.
fn length(dice: &mut Dice, most: usize) -> usize {
    if dice.once_in(10) { dice.below(most) } else { dice.below(12) }
}
