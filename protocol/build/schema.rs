//! Reads message tables (`schemas/*.schema`, described in `schemas/README.md`) and the table of APIs
//! (`schemas/apis.table`). Used by the generator at build time, and by the tests as an independent witness.

use std::fmt::{self, Display};

/// A range of versions; `high` is `i16::MAX` where the table says `3+`, and `low > high` where it says `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Versions {
    /// The first version in the range.
    pub(crate) low: i16,
    /// The last version in the range.
    pub(crate) high: i16,
}

impl Versions {
    /// No version at all.
    pub(crate) const NONE: Versions = Versions { low: 1, high: 0 };

    /// Parses `none`, `3`, `3+` or `3-7`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let number = |digits: &str| digits.parse::<i16>().map_err(|_| format!("`{text}` is not a range of versions"));
        if text == "none" {
            Ok(Self::NONE)
        } else if let Some(low) = text.strip_suffix('+') {
            Ok(Self { low: number(low)?, high: i16::MAX })
        } else if let Some((low, high)) = text.split_once('-') {
            Ok(Self { low: number(low)?, high: number(high)? })
        } else {
            Ok(Self { low: number(text)?, high: number(text)? })
        }
    }

    /// Whether the range holds nothing.
    pub(crate) fn is_empty(self) -> bool {
        self.low > self.high
    }

    /// Whether the version lies in the range.
    pub(crate) fn contains(self, version: i16) -> bool {
        self.low <= version && version <= self.high
    }

    /// What both ranges hold.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { low: self.low.max(other.low), high: self.high.min(other.high) }
    }
}

impl Display for Versions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            range if range.is_empty() => out.write_str("none"),
            Self { low, high: i16::MAX } => write!(out, "{low}+"),
            Self { low, high } if low == high => write!(out, "{low}"),
            Self { low, high } => write!(out, "{low}-{high}"),
        }
    }
}

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// From a client.
    Request,
    /// To a client.
    Response,
    /// In front of a request or response.
    Header,
    /// Embedded in a `bytes` field, after a two-byte version.
    Data,
    /// The key of a record of a coordinator's topic, after the two-byte type of the record.
    CoordinatorKey,
    /// The value of a record of a coordinator's topic, after a two-byte version.
    CoordinatorValue,
}

impl Kind {
    fn parse(word: &str) -> Result<Self, String> {
        Ok(match word {
            "request" => Self::Request,
            "response" => Self::Response,
            "header" => Self::Header,
            "data" => Self::Data,
            "coordinator-key" => Self::CoordinatorKey,
            "coordinator-value" => Self::CoordinatorValue,
            _ => return Err(format!("`{word}` is no kind of message")),
        })
    }
}

/// One table.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// What it is for.
    pub(crate) kind: Kind,
    /// Kafka's name, for instance `FetchRequest`.
    pub(crate) name: String,
    /// The API's key, or the type of a coordinator's record.
    pub(crate) api: Option<i16>,
    /// The versions there are.
    pub(crate) versions: Versions,
    /// The versions with compact lengths and tagged fields.
    pub(crate) flexible: Versions,
    /// All structs, the message itself first, each under a name of its own.
    pub(crate) structs: Vec<Struct>,
}

/// A group of fields: the message itself, or the element of an array.
#[derive(Debug, Clone)]
pub(crate) struct Struct {
    /// Kafka's name.
    pub(crate) name: String,
    /// In the order in which they are on the wire.
    pub(crate) fields: Vec<Field>,
}

/// One line of a table.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    /// Kafka's name, for instance `TopicId`.
    pub(crate) name: String,
    /// What it holds.
    pub(crate) kind: FieldType,
    /// The versions that have the field.
    pub(crate) versions: Versions,
    /// The versions in which it may be null.
    pub(crate) nullable: Versions,
    /// Its tag, and the versions in which it is a tagged field.
    pub(crate) tag: Option<(u32, Versions)>,
    /// As written in the table; absent where it is what the type has anyway.
    pub(crate) default: Option<String>,
    /// Whether a version without the field drops a value instead of refusing it.
    pub(crate) ignorable: bool,
    /// Overrides the message's flexible versions for this field.
    pub(crate) flexible: Option<Versions>,
}

