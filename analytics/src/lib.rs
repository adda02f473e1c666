//! The archive as tables.
//!
//! Nothing of the log waits for this package: it reads what the archive's manifests say and makes what other engines
//! want to see. [`iceberg`] is a topic as an Apache Iceberg table of format version 2, over the archived objects as they
//! lie: no record is copied. [`lake`] keeps those tables up to date in the object store,
//! and [`catalog`] tells engines where they are. [`sql`] answers queries over topics, archived records and hot ones alike.

pub mod catalog;
pub mod iceberg;
pub mod lake;
pub mod sql;
