//! Uploads of objects that are too large to hold in memory: parts, then one completion.
//!
//! The store shows nothing before the completion. A failed upload is aborted as far as possible; what an abort leaves is
//! for the bucket's lifecycle rule on incomplete multipart uploads. A part is not tried again here: `object_store` does so
//! for the clouds, and a failed upload begins anew under another name. The name is unique to the attempt, so completing
//! needs no condition. A completion that failed is looked up where an object that can be read is durable: it may be there. In a
//! folder it does not count.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt, PutPayload};
use tokio::sync::mpsc;

use super::Store;
use crate::error::StoreError;

impl Store {
    /// Uploads `first` and the parts that come through `parts`, in order. The sender ends with [`None`]; one that just
    /// goes away has given up, and the upload is aborted.
    ///
    /// # Errors
    /// The first call that failed; the object is then not visible, or its completion is uncertain.
    pub(crate) async fn put_parts(
        &self,
        key: &str,
        first: Vec<Bytes>,
        mut parts: mpsc::Receiver<Option<Vec<Bytes>>>,
    ) -> Result<Option<String>, StoreError> {
        let path = Path::from(key);
        let deadline = self.deadline(0);
        let mut upload = self.once("create_multipart", key, deadline, self.inner().put_multipart(&path)).await?;
        let mut failure = None;
        let mut abandoned = true;
        let mut sent = 0;
        let mut next = Some(Some(first));
        while let Some(part) = next {
            let Some(part) = part else {
                abandoned = false;
                break;
            };
            let payload = PutPayload::from_iter(part);
            let size = payload.content_length() as u64;
            if let Err(error) = self.once("put_part", key, self.deadline(size), upload.put_part(payload)).await {
                failure = Some(error);
                break;
            }
            metrics::counter!("firn_object_store_sent_bytes_total").increment(size);
            sent += size;
            next = parts.recv().await;
        }
        if failure.is_some() || abandoned {
            // What an abort leaves behind is invisible; its failure changes nothing for the caller.
            let _ = self.once("abort_multipart", key, deadline, upload.abort()).await;
            return failure.map_or(Ok(None), Err);
        }
        match self.once("complete_multipart", key, deadline, upload.complete()).await {
            Ok(done) => Ok(done.e_tag),
            Err(error) => {
                if let Some(meta) = self.completed_after_all(key, sent).await {
                    return Ok(meta.e_tag);
                }
                let _ = self.once("abort_multipart", key, deadline, upload.abort()).await;
                Err(error)
            }
        }
    }

    /// The object, when the completion took effect and its answer got lost. The caller reads it back in any case.
    async fn completed_after_all(&self, key: &str, size: u64) -> Option<ObjectMeta> {
        if !self.presence_is_durable {
            return None;
        }
        self.head(key).await.ok().filter(|meta| meta.size == size)
    }
}
