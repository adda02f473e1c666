//! From sealed segments to one Parquet object.
//!
//! [`segment`] walks the batches of the segments and leaves out what is not history, [`rows`] gathers a chunk's columns
//! as views over the segment's bytes, [`encode`] writes them. The walk runs on a worker thread; what comes out goes
//! through [`sink`], which bounds the memory and hands full parts to the upload.

pub(crate) mod encode;
pub(crate) mod rows;
pub(crate) mod segment;
pub(crate) mod sink;
