//! Rows for people, written as they come: in a frame ([`Table`]), where the widths of the columns are those of the first rows, or a
//! column on each line ([`Lines`]). A cell that is longer than [`MAX_CELL`] is cut, and ends with `…`. The plans of `EXPLAIN`
//! are shown without a frame.

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::util::display::{ArrayFormatter, DurationFormat, FormatOptions};

use super::error::SqlError;
use super::ndjson::json_texts;

/// Rows that are held back to find the widths of the columns.
const WAITING_ROWS: usize = 1000;
/// Bytes that the rows held back may take as lines of the table, which are as wide as the widest of them.
const WAITING_BYTES: usize = 4 << 20;
/// Rows that are taken at a time before the widths are known.
const FIRST_ROWS: usize = 100;
/// Characters of a cell that are shown.
const MAX_CELL: usize = 10_000;

/// The columns of an answer to `EXPLAIN`.
const PLAN: [&str; 2] = ["plan_type", "plan"];

/// A table in the making.
#[derive(Debug)]
pub(super) struct Table {
    names: Vec<String>,
    /// Numbers stand at the right.
    right: Vec<bool>,
    /// Rows that wait for the widths.
    waiting: Vec<Vec<String>>,
    /// The widths of the rows that wait, and of the names.
    widest: Vec<usize>,
    widths: Option<Vec<usize>>,
    rows: u64,
}

impl Table {
    /// A table whose widths are found from the first rows.
    pub(super) fn new(schema: &Schema) -> Self {
        let names: Vec<_> = schema.fields().iter().map(|field| printable(field.name())).collect();
        Table {
            widest: names.iter().map(|name| name.chars().count()).collect(),
            names,
            right: schema.fields().iter().map(|field| field.data_type().is_numeric()).collect(),
            waiting: Vec::new(),
            widths: None,
            rows: 0,
        }
    }

    /// Takes rows, and gives what can be written by now.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<Bytes, SqlError> {
        if self.names == PLAN {
            return plans(batch).map_err(unwritable);
        }
        let rows = cells(batch).map_err(unwritable)?;
        self.rows += rows.len() as u64;
        let mut out = String::new();
        match &self.widths {
            Some(widths) => rows.iter().for_each(|row| self.line(&mut out, widths, row)),
            None => {
                for row in &rows {
                    let widths = self.widest.iter_mut().zip(row);
                    widths.for_each(|(widest, cell)| *widest = cell.chars().count().max(*widest));
                }
                self.waiting.extend(rows);
                if self.waiting.len() >= WAITING_ROWS || self.held_bytes() >= WAITING_BYTES {
                    self.begin(&mut out);
                }
            }
        }
        Ok(Bytes::from(out))
    }

    /// Rows to write at a time, for about `bytes` bytes of lines.
    pub(super) fn slice_rows(&self, bytes: usize) -> usize {
        if self.widths.is_none() { FIRST_ROWS } else { (bytes / self.line_width()).max(1) }
    }

    /// Bytes that the rows held back will take.
    pub(super) fn held_bytes(&self) -> usize {
        self.waiting.len() * self.line_width()
    }

    fn line_width(&self) -> usize {
        self.widest.iter().map(|width| width + 3).sum::<usize>() + 2
    }

    /// What is left, and the number of rows.
    pub(super) fn finish(&mut self) -> Result<Bytes, SqlError> {
        let mut out = String::new();
        if self.names == PLAN {
            return Ok(Bytes::new());
        }
        if self.widths.is_none() {
            self.begin(&mut out);
        }
        if let Some(widths) = &self.widths {
            rule(&mut out, widths);
        }
        out.push_str(&count(self.rows));
        Ok(Bytes::from(out))
    }

    fn begin(&mut self, out: &mut String) {
        let waiting = std::mem::take(&mut self.waiting);
        let widths = self.widest.clone();
        rule(out, &widths);
        self.line(out, &widths, &self.names);
        rule(out, &widths);
        waiting.iter().for_each(|row| self.line(out, &widths, row));
        self.widths = Some(widths);
    }

    fn line(&self, out: &mut String, widths: &[usize], cells: &[String]) {
        for ((cell, &width), &right) in cells.iter().zip(widths).zip(&self.right) {
            // Writing to a string does not fail.
            let _ = if right { write!(out, "| {cell:>width$} ") } else { write!(out, "| {cell:<width$} ") };
        }
        out.push_str("|\n");
    }
}

/// Each row as so many lines as it has columns.
#[derive(Debug)]
pub(super) struct Lines {
    names: Vec<String>,
    width: usize,
    rows: u64,
}

impl Lines {
    /// Rows with the columns of `schema`.
    pub(super) fn new(schema: &Schema) -> Self {
        let names: Vec<_> = schema.fields().iter().map(|field| printable(field.name())).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        Lines { names, width, rows: 0 }
    }

    /// The lines of these rows.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<Bytes, SqlError> {
        let mut out = String::new();
        let width = self.width;
        for row in cells(batch).map_err(unwritable)? {
            self.rows += 1;
            // Writing to a string does not fail.
            let _ = writeln!(out, "row {}", self.rows);
            for (name, cell) in self.names.iter().zip(row) {
                let _ = writeln!(out, "  {name:<width$}  {cell}");
            }
        }
        Ok(Bytes::from(out))
    }

    /// The number of rows.
    pub(super) fn finish(&self) -> Bytes {
        Bytes::from(count(self.rows))
    }
}

fn count(rows: u64) -> String {
    let noun = if rows == 1 { "row" } else { "rows" };
    format!("{rows} {noun}\n")
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unwritable(error: ArrowError) -> SqlError {
    SqlError::Failed { message: format!("cannot write the answer: {error}") }
}

/// The plans of an `EXPLAIN`, each under its name.
fn plans(batch: &RecordBatch) -> Result<Bytes, ArrowError> {
    let texts = |column: &ArrayRef| cast(column, &DataType::Utf8);
    let (names, plans) = (texts(batch.column(0))?, texts(batch.column(1))?);
    let mut out = String::new();
    for (name, plan) in names.as_string::<i32>().iter().zip(plans.as_string::<i32>()) {
        let _ = writeln!(out, "{}", name.unwrap_or_default());
        for line in plan.unwrap_or_default().lines() {
            let _ = writeln!(out, "  {}", escaped(line));
        }
    }
    Ok(Bytes::from(out))
}

fn rule(out: &mut String, widths: &[usize]) {
    for width in widths {
        out.push('+');
        out.extend(std::iter::repeat_n('-', width + 2));
    }
    out.push_str("+\n");
}

fn cells(batch: &RecordBatch) -> Result<Vec<Vec<String>>, ArrowError> {
    let options = FormatOptions::default().with_duration_format(DurationFormat::Pretty);
    let columns = batch.columns().iter().map(|column| match column.data_type().is_nested() {
        true => json_texts(column),
        false => Ok(Arc::clone(column)),
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let formatters = columns.iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
    let formatters = formatters.collect::<Result<Vec<_>, _>>()?;
    let row = |row: usize| {
        let cells = formatters.iter().map(|column| column.value(row).try_to_string().map(|text| printable(&text)));
        cells.collect::<Result<Vec<_>, _>>()
    };
    (0..batch.num_rows()).map(row).collect()
}

/// Nothing in a cell may break the frame, or the terminal; and what is too long is cut.
fn printable(text: &str) -> String {
    let end = text.char_indices().nth(MAX_CELL).map(|(at, _)| at);
    match end {
        Some(end) => escaped(&text[..end]) + "…",
        None => escaped(text),
    }
}

fn escaped(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    let escape = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(escape).collect()
}