/// The types of fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FieldType {
    /// One byte, 0 or 1.
    Bool,
    /// A number of fixed width: the Rust type's name.
    Number(&'static str),
    /// UTF-8 with a length.
    String,
    /// Bytes with a length.
    Bytes,
    /// Record batches: bytes that are never copied.
    Records,
    /// 16 bytes.
    Uuid,
    /// A group of fields.
    Struct(String),
    /// Any number of elements of one type.
    Array(Box<FieldType>),
}

impl FieldType {
    fn parse(word: &str) -> Result<Self, String> {
        if let Some(element) = word.strip_prefix("[]") {
            return Ok(Self::Array(Box::new(Self::parse(element)?)));
        }
        Ok(match word {
            "bool" => Self::Bool,
            "int8" => Self::Number("i8"),
            "int16" => Self::Number("i16"),
            "int32" => Self::Number("i32"),
            "int64" => Self::Number("i64"),
            "uint16" => Self::Number("u16"),
            "uint32" => Self::Number("u32"),
            "float64" => Self::Number("f64"),
            "string" => Self::String,
            "bytes" => Self::Bytes,
            "records" => Self::Records,
            "uuid" => Self::Uuid,
            name if name.starts_with(|first: char| first.is_ascii_uppercase()) => Self::Struct(name.to_owned()),
            _ => return Err(format!("`{word}` is not a type")),
        })
    }

    /// The struct that it is, or is an array of.
    pub(crate) fn struct_name(&self) -> Option<&str> {
        match self {
            Self::Struct(name) => Some(name),
            Self::Array(element) => element.struct_name(),
            _ => None,
        }
    }
}

