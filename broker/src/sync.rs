//! The locks under which a leader keeps its book on followers: those of `parking_lot`. Tests use forms of the same locks that
//! hand control to a model checker at every step (`interleavings`), as the hot tier's do.

#[cfg(test)]
pub(crate) use interleavings::{Mutex, RwLock, point};
#[cfg(not(test))]
pub(crate) use parking_lot::{Mutex, RwLock};

/// A place between two steps that others may see apart. Only a model does something here.
#[cfg(not(test))]
pub(crate) fn point() {}
