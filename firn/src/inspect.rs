//! `firn inspect`: what a file of a broker or an object of the archive holds, without a broker.
//!
//! | | |
//! |---|---|
//! | `….log` | a segment: its batches, with checksums verified; damage is named with its position |
//! | `….index`, `….timeindex` | a segment's indexes |
//! | `….parquet` | a data object of the archive |
//! | `….manifest`, `….node` | what a partition's archive holds |
//!
//! A path, or an object's URL as `firn server --object-store` takes it with the object's name behind. Damage found is a
//! failure of the command, after everything that can be shown was shown.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;

use crate::WrongUse;

mod index;
mod object;
mod records;
mod segment;

use records::RecordPrinter;

/// First bytes of a Parquet file.
const PARQUET_MAGIC: &[u8] = b"PAR1";
/// First bytes of both kinds of manifest.
const MANIFEST_MAGIC: &[u8] = b"firn-manifest";
/// Largest object that is read into memory, in bytes.
const MAX_OBJECT_BYTES: u64 = 4 << 30;

/// Arguments of `firn inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A path, or the URL of an object.
    source: String,
    /// Print the records instead; with --json as `firn consume --json` does.
    #[arg(long)]
    records: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Facts { json: bool },
    Records { json: bool },
}

/// Runs the command.
pub(crate) async fn run(args: InspectArgs) -> anyhow::Result<()> {
    let InspectArgs { source, records, json } = args;
    let mode = if records { Mode::Records { json } } else { Mode::Facts { json } };
    match remote(&source)? {
        Some((config, key)) => {
            let bytes = cold_tier::inspect::fetch(&config, &key).await?;
            object::show(&source, bytes, mode)
        }
        None => show_file(&source, &local_path(&source), mode),
    }
}

/// The store and the object's name, when the source is a URL of something else than a local file.
fn remote(source: &str) -> anyhow::Result<Option<(cold_tier::Config, String)>> {
    let Some((scheme, rest)) = source.split_once("://").filter(|(scheme, _)| *scheme != "file") else {
        return Ok(None);
    };
    let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
    let Some((bucket, key)) = place.split_once('/').filter(|(_, key)| !key.is_empty()) else {
        let reason = format!("{source} names a store, not an object: put the object's name behind it");
        return Err(WrongUse(reason).into());
    };
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let config = cold_tier::Config { url: format!("{scheme}://{bucket}{query}"), ..cold_tier::Config::default() };
    Ok(Some((config, key.to_owned())))
}

fn local_path(source: &str) -> PathBuf {
    PathBuf::from(source.strip_prefix("file://").unwrap_or(source))
}

fn show_file(source: &str, path: &Path, mode: Mode) -> anyhow::Result<()> {
    let reading = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(reading)?;
    let facts = file.metadata().with_context(reading)?;
    if facts.is_dir() {
        bail!("{} is a folder, a file is needed", path.display());
    }
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("index") => return index::show_offsets(path, mode),
        Some("timeindex") => return index::show_times(path, mode),
        Some("snapshot") => bail!("{} is producer state, which cannot be shown yet", path.display()),
        Some("log") => return segment::show(path, file, facts.len(), mode),
        _ => {}
    }
    let head = head(&file).with_context(reading)?;
    if head.starts_with(PARQUET_MAGIC) || head.starts_with(MANIFEST_MAGIC) {
        if facts.len() > MAX_OBJECT_BYTES {
            bail!("{} has {} bytes, at most {MAX_OBJECT_BYTES} are read", path.display(), facts.len());
        }
        let bytes = std::fs::read(path).with_context(reading)?;
        return object::show(source, Bytes::from(bytes), mode);
    }
    if model::batch::BatchHeader::parse(&head).is_ok() {
        return segment::show(path, file, facts.len(), mode);
    }
    bail!("{} is neither a segment nor an index, a Parquet object or a manifest", path.display())
}

fn head(file: &File) -> io::Result<Vec<u8>> {
    use std::os::unix::fs::FileExt;

    let mut head = vec![0; model::batch::HEADER_LEN];
    let mut filled = 0;
    while filled < head.len() {
        match file.read_at(&mut head[filled..], filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    head.truncate(filled);
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_objects_url_is_split_into_store_and_name() {
        let split = |source: &str| remote(source).unwrap().map(|(config, key)| (config.url, key));
        let url = "s3://bucket/firn/c/topics/t/0/data/x.parquet?endpoint=http://127.0.0.1:9000";
        let store = "s3://bucket?endpoint=http://127.0.0.1:9000".to_owned();
        assert_eq!(split(url), Some((store, "firn/c/topics/t/0/data/x.parquet".to_owned())));
        assert_eq!(split("/tmp/x.parquet"), None);
        assert_eq!(split("file:///tmp/x.parquet"), None);
        assert_eq!(local_path("file:///tmp/x"), Path::new("/tmp/x"));
        assert!(remote("s3://bucket").unwrap_err().is::<WrongUse>());
    }
}
