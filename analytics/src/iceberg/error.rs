//! Why a table's next state cannot be made.

/// Why a table's next state cannot be made. Nothing has been stored.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The specification's types refuse a value.
    #[error("making the table's {what}: {source}")]
    Spec {
        /// What was being made.
        what: &'static str,
        /// What is wrong with it.
        source: Box<iceberg::Error>,
    },
    /// A position delete file could not be encoded.
    #[error("encoding position deletes: {0}")]
    Deletes(#[from] parquet::errors::ParquetError),
    /// The caller's values contradict each other.
    #[error("{0}")]
    Inconsistent(String),
}

impl TableError {
    /// Says what was being made when the specification's types refused it.
    pub(crate) fn making(what: &'static str) -> impl Fn(iceberg::Error) -> TableError {
        move |source| TableError::Spec { what, source: Box::new(source) }
    }
}
