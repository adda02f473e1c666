//! A record as one line of JSON: what `firn consume --json` prints and `firn produce --json` reads.
//!
//! ```text
//! {"topic":"t","partition":0,"offset":7,"timestamp":1700000000000,"key":"k","value":"v","headers":[{"key":"h","value":"x"}]}
//! ```
//!
//! A key, value or header value that is not UTF-8 is given as base64 under `key_base64`, `value_base64`. A timestamp of −1
//! is "none". On input, `topic` and `offset` are read over; a `key` or `value` that is not a string means its own
//! JSON text; `headers` may also be an object of strings; what is left out is null, none, or now. Rows of `firn sql --format json`
//! are read as well: their `timestamp` is RFC 3339, and the columns that a batch has for itself are read over.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::DateTime;
use model::NO_TIMESTAMP;
use model::batch::{BatchError, Record};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::json_object::Object;

/// A record on its way out.
#[derive(Debug, Serialize)]
pub(crate) struct OutputRecord<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp: i64,
    #[serde(skip_serializing_if = "Text::is_binary")]
    key: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "Text::is_binary")]
    value: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    headers: Vec<OutputHeader<'a>>,
}

#[derive(Debug, Serialize)]
struct OutputHeader<'a> {
    key: &'a str,
    #[serde(skip_serializing_if = "Text::is_binary")]
    value: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

/// Bytes that are text, nothing, or neither.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
enum Text<'a> {
    Utf8(&'a str),
    Null,
    #[serde(skip)]
    Binary,
}

impl<'a> Text<'a> {
    fn of(bytes: Option<&'a [u8]>) -> (Self, Option<String>) {
        match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
            None => (Text::Null, None),
            Some((_, Ok(text))) => (Text::Utf8(text), None),
            Some((bytes, Err(_))) => (Text::Binary, Some(BASE64.encode(bytes))),
        }
    }

    fn is_binary(&self) -> bool {
        matches!(self, Text::Binary)
    }
}

impl<'a> OutputRecord<'a> {
    /// The record as it will be printed.
    ///
    /// # Errors
    /// When its headers are malformed.
    pub(crate) fn new(topic: &'a str, partition: i32, record: &Record<'a>) -> Result<Self, BatchError> {
        let (key, key_base64) = Text::of(record.key);
        let (value, value_base64) = Text::of(record.value);
        let header = |header: Result<(&'a str, Option<&'a [u8]>), BatchError>| {
            let (key, value) = header?;
            let (value, value_base64) = Text::of(value);
            Ok(OutputHeader { key, value, value_base64 })
        };
        let headers = record.headers.iter().map(header).collect::<Result<_, BatchError>>()?;
        let (offset, timestamp) = (record.offset, record.timestamp);
        Ok(OutputRecord { topic, partition, offset, timestamp, key, key_base64, value, value_base64, headers })
    }
}

/// A record on its way in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct InputRecord {
    /// The key, or null.
    pub(crate) key: Option<Vec<u8>>,
    /// The value, or null.
    pub(crate) value: Option<Vec<u8>>,
    /// Keys and values, in order.
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since the epoch, −1 for none; now when it is not given.
    pub(crate) timestamp: Option<i64>,
    /// Where to, when the line says so.
    pub(crate) partition: Option<i32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct InputLine<'a> {
    #[serde(default, rename = "topic")]
    _topic: Option<String>,
    #[serde(default, rename = "offset")]
    _offset: Option<i64>,
    #[serde(default)]
    partition: Option<i32>,
    #[serde(default)]
    timestamp: Option<InputTime>,
    /// Of a row of SQL whose `timestamp` is null: the milliseconds, or null for none.
    #[serde(default, deserialize_with = "given")]
    timestamp_ms: Option<Option<i64>>,
    #[serde(default, rename = "timestamp_type")]
    _timestamp_type: Option<i64>,
    #[serde(default, rename = "leader_epoch")]
    _leader_epoch: Option<i64>,
    #[serde(default, rename = "producer_id")]
    _producer_id: Option<i64>,
    #[serde(default, rename = "producer_epoch")]
    _producer_epoch: Option<i64>,
    #[serde(default, rename = "sequence")]
    _sequence: Option<i64>,
    #[serde(default, borrow)]
    key: Option<&'a RawValue>,
    #[serde(default)]
    key_base64: Option<String>,
    #[serde(default, borrow)]
    value: Option<&'a RawValue>,
    #[serde(default)]
    value_base64: Option<String>,
    #[serde(default)]
    headers: InputHeaders,
}