impl Message {
    /// Parses a table; `file` is for the error.
    pub(crate) fn parse(file: &str, text: &str) -> Result<Self, String> {
        let mut message = None;
        let mut open: Vec<usize> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let content = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = content.split_whitespace().collect();
            let depth = (content.len() - content.trim_start().len()) / 2;
            if !words.is_empty() {
                add_line(&mut message, &mut open, depth, &words)
                    .map_err(|error| format!("{file}:{}: {error}", index + 1))?;
            }
        }
        let message = message.ok_or_else(|| format!("{file}: the table is empty"))?;
        message.check().map_err(|error| format!("{file}: {error}"))?;
        Ok(message)
    }

    /// The struct of that name.
    pub(crate) fn find(&self, name: &str) -> Option<&Struct> {
        self.structs.iter().find(|candidate| candidate.name == name)
    }

    fn check(&self) -> Result<(), String> {
        for (index, group) in self.structs.iter().enumerate() {
            if self.structs[..index].iter().any(|other| other.name == group.name) {
                return Err(format!("struct {} is there twice", group.name));
            }
            for field in &group.fields {
                match field.kind.struct_name() {
                    Some(name) if self.find(name).is_none() => {
                        return Err(format!("{}.{}: there is no struct {name}", group.name, field.name));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn from_words(words: &[&str]) -> Result<Self, String> {
        let [kind, name, attributes @ ..] = words else {
            return Err("the first line needs a kind and a name".to_owned());
        };
        let mut message = Self {
            kind: Kind::parse(kind)?,
            name: (*name).to_owned(),
            api: None,
            versions: Versions::NONE,
            flexible: Versions::NONE,
            structs: vec![Struct { name: (*name).to_owned(), fields: Vec::new() }],
        };
        for word in attributes {
            match word.split_once('=') {
                Some(("api", id)) => message.api = Some(id.parse().map_err(|_| format!("`{id}` is not an id"))?),
                Some(("versions", range)) => message.versions = Versions::parse(range)?,
                Some(("flexible", range)) => message.flexible = Versions::parse(range)?,
                Some(("unstable", "true")) => {}
                _ => return Err(format!("unknown attribute `{word}`")),
            }
        }
        if message.versions.is_empty() || message.versions.high == i16::MAX {
            return Err("a message needs versions=LOW-HIGH".to_owned());
        }
        Ok(message)
    }
}

impl Field {
    fn from_words(words: &[&str]) -> Result<Self, String> {
        let [name, kind, versions, attributes @ ..] = words else {
            return Err("a field needs a name, a type and versions".to_owned());
        };
        let versions = Versions::parse(versions)?;
        let mut field = Self {
            name: (*name).to_owned(),
            kind: FieldType::parse(kind)?,
            versions,
            nullable: Versions::NONE,
            tag: None,
            default: None,
            ignorable: false,
            flexible: None,
        };
        for word in attributes {
            match word.split_once('=') {
                Some(("null", range)) => field.nullable = Versions::parse(range)?,
                Some(("tag", id)) => {
                    field.tag = Some((id.parse().map_err(|_| format!("`{id}` is not a tag"))?, versions))
                }
                Some(("tagged", range)) => {
                    let (id, _) = field.tag.ok_or("`tagged` comes after `tag`")?;
                    field.tag = Some((id, Versions::parse(range)?));
                }
                Some(("default", text)) => field.default = Some(text.to_owned()),
                Some(("flexible", range)) => field.flexible = Some(Versions::parse(range)?),
                None if *word == "ignorable" => field.ignorable = true,
                _ => return Err(format!("unknown attribute `{word}`")),
            }
        }
        Ok(field)
    }
}

/// Adds one line to what was read so far. `open[d]` is the index of the struct that a line at depth `d + 1` belongs to.
fn add_line(message: &mut Option<Message>, open: &mut Vec<usize>, depth: usize, words: &[&str]) -> Result<(), String> {
    let Some(message) = message else {
        *message = Some(Message::from_words(words)?);
        open.push(0);
        return Ok(());
    };
    if depth == 0 {
        let ["struct", name] = words else { return Err("expected `struct NAME`".to_owned()) };
        *open = vec![message.structs.len()];
        message.structs.push(Struct { name: (*name).to_owned(), fields: Vec::new() });
        return Ok(());
    }
    if depth > open.len() {
        return Err("indented too far: its parent is not a struct".to_owned());
    }
    open.truncate(depth);
    let parent = open[depth - 1];
    if parent == message.structs.len() {
        // The first line below a field of a struct type defines that struct.
        let above = message.structs[open[depth - 2]].fields.last().and_then(|field| field.kind.struct_name());
        let name = above.ok_or("its parent is not a struct")?.to_owned();
        message.structs.push(Struct { name, fields: Vec::new() });
    }
    let field = Field::from_words(words)?;
    if field.kind.struct_name().is_some() {
        open.push(message.structs.len());
    }
    message.structs[parent].fields.push(field);
    Ok(())
}

/// One line of `apis.table`.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    /// The API's key.
    pub(crate) id: i16,
    /// Kafka's name, for instance `Fetch`.
    pub(crate) name: String,
    /// The versions that a release of Kafka announces; none where Kafka 4 removed the API.
    pub(crate) versions: Versions,
    /// The versions with a flexible header.
    pub(crate) flexible: Versions,
    /// Whether brokers (and not only controllers) answer it.
    pub(crate) on_brokers: bool,
}

/// Parses the table of APIs: Kafka's version, and the APIs in the order of their ids.
pub(crate) fn parse_apis(file: &str, text: &str) -> Result<(String, Vec<Api>), String> {
    let mut release = None;
    let mut apis = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        match words[..] {
            [] => {}
            ["kafka", version] => release = Some(version.to_owned()),
            [id, name, versions, flexible, listeners] => apis.push(Api {
                id: id.parse().map_err(|_| format!("{file}:{}: `{id}` is not an id", index + 1))?,
                name: name.to_owned(),
                versions: Versions::parse(versions)?,
                flexible: Versions::parse(flexible)?,
                on_brokers: listeners.split(',').any(|listener| listener == "broker"),
            }),
            _ => return Err(format!("{file}:{}: expected five columns", index + 1)),
        }
    }
    Ok((release.ok_or_else(|| format!("{file}: no line `kafka VERSION`"))?, apis))
}
