//! The locks that threads of the tier share: those of `parking_lot`. Tests use forms of the same locks which hand control to
//! a model checker at every step (`interleavings`), so that it can try interleavings of the real code.

#[cfg(test)]
pub(crate) use interleavings::{Condvar, Mutex, MutexGuard, RwLock};
#[cfg(not(test))]
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
