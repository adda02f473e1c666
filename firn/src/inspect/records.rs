//! Printing the records of batches that lie in a file.

use std::borrow::Cow;
use std::io::{self, BufWriter, Stdout, Write};
use std::path::Path;

use model::batch::{BatchView, Record, RecordsBuffer};

use crate::json_record::OutputRecord;
use crate::output::time;

/// Largest batch, in bytes after decompression.
const MAX_BATCH_BYTES: usize = 1 << 30;
/// Most characters of a key or value that a line for people shows.
const SHOWN_CHARACTERS: usize = 100;

/// Where records come from, as far as the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) topic: String,
    pub(super) partition: i32,
}

impl Origin {
    /// From the name of a partition's folder: `<topic>-<partition>.<topic id>`, or Kafka's `<topic>-<partition>`.
    pub(super) fn of_folder(path: &Path) -> Self {
        let folder = path.canonicalize().ok();
        let name = folder.as_deref().and_then(Path::parent).and_then(Path::file_name).and_then(|name| name.to_str());
        name.and_then(Self::parse).unwrap_or_default()
    }

    fn parse(folder: &str) -> Option<Self> {
        let id_start = folder.len().checked_sub(model::TopicId::TEXT_LEN + 1);
        let front = id_start
            .and_then(|at| folder.split_at_checked(at))
            .filter(|(_, id)| id.strip_prefix('.').is_some_and(|id| id.parse::<model::TopicId>().is_ok()))
            .map_or(folder, |(front, _)| front);
        let (topic, partition) = front.rsplit_once('-')?;
        let partition = partition.parse().ok().filter(|partition| *partition >= 0)?;
        Some(Origin { topic: topic.to_owned(), partition })
    }
}

/// Prints records to standard output.
pub(super) struct RecordPrinter {
    out: BufWriter<Stdout>,
    origin: Origin,
    is_json: bool,
    buffer: RecordsBuffer,
}

impl RecordPrinter {
    pub(super) fn new(origin: Origin, is_json: bool) -> Self {
        RecordPrinter {
            out: BufWriter::new(io::stdout()),
            origin,
            is_json,
            buffer: RecordsBuffer::new(MAX_BATCH_BYTES),
        }
    }

    /// Prints the records of one batch; markers of transactions are shown to people only.
    pub(super) fn print(&mut self, batch: &BatchView<'_>) -> anyhow::Result<()> {
        if batch.header.is_control() {
            if !self.is_json {
                writeln!(
                    self.out,
                    "{:>12}  transaction marker of producer {}",
                    batch.header.base_offset, batch.header.producer_id
                )?;
            }
            return Ok(());
        }
        for record in batch.records(&mut self.buffer)? {
            let record = record?;
            if self.is_json {
                let line = OutputRecord::new(&self.origin.topic, self.origin.partition, &record)?;
                serde_json::to_writer(&mut self.out, &line).map_err(io::Error::from)?;
                writeln!(self.out)?;
            } else {
                print_line(&mut self.out, &record)?;
            }
        }
        Ok(())
    }

    /// Makes sure that everything is out.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn print_line(out: &mut impl Write, record: &Record<'_>) -> anyhow::Result<()> {
    let (key, value) = (shown(record.key), shown(record.value));
    write!(out, "{:>12}  {}  key {key}  value {value}", record.offset, time(record.timestamp))?;
    for header in record.headers.iter() {
        let (name, value) = header?;
        write!(out, "  {name}={}", shown(value))?;
    }
    Ok(writeln!(out)?)
}

fn shown(bytes: Option<&[u8]>) -> Cow<'static, str> {
    let Some(bytes) = bytes else { return Cow::Borrowed("null") };
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().count() <= SHOWN_CHARACTERS => Cow::Owned(format!("{text:?}")),
        Ok(text) => {
            let start: String = text.chars().take(SHOWN_CHARACTERS).collect();
            Cow::Owned(format!("{start:?}… ({} bytes)", bytes.len()))
        }
        Err(_) => Cow::Owned(format!("{} bytes that are not text", bytes.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folders_name_tells_topic_and_partition() {
        let origin = |name| Origin::parse(name).map(|origin| (origin.topic, origin.partition));
        assert_eq!(origin("or-ders.eu-7.ASNFZ4mrze8BI0VniavN7w"), Some(("or-ders.eu".to_owned(), 7)));
        assert_eq!(origin("orders-0"), Some(("orders".to_owned(), 0)));
        assert_eq!(origin("orders"), None);
    }
}
