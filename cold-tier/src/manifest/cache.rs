//! Loading manifests: each is fetched once, checked, and kept as long as memory allows. They never change.

use std::ops::ControlFlow;
use std::sync::Arc;

use model::Offset;
use model::archive::ManifestPointer;

use super::{ArchivedSegment, Child, MAX_MANIFEST_BYTES, Manifest, Node};
use crate::config::Config;
use crate::error::ReadError;
use crate::flight::Flight;
use crate::store::Store;

/// Manifests and child manifests by name.
#[derive(Debug, Clone)]
pub(crate) struct Manifests {
    store: Store,
    manifests: Flight<String, Arc<Manifest>>,
    nodes: Flight<String, Arc<Node>>,
}

impl Manifests {
    pub(crate) fn new(store: Store, config: &Config) -> Self {
        let capacity = config.metadata_cache_bytes() / 2;
        Manifests {
            store,
            manifests: Flight::new(capacity, |m: &Arc<Manifest>| memory_bytes(&m.list)),
            nodes: Flight::new(capacity, |node: &Arc<Node>| memory_bytes(node)),
        }
    }

    /// The manifest that `pointer` names.
    ///
    /// # Errors
    /// When it cannot be fetched, is damaged, or is not what the pointer says.
    pub(crate) async fn manifest(&self, pointer: &ManifestPointer) -> Result<Arc<Manifest>, ReadError> {
        let (store, object) = (self.store.clone(), pointer.object.clone());
        let load = move || async move {
            let bytes = store.get(&object, MAX_MANIFEST_BYTES).await?;
            Manifest::decode(&bytes).map(Arc::new).map_err(|reason| ReadError::Corrupt { object, offset: -1, reason })
        };
        let manifest = self.manifests.get(pointer.object.clone(), load).await?;
        if manifest.version != pointer.version || manifest.archived_end != pointer.archived_end {
            let reason = format!("it is version {}, the ledger expects {}", manifest.version, pointer.version);
            return Err(ReadError::Corrupt { object: pointer.object.clone(), offset: pointer.log_start, reason });
        }
        Ok(manifest)
    }

    /// The child manifest that `child` names.
    ///
    /// # Errors
    /// As [`Self::manifest`].
    pub(crate) async fn node(&self, child: &Child) -> Result<Arc<Node>, ReadError> {
        let (store, object, base) = (self.store.clone(), child.object.clone(), child.base_offset);
        let load = move || async move {
            let bytes = store.get(&object, MAX_MANIFEST_BYTES).await?;
            Node::decode(&bytes).map(Arc::new).map_err(|reason| ReadError::Corrupt { object, offset: base, reason })
        };
        let node = self.nodes.get(child.object.clone(), load).await?;
        if node.base_offset() != Some(child.base_offset) || node.next_offset() != Some(child.next_offset) {
            let reason = "it covers other offsets than its parent says".to_owned();
            return Err(ReadError::Corrupt { object: child.object.clone(), offset: base, reason });
        }
        Ok(node)
    }

    /// The segment that covers `offset`, or the first one after it.
    ///
    /// # Errors
    /// As [`Self::manifest`].
    pub(crate) async fn find(
        &self,
        pointer: &ManifestPointer,
        offset: Offset,
    ) -> Result<Option<ArchivedSegment>, ReadError> {
        let mut found = None;
        let until = |_: &Child| true;
        self.each(pointer, offset, until, |segment| {
            found = Some(segment.clone());
            ControlFlow::Break(())
        })
        .await?;
        Ok(found)
    }

    /// Shows the segments that end after `from`, oldest first, until `visit` breaks; children that `enter` refuses are
    /// passed over.
    ///
    /// # Errors
    /// As [`Self::manifest`].
    pub(crate) async fn each(
        &self,
        pointer: &ManifestPointer,
        from: Offset,
        enter: impl Fn(&Child) -> bool + Send,
        mut visit: impl FnMut(&ArchivedSegment) -> ControlFlow<()> + Send,
    ) -> Result<(), ReadError> {
        let manifest = self.manifest(pointer).await?;
        // Children still to be entered, nearest last; each level down replaces a child by its own.
        let mut parts = vec![Part::List(Arc::clone(&manifest.list))];
        while let Some(part) = parts.pop() {
            match part {
                Part::Child(child) => parts.push(Part::List(self.node(&child).await?)),
                Part::List(node) => {
                    let wanted = node.children.iter().rev().filter(|c| c.next_offset > from && enter(c));
                    let children: Vec<_> = wanted.cloned().map(Part::Child).collect();
                    parts.push(Part::Segments(node));
                    parts.extend(children);
                }
                Part::Segments(node) => {
                    let first = node.segments.partition_point(|segment| segment.next_offset <= from);
                    for segment in &node.segments[first..] {
                        if visit(segment).is_break() {
                            return Ok(());
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

enum Part {
    Child(Child),
    List(Arc<Node>),
    Segments(Arc<Node>),
}

fn memory_bytes(node: &Node) -> usize {
    let child = |c: &Child| size_of::<Child>() + c.object.len();
    let segment = |s: &ArchivedSegment| size_of::<ArchivedSegment>() + s.object.len() + 64 + s.epochs.len() * 16;
    512 + node.children.iter().map(child).sum::<usize>() + node.segments.iter().map(segment).sum::<usize>()
}
