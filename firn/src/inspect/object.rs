//! Objects of the archive: data objects, manifests and child manifests.

use std::collections::BTreeMap;

use anyhow::anyhow;
use bytes::Bytes;
use cold_tier::Manifest;
use cold_tier::inspect::{ChunkSummary, Inspected, ObjectFile, inspect};
use cold_tier::manifest::Node;
use model::batch::Batches;
use serde::Serialize;

use super::records::Origin;
use super::{Mode, RecordPrinter};
use crate::WrongUse;
use crate::output::{print_json, print_line, size, table, time};

/// Shows an object that was read from `source`.
pub(super) fn show(source: &str, bytes: Bytes, mode: Mode) -> anyhow::Result<()> {
    let size_bytes = bytes.len() as u64;
    let inspected = inspect(bytes).map_err(|reason| anyhow!("{source}: {reason}"))?;
    match (inspected, mode) {
        (Inspected::Object(object), Mode::Facts { json }) => {
            show_object(source, size_bytes, &object, json)?;
            verify(source, &object)
        }
        (Inspected::Object(object), Mode::Records { json }) => show_records(source, &object, json),
        (Inspected::Manifest(manifest), Mode::Facts { json }) => show_manifest(source, &manifest, json),
        (Inspected::Node(node), Mode::Facts { json }) => show_node(source, &node, json),
        (Inspected::Manifest(_) | Inspected::Node(_), Mode::Records { .. }) => {
            Err(WrongUse(format!("{source} is a manifest and holds no records")).into())
        }
    }
}

#[derive(Debug, Serialize)]
struct Object<'a> {
    kind: &'static str,
    source: &'a str,
    size_bytes: u64,
    records: u64,
    /// The footer's `firn.*` entries; those that hold JSON as such.
    entries: BTreeMap<&'a str, serde_json::Value>,
    chunks: Vec<Chunk>,
}

#[derive(Debug, Serialize)]
struct Chunk {
    row_group: usize,
    first_offset: i64,
    last_offset: i64,
    records: u32,
    min_timestamp: i64,
    max_timestamp: i64,
    record_bytes: u64,
    stored_bytes: u64,
}

impl From<ChunkSummary> for Chunk {
    fn from(chunk: ChunkSummary) -> Self {
        Chunk {
            row_group: chunk.row_group,
            first_offset: chunk.first_offset,
            last_offset: chunk.last_offset,
            records: chunk.records,
            min_timestamp: chunk.min_timestamp,
            max_timestamp: chunk.max_timestamp,
            record_bytes: chunk.record_bytes,
            stored_bytes: chunk.stored_bytes,
        }
    }
}

fn show_object(source: &str, size_bytes: u64, object: &ObjectFile, json: bool) -> anyhow::Result<()> {
    let chunks: Vec<Chunk> = object.chunks().into_iter().map(Chunk::from).collect();
    let records = chunks.iter().map(|chunk| u64::from(chunk.records)).sum();
    let structured = |text: &str| {
        let parsed = serde_json::from_str(text).ok();
        parsed.filter(|value: &serde_json::Value| value.is_array() || value.is_object())
    };
    let value = |text: &str| structured(text).unwrap_or_else(|| serde_json::Value::from(text));
    if json {
        let entries = object.entries().iter().map(|(name, text)| (name.as_str(), value(text))).collect();
        return Ok(print_json(&Object { kind: "object", source, size_bytes, records, entries, chunks })?);
    }
    print_line(format_args!("object {source}: {records} records, {} chunks, {}", chunks.len(), size(size_bytes)))?;
    for (name, text) in object.entries().iter().filter(|(_, text)| structured(text).is_none()) {
        print_line(format_args!("  {name} = {text}"))?;
    }
    let mut shown = table(&[
        ">row group",
        ">first offset",
        ">last offset",
        ">records",
        "oldest",
        "newest",
        ">record bytes",
        ">stored",
    ]);
    for chunk in chunks {
        shown.add_row([
            chunk.row_group.to_string(),
            chunk.first_offset.to_string(),
            chunk.last_offset.to_string(),
            chunk.records.to_string(),
            time(chunk.min_timestamp),
            time(chunk.max_timestamp),
            size(chunk.record_bytes),
            size(chunk.stored_bytes),
        ]);
    }
    Ok(print_line(shown)?)
}

