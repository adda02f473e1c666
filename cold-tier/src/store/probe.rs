//! Does the store keep the promises that the archive rests on? Asked once, at start, with one small object.

use bytes::Bytes;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload};
use uuid::Uuid;

use super::Store;
use super::open::redacted;
use crate::error::{OpenError, StoreError, StoreErrorKind};

const CONTENT: &[u8] = b"firn probe: is this a store for an archive?";
const FOLDER: &str = "firn-probe";

/// Why a probe ended early.
enum Failure {
    /// The store does something else than it should.
    Broken(String),
    /// A call failed.
    Call(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Failure::Call(error)
    }
}

/// Creates, creates again, reads, reads a range, lists and deletes one object of a fresh name.
///
/// # Errors
/// [`OpenError::Unfit`] names the promise that was broken, [`OpenError::Unreachable`] the call that failed.
pub(crate) async fn probe(store: &Store, url: &str, unique: Uuid) -> Result<(), OpenError> {
    let key = format!("{FOLDER}/{unique}");
    let outcome = run(store, &key).await;
    let is_silent = matches!(&outcome, Err(Failure::Call(error)) if error.kind == StoreErrorKind::TimedOut);
    if outcome.is_err() && !is_silent {
        // The failed probe's object is a few bytes; it goes if the store lets it, and a start does not wait for one that is silent.
        let path = Path::from(key.as_str());
        let _ = store.once("delete", &key, store.deadline(0), store.inner().delete(&path)).await;
    }
    let url = redacted(url).to_owned();
    outcome.map_err(|failure| match failure {
        Failure::Broken(reason) => OpenError::Unfit { url, reason },
        Failure::Call(call) => OpenError::Unreachable { url, call },
    })
}

async fn run(store: &Store, key: &str) -> Result<(), Failure> {
    let broken = |reason: &str| Err(Failure::Broken(reason.to_owned()));
    create(store, key, CONTENT).await?;
    match create(store, key, b"another content that must not replace the first").await {
        Ok(()) => {
            return broken(
                "it overwrites an object that a conditional PUT (If-None-Match: *) must not touch, so two archivers could destroy each other's work",
            );
        }
        Err(error) if error.kind == StoreErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.into()),
    }
    let read =
        store.get(key, 1 << 20).await.map_err(|e| missing(e, "an object that was just written cannot be read"))?;
    if read != CONTENT {
        return broken("an object reads back with other bytes than were written");
    }
    let range = store.get_range(key, 5..10).await?;
    if range != CONTENT[5..10] {
        return broken("a range read answers other bytes than the range's");
    }
    let mut listing = store.list(FOLDER);
    let mut listed = false;
    while let Some(meta) = listing.next().await {
        listed |= meta?.location.as_ref() == key;
    }
    if !listed {
        return broken("an object that was just written is missing from the listing");
    }
    store.delete(key).await?;
    match store.head(key).await {
        Ok(_) => broken("a deleted object is still there"),
        Err(error) if error.kind == StoreErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn missing(error: StoreError, reason: &str) -> Failure {
    if error.kind == StoreErrorKind::NotFound { Failure::Broken(reason.to_owned()) } else { Failure::Call(error) }
}

/// A conditional create without the settling that [`Store::put_new`] does.
async fn create(store: &Store, key: &str, content: &'static [u8]) -> Result<(), StoreError> {
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    let payload = PutPayload::from_bytes(Bytes::from_static(content));
    let path = Path::from(key);
    let put = store.inner().put_opts(&path, payload, options);
    store.once("put", key, store.deadline(0), put).await.map(drop)
}
