//! The archive as tables.
//!
//! Nothing of the log waits for this package: it reads what the archive's manifests say and makes what other engines
//! want to see. [`iceberg`] is a topic as an Apache Iceberg table of format version 2, over the archived objects as they
//! lie: no record is copied.

pub mod iceberg;