fn show_records(source: &str, object: &ObjectFile, json: bool) -> anyhow::Result<()> {
    let entry = |name: &str| object.entries().iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let origin = Origin {
        topic: entry("firn.topic").unwrap_or_default().to_owned(),
        partition: entry("firn.partition").and_then(|text| text.parse().ok()).unwrap_or_default(),
    };
    let mut printer = RecordPrinter::new(origin, json);
    for index in 0..object.chunks().len() {
        let bytes = match batches(source, object, index) {
            Ok(bytes) => bytes,
            Err(damage) => {
                printer.finish()?;
                return Err(damage);
            }
        };
        for batch in Batches::new(&bytes) {
            printer.print(&batch?)?;
        }
    }
    printer.finish()?;
    verify_producers(source, object)
}

/// Reads every byte that the footer has a checksum for.
fn verify(source: &str, object: &ObjectFile) -> anyhow::Result<()> {
    for index in 0..object.chunks().len() {
        batches(source, object, index)?;
    }
    verify_producers(source, object)
}

fn batches(source: &str, object: &ObjectFile, index: usize) -> anyhow::Result<Bytes> {
    let place = || {
        let chunk = object.chunks().into_iter().nth(index);
        let offsets = chunk.map(|chunk| format!(" (offsets {} to {})", chunk.first_offset, chunk.last_offset));
        format!("{source}, chunk {index}{}", offsets.unwrap_or_default())
    };
    object.batches(index).map_err(|reason| anyhow!("{}: {reason}", place()))
}

fn verify_producers(source: &str, object: &ObjectFile) -> anyhow::Result<()> {
    if object.entries().iter().any(|(name, _)| name == "firn.producers") {
        object.producers().map_err(|reason| anyhow!("{source}: {reason}"))?;
    }
    Ok(())
}

#[derive(Debug, Serialize)]
struct Tagged<'a, T> {
    kind: &'static str,
    source: &'a str,
    #[serde(flatten)]
    content: &'a T,
}

fn show_manifest(source: &str, manifest: &Manifest, json: bool) -> anyhow::Result<()> {
    if json {
        return Ok(print_json(&Tagged { kind: "manifest", source, content: manifest })?);
    }
    let Manifest { topic, partition, version, leader_epoch, log_start, archived_end, totals, .. } = manifest;
    print_line(format_args!("manifest {source}, version {version}, leader epoch {leader_epoch}"))?;
    print_line(format_args!("  topic {topic}, partition {}, id {}", partition.partition, partition.topic_id))?;
    print_line(format_args!("  cluster {}", manifest.cluster_id))?;
    print_line(format_args!("  log start {log_start}, archived end {archived_end}"))?;
    print_line(format_args!(
        "  {} objects, {} records, {} (of {} on local disk)",
        totals.objects,
        totals.records,
        size(totals.bytes),
        size(totals.record_bytes)
    ))?;
    if let Some(previous) = &manifest.previous {
        print_line(format_args!("  replaces {previous}"))?;
    }
    print_node(&manifest.list)
}

fn show_node(source: &str, node: &Node, json: bool) -> anyhow::Result<()> {
    if json {
        return Ok(print_json(&Tagged { kind: "manifest node", source, content: node })?);
    }
    print_line(format_args!("manifest node {source}"))?;
    print_node(node)
}

fn print_node(node: &Node) -> anyhow::Result<()> {
    let mut shown = table(&[">first offset", ">next offset", ">records", ">size", "newest", "object"]);
    for child in &node.children {
        shown.add_row([
            child.base_offset.to_string(),
            child.next_offset.to_string(),
            child.totals.records.to_string(),
            size(child.totals.bytes),
            time(child.totals.max_timestamp),
            format!("{} ({} objects)", child.object, child.totals.objects),
        ]);
    }
    for segment in &node.segments {
        shown.add_row([
            segment.base_offset.to_string(),
            segment.next_offset.to_string(),
            segment.records.to_string(),
            size(segment.bytes),
            time(segment.max_timestamp),
            segment.object.clone(),
        ]);
    }
    Ok(print_line(shown)?)
}
