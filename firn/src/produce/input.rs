//! Standard input as records, read by a thread of its own.
//!
//! The thread hands over a chunk when no more bytes are buffered, so that somebody who types sees each line go out, and
//! when a chunk is large. It is not waited for at the end: it may be waiting for input that never comes.

use std::io::{self, BufRead, BufReader, Read};

use anyhow::{Context, anyhow, bail};
use tokio::sync::mpsc;

use crate::json_record::InputRecord;

/// Longest line that is read, in bytes.
const MAX_LINE_BYTES: u64 = 64 << 20;
/// Bytes of lines that make a chunk.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks that may wait to be sent.
const CHUNKS_AHEAD: usize = 8;
const READ_BYTES: usize = 256 << 10;

/// How a line becomes a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum InputFormat {
    /// The line is the value.
    Value,
    /// Key, this separator, value.
    KeyAndValue(String),
    /// See [`crate::json_record`].
    Json,
}

/// Records from standard input, in chunks.
#[derive(Debug)]
pub(super) struct Lines {
    chunks: mpsc::Receiver<anyhow::Result<Vec<InputRecord>>>,
}

impl Lines {
    /// Starts to read.
    pub(super) fn from_stdin(format: InputFormat) -> Self {
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        std::thread::spawn(move || {
            let mut input = BufReader::with_capacity(READ_BYTES, io::stdin());
            if let Err(error) = read_all(&mut input, &format, |chunk| sender.blocking_send(Ok(chunk)).is_ok()) {
                // Nobody listens any more when the run has failed already.
                let _ = sender.blocking_send(Err(error));
            }
        });
        Lines { chunks }
    }

    /// The next chunk; after an error nothing comes any more.
    pub(super) async fn next(&mut self) -> Option<anyhow::Result<Vec<InputRecord>>> {
        self.chunks.recv().await
    }
}

/// Reads to the end, giving chunks to `take` until it says no.
fn read_all<R: Read>(
    input: &mut BufReader<R>,
    format: &InputFormat,
    mut take: impl FnMut(Vec<InputRecord>) -> bool,
) -> anyhow::Result<()> {
    let (mut chunk, mut chunk_bytes) = (Vec::new(), 0);
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let read = input.by_ref().take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut line);
        let is_end = read.with_context(|| format!("cannot read line {number} of the input"))? == 0;
        if !is_end {
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            if line.len() as u64 > MAX_LINE_BYTES {
                bail!("line {number} of the input is longer than {MAX_LINE_BYTES} bytes");
            }
            chunk_bytes += line.len();
            match record(&line, format) {
                Ok(record) => chunk.push(record),
                Err(reason) => {
                    take(chunk);
                    return Err(anyhow!("line {number} of the input: {reason}"));
                }
            }
        }
        let is_due = is_end || chunk_bytes >= CHUNK_BYTES || input.buffer().is_empty();
        if is_due && !chunk.is_empty() {
            chunk_bytes = 0;
            if !take(std::mem::take(&mut chunk)) {
                return Ok(());
            }
        }
        if is_end {
            return Ok(());
        }
    }
    Ok(())
}

fn record(line: &[u8], format: &InputFormat) -> Result<InputRecord, String> {
    match format {
        InputFormat::Value => Ok(InputRecord { value: Some(line.to_vec()), ..InputRecord::default() }),
        InputFormat::KeyAndValue(separator) => {
            let separator = separator.as_bytes();
            let at = line.windows(separator.len().max(1)).position(|window| window == separator);
            let at =
                at.ok_or_else(|| format!("the key separator {:?} is not in it", String::from_utf8_lossy(separator)))?;
            let (key, value) = (line[..at].to_vec(), line[at + separator.len()..].to_vec());
            Ok(InputRecord { key: Some(key), value: Some(value), ..InputRecord::default() })
        }
        InputFormat::Json => {
            let text = std::str::from_utf8(line).map_err(|e| format!("it is not UTF-8: {e}"))?;
            InputRecord::parse(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], format: &InputFormat) -> (Vec<InputRecord>, Option<String>) {
        let mut records = Vec::new();
        let result = read_all(&mut BufReader::new(bytes), format, |chunk| {
            records.extend(chunk);
            true
        });
        (records, result.err().map(|e| e.to_string()))
    }

    #[test]
    fn every_line_is_a_value_also_empty_ones_and_the_last() {
        let (records, error) = read(b"a\n\nb\xff", &InputFormat::Value);
        let values: Vec<_> = records.into_iter().map(|record| record.value.unwrap()).collect();
        assert_eq!(values, [&b"a"[..], b"", b"b\xff"]);
        assert_eq!(error, None);
    }

    #[test]
    fn the_first_separator_splits_key_and_value() {
        let format = InputFormat::KeyAndValue("::".to_owned());
        let (records, error) = read(b"k::v::w\n::x\nno\nlater::y", &format);
        assert_eq!(records.len(), 2);
        assert_eq!((records[0].key.as_deref(), records[0].value.as_deref()), (Some(&b"k"[..]), Some(&b"v::w"[..])));
        assert_eq!(records[1].key.as_deref(), Some(&b""[..]));
        assert_eq!(error.unwrap(), "line 3 of the input: the key separator \"::\" is not in it");
    }
}
