//! What commands print: tables for people, JSON for programs, sizes and times that can be read at a glance.

use std::io::{self, Write};

use chrono::{DateTime, SecondsFormat, Utc};
use comfy_table::{CellAlignment, ContentArrangement, Table};
use indicatif::HumanBytes;
use model::{NO_TIMESTAMP, TimestampMs};
use serde::Serialize;

/// One line under the titles and no others, in the order of `comfy_table::TableComponent`.
const LINE_UNDER_TITLES: &str = "     ──            ";

/// Prints one JSON document.
pub(crate) fn print_json(value: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)
}

/// Prints one line.
pub(crate) fn print_line(line: impl std::fmt::Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}

/// Prints one line to standard error. An error of that is ignored: there is no other place for the line.
pub(crate) fn tell(line: impl std::fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// `1 partition`, `2 partitions`.
pub(crate) fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// A table with these column titles; those that start with `>` hold numbers and are aligned to the right.
pub(crate) fn table(titles: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(LINE_UNDER_TITLES).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(titles.iter().map(|title| title.trim_start_matches('>')));
    for (column, title) in table.column_iter_mut().zip(titles) {
        if title.starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// `1.50 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// `45 s`, `12 min`, `3 h`, `2 d`.
pub(crate) fn age(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A time in UTC, or `-` where there is none.
pub(crate) fn time(timestamp: TimestampMs) -> String {
    if timestamp == NO_TIMESTAMP {
        return "-".to_owned();
    }
    let time: Option<DateTime<Utc>> = DateTime::from_timestamp_millis(timestamp);
    time.map_or_else(|| timestamp.to_string(), |time| time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// An offset, or `-` where there is none.
pub(crate) fn offset(offset: i64) -> String {
    if offset < 0 { "-".to_owned() } else { offset.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_times_are_short() {
        assert_eq!([age(0), age(119), age(120), age(7200), age(172_800)], ["0 s", "119 s", "2 min", "2 h", "2 d"]);
        assert_eq!(time(-1), "-");
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(i64::MAX), i64::MAX.to_string());
        assert_eq!(size(1_572_864), "1.50 MiB");
    }
}