/// Milliseconds since the epoch, or a time as text.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a timestamp is milliseconds, or a text in RFC 3339")]
enum InputTime {
    Millis(i64),
    Text(String),
}

impl InputTime {
    fn millis(&self) -> Result<i64, String> {
        match self {
            InputTime::Millis(millis) => Ok(*millis),
            InputTime::Text(text) => match DateTime::parse_from_rfc3339(text) {
                Ok(time) => Ok(time.timestamp_millis()),
                Err(error) => Err(format!("timestamp: {text:?} is neither milliseconds nor RFC 3339: {error}")),
            },
        }
    }
}

/// Tells a null from a field that is not there.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<i64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// In the order in which they are given.
#[derive(Debug, Default)]
struct InputHeaders(Vec<InputHeader>);

impl<'de> Deserialize<'de> for InputHeaders {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListOrObject).map(InputHeaders)
    }
}

struct ListOrObject;

impl<'de> Visitor<'de> for ListOrObject {
    type Value = Vec<InputHeader>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"headers: a list of {"key": …, "value": …}, or an object of texts"#)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut headers = Vec::new();
        while let Some(Object(header)) = list.next_element()? {
            headers.push(header);
        }
        Ok(headers)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut headers = Vec::new();
        while let Some((key, value)) = object.next_entry()? {
            headers.push(InputHeader { key, value, value_base64: None });
        }
        Ok(headers)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct InputHeader {
    key: String,
    #[serde(default)]
    value: Option<String>,
    #[serde(default)]
    value_base64: Option<String>,
}

impl InputRecord {
    /// Reads one line.
    ///
    /// # Errors
    /// What is wrong with it, for a person.
    pub(crate) fn parse(line: &str) -> Result<Self, String> {
        let Object::<InputLine<'_>>(line) = serde_json::from_str(line).map_err(|e| e.to_string())?;
        let header = |header: InputHeader| {
            let value = either("a header's value", header.value.map(String::into_bytes), header.value_base64)?;
            Ok((header.key, value))
        };
        let headers = line.headers.0.into_iter().map(header).collect::<Result<_, String>>()?;
        Ok(InputRecord {
            key: either("key", bytes_of("key", line.key)?, line.key_base64)?,
            value: either("value", bytes_of("value", line.value)?, line.value_base64)?,
            headers,
            timestamp: match (line.timestamp, line.timestamp_ms) {
                (Some(time), _) => Some(time.millis()?),
                (None, Some(millis)) => Some(millis.unwrap_or(NO_TIMESTAMP)),
                (None, None) => None,
            },
            partition: line.partition,
        })
    }
}

/// A string's characters, nothing for null, else the JSON text itself.
fn bytes_of(what: &str, raw: Option<&RawValue>) -> Result<Option<Vec<u8>>, String> {
    match raw.map(RawValue::get) {
        None | Some("null") => Ok(None),
        // Half of a surrogate pair is JSON and no text.
        Some(text) if text.starts_with('"') => match serde_json::from_str::<String>(text) {
            Ok(text) => Ok(Some(text.into_bytes())),
            Err(error) => Err(format!("{what}: {error}")),
        },
        Some(text) => Ok(Some(text.as_bytes().to_vec())),
    }
}

fn either(what: &str, text: Option<Vec<u8>>, base64: Option<String>) -> Result<Option<Vec<u8>>, String> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(format!("{what} is given as text and as base64")),
        (text, None) => Ok(text),
        (None, Some(base64)) => match BASE64.decode(base64) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => Err(format!("{what}: not base64: {error}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use model::batch::{BatchBuilder, BatchFacts, BatchView, NewRecord, RecordsBuffer};

    use super::*;

    fn line_of(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&str, Option<&[u8]>)]) -> String {
        let mut builder = BatchBuilder::new(BatchFacts::default());
        builder.append(&NewRecord { offset: 7, timestamp: -1, key, value, headers });
        let batch = builder.finish().unwrap();
        let mut buffer = RecordsBuffer::new(1 << 20);
        let view = BatchView::parse(&batch).unwrap();
        let record = view.records(&mut buffer).unwrap().next().unwrap().unwrap();
        serde_json::to_string(&OutputRecord::new("t", 3, &record).unwrap()).unwrap()
    }

