//! How many bytes values take, and batches cut by that.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::datatypes::DataType;

/// Bytes of the values of an array: of a slice its own, not those of the buffers that it shares.
pub(super) fn value_bytes(array: &ArrayRef) -> usize {
    const VIEW_BYTES: usize = 16;
    let views = |lengths: usize| lengths + VIEW_BYTES * array.len();
    match array.data_type() {
        DataType::Utf8View => views(array.as_string_view().lengths().map(|length| length as usize).sum()),
        DataType::BinaryView => views(array.as_binary_view().lengths().map(|length| length as usize).sum()),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let (first, last) = (list.value_offsets().first(), list.value_offsets().last());
            let (first, last) = (first.map_or(0, |at| *at as usize), last.map_or(0, |at| *at as usize));
            value_bytes(&list.values().slice(first, last - first)) + 4 * array.len()
        }
        DataType::Struct(_) => array.as_struct().columns().iter().map(value_bytes).sum(),
        _ => array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size()),
    }
}

/// Bytes of the values of a batch.
pub(super) fn batch_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(value_bytes).sum()
}

/// The batch in slices of about `bytes` bytes and at most `rows` rows, each of one row at least.
pub(super) fn slices(batch: &RecordBatch, bytes: usize, rows: usize) -> impl Iterator<Item = RecordBatch> + use<> {
    let total = batch.num_rows();
    let row_bytes = batch_bytes(batch).div_ceil(total.max(1)).max(1);
    let step = (bytes / row_bytes).min(rows).max(1);
    let batch = batch.clone();
    (0..total).step_by(step).map(move |start| batch.slice(start, step.min(total - start)))
}
