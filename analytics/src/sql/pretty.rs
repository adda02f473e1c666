//! Rows in a frame for people, written as they come: the widths of the columns are those of the first rows.

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::WriterBuilder;
use datafusion::arrow::json::writer::LineDelimited;
use datafusion::arrow::util::display::{ArrayFormatter, DurationFormat, FormatOptions};

use super::error::SqlError;

/// A table in the making.
#[derive(Debug)]
pub(super) struct Table {
    names: Vec<String>,
    /// Numbers stand at the right.
    right: Vec<bool>,
    /// Rows that wait for the widths.
    waiting: Vec<Vec<String>>,
    widths: Option<Vec<usize>>,
    rows: u64,
    wait_rows: usize,
}

impl Table {
    /// A table whose widths are found from the first `wait_rows` rows.
    pub(super) fn new(schema: &Schema, wait_rows: usize) -> Self {
        Table {
            names: schema.fields().iter().map(|field| printable(field.name())).collect(),
            right: schema.fields().iter().map(|field| field.data_type().is_numeric()).collect(),
            waiting: Vec::new(),
            widths: None,
            rows: 0,
            wait_rows,
        }
    }

    /// Takes rows, and gives what can be written by now.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<Bytes, SqlError> {
        let rows = cells(batch).map_err(|e| SqlError::Failed { message: format!("cannot write the answer: {e}") })?;
        self.rows += rows.len() as u64;
        let mut out = String::new();
        match &self.widths {
            Some(widths) => rows.iter().for_each(|row| self.line(&mut out, widths, row)),
            None => {
                self.waiting.extend(rows);
                if self.waiting.len() >= self.wait_rows {
                    self.begin(&mut out);
                }
            }
        }
        Ok(Bytes::from(out))
    }

    /// What is left, and the number of rows.
    pub(super) fn finish(&mut self) -> Result<Bytes, SqlError> {
        let mut out = String::new();
        if self.widths.is_none() {
            self.begin(&mut out);
        }
        if let Some(widths) = &self.widths {
            rule(&mut out, widths);
        }
        let noun = if self.rows == 1 { "row" } else { "rows" };
        let _ = writeln!(out, "{} {noun}", self.rows);
        Ok(Bytes::from(out))
    }

    fn begin(&mut self, out: &mut String) {
        let waiting = std::mem::take(&mut self.waiting);
        let width = |column: usize| {
            let cells = waiting.iter().map(|row| row[column].chars().count());
            cells.fold(self.names[column].chars().count(), usize::max)
        };
        let widths: Vec<_> = (0..self.names.len()).map(width).collect();
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

/// Nothing in a cell may break the frame, or the terminal.
fn printable(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    let escape = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(escape).collect()
}

/// Each value of a column as JSON.
pub(super) fn json_texts(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let schema = Arc::new(Schema::new(vec![Field::new("v", column.data_type().clone(), true)]));
    let batch = RecordBatch::try_new(schema, vec![Arc::clone(column)])?;
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write(&batch)?;
    writer.finish()?;
    let lines = String::from_utf8(writer.into_inner()).map_err(|e| ArrowError::JsonError(e.to_string()))?;
    let value = |line: &str| match line.strip_prefix("{\"v\":").and_then(|rest| rest.strip_suffix('}')) {
        Some("null") | None => None,
        Some(value) => Some(value.to_owned()),
    };
    let texts: StringArray = lines.lines().map(value).collect();
    debug_assert_eq!(texts.len(), column.len());
    Ok(Arc::new(texts))
}