    #[test]
    fn text_null_and_bytes_are_told_apart() {
        let line = line_of(None, Some(b"v\n"), &[("h", Some(b"x")), ("h", None), ("b", Some(&[0xff]))]);
        assert_eq!(
            line,
            r#"{"topic":"t","partition":3,"offset":7,"timestamp":-1,"key":null,"value":"v\n","headers":[{"key":"h","value":"x"},{"key":"h","value":null},{"key":"b","value_base64":"/w=="}]}"#
        );
    }

    #[test]
    fn what_is_printed_reads_back_the_same() {
        let headers: [(&str, Option<&[u8]>); 2] = [("h", Some(&[0, 0xfe])), ("", None)];
        let record = InputRecord::parse(&line_of(Some(&[0xc3, 0x28]), Some(b""), &headers)).unwrap();
        assert_eq!(record.key.as_deref(), Some(&[0xc3, 0x28][..]));
        assert_eq!(record.value.as_deref(), Some(&b""[..]));
        assert_eq!(record.headers, [("h".to_owned(), Some(vec![0, 0xfe])), (String::new(), None)]);
        assert_eq!((record.timestamp, record.partition), (Some(-1), Some(3)));
    }

    #[test]
    fn a_value_that_is_not_a_string_stands_for_its_json_text() {
        let record = InputRecord::parse(r#"{"key":12,"value":{"b": 1, "a":[]},"headers":{"x":"y"}}"#).unwrap();
        assert_eq!(record.key.as_deref(), Some(&b"12"[..]));
        assert_eq!(record.value.as_deref(), Some(&br#"{"b": 1, "a":[]}"#[..]));
        assert_eq!(record.headers, [("x".to_owned(), Some(b"y".to_vec()))]);
        let twice = InputRecord::parse(r#"{"headers":{"b":"1","a":null,"b":"2"}}"#).unwrap().headers;
        let text = |text: &str| Some(text.as_bytes().to_vec());
        assert_eq!(twice, [("b".to_owned(), text("1")), ("a".to_owned(), None), ("b".to_owned(), text("2"))]);
        assert_eq!(InputRecord::parse("{}").unwrap(), InputRecord::default());
    }

    #[test]
    fn a_row_of_sql_is_a_record() {
        let columns = r#""timestamp_type":0,"leader_epoch":3,"producer_id":-1,"producer_epoch":-1,"sequence":-1"#;
        let row = |timestamp: &str, millis: &str| {
            let line = format!(
                r#"{{"partition":1,"offset":7,"timestamp":{timestamp},"key":"k","value":"v","headers":[{{"key":"h","value":null}}],{columns},"timestamp_ms":{millis}}}"#
            );
            InputRecord::parse(&line).unwrap()
        };
        let record = row(r#""2023-11-14T22:13:20.123Z""#, "null");
        assert_eq!((record.timestamp, record.partition), (Some(1_700_000_000_123), Some(1)));
        assert_eq!(record.headers, [("h".to_owned(), None)]);
        assert_eq!(row("null", "null").timestamp, Some(NO_TIMESTAMP));
        assert_eq!(row("null", "9223372036854775807").timestamp, Some(i64::MAX));
    }

    #[test]
    fn a_line_that_cannot_be_read_says_why() {
        for (line, reason) in [
            (r#"{"vlaue":"x"}"#, "vlaue"),
            (r#"{"value":"x","value_base64":"eA=="}"#, "text and as base64"),
            (r#"{"key_base64":"?"}"#, "not base64"),
            (r#"{"value":"\ud800"}"#, "value: "),
            (r#"{"timestamp":"yesterday"}"#, "neither milliseconds nor RFC 3339"),
            (r#"{"timestamp":1.5}"#, "a timestamp is milliseconds"),
            ("plain", "expected"),
            (r#"["hello"]"#, "expected a JSON object"),
            ("[]", "expected a JSON object"),
            (r#"{"headers":[["k","v"]]}"#, "expected a JSON object"),
            (r#"{"headers":"h"}"#, r#"expected headers: a list of {"key": …, "value": …}, or an object of texts"#),
            (r#"{"headers":null}"#, "expected headers: a list of"),
            (r#"{"headers":{"h":1}}"#, "expected a string"),
        ] {
            let error = InputRecord::parse(line).unwrap_err();
            assert!(error.contains(reason), "{line}: {error}");
        }
    }
}
