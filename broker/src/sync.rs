//! The locks under which a leader keeps its book on followers: those of `parking_lot`. Tests use forms of the same locks that
//! hand control to a model checker at every step, as the hot tier's do, so that it can try interleavings of the real code.

#[cfg(not(test))]
pub(crate) use parking_lot::{Mutex, RwLock};
#[cfg(test)]
pub(crate) use schedule::{Mutex, RwLock, point};

#[cfg(test)]
#[allow(dead_code, unused_imports, reason = "the hot tier uses the rest")]
#[path = "../../hot-tier/src/sync/schedule.rs"]
pub(crate) mod schedule;

/// A place between two steps that others may see apart. Only a model does something here.
#[cfg(not(test))]
pub(crate) fn point() {}
