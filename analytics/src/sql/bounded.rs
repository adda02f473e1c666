//! Functions whose result may be far larger than their arguments, with a bound on it.
//!
//! The memory limit of queries counts what operators hold, not what a function allocates for its result. Each call here works
//! out how large its result may become before anything is allocated, and refuses what is over the bound.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use super::error::SqlError;
use super::sizes::value_bytes;

/// Largest result of one call for one batch of rows, in bytes.
const MAX_RESULT_BYTES: u64 = 64 << 20;
/// Bytes of a character at most.
const CHARACTER_BYTES: u64 = 4;

/// The functions, and what their result grows with.
const FUNCTIONS: [(&str, Growth); 8] = [
    ("repeat", Growth::Repeat),
    ("array_repeat", Growth::Repeat),
    ("lpad", Growth::Pad),
    ("rpad", Growth::Pad),
    ("replace", Growth::Replace),
    ("array_resize", Growth::Resize),
    ("range", Growth::Series),
    ("generate_series", Growth::Series),
];

/// Replaces the functions of `state` by bounded ones.
pub(super) fn register(state: &mut SessionState) -> Result<()> {
    for (name, growth) in FUNCTIONS {
        let inner = state.udf(name)?;
        state.register_udf(Arc::new(ScalarUDF::new_from_impl(Bounded { inner, growth })))?;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Growth {
    /// The first argument, as often as the second says.
    Repeat,
    /// To as many characters as the second argument says.
    Pad,
    /// The third argument, for each place of the second in the first.
    Replace,
    /// To as many elements as the second argument says.
    Resize,
    /// From a number to another, in steps.
    Series,
}

/// A function that refuses results over [`MAX_RESULT_BYTES`].
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    growth: Growth,
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arguments)
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(arguments)
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arguments)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let bytes = self.growth.result_bytes(&arguments)?;
        if bytes > MAX_RESULT_BYTES {
            let message = format!(
                "the result of {}() for one batch of rows may take {bytes} bytes, more than the limit of {MAX_RESULT_BYTES}",
                self.name()
            );
            return Err(SqlError::Memory { message }.into());
        }
        self.inner.invoke_with_args(arguments)
    }
}

impl Growth {
    /// How many bytes the result may take.
    fn result_bytes(self, arguments: &ScalarFunctionArgs) -> Result<u64> {
        let all_scalar = arguments.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if all_scalar { 1 } else { arguments.number_rows };
        let args = Arguments { args: &arguments.args, rows };
        match self {
            Growth::Repeat => {
                let sizes = args.sizes(0)?;
                let counts = args.numbers(1)?;
                // An element has an offset too.
                Ok(sum((0..rows).map(|row| (sizes[row] + 4).saturating_mul(count(&counts, row)))))
            }
            Growth::Pad => {
                let counts = args.numbers(1)?;
                Ok(sum((0..rows).map(|row| count(&counts, row).saturating_mul(CHARACTER_BYTES))))
            }
            Growth::Resize => {
                let counts = args.numbers(1)?;
                let fill = if args.args.len() > 2 { args.sizes(2)? } else { vec![0; rows] };
                Ok(sum((0..rows).map(|row| (fill[row] + 8).saturating_mul(count(&counts, row)))))
            }
            Growth::Replace => args.replaced_bytes(),
            Growth::Series => args.series_bytes(),
        }
    }
}

/// The arguments of a call, as so many rows.
struct Arguments<'a> {
    args: &'a [ColumnarValue],
    rows: usize,
}

impl Arguments<'_> {
    fn array(&self, index: usize) -> Result<ArrayRef> {
        match self.args.get(index) {
            Some(value) => value.to_array(self.rows),
            None => ScalarValue::Null.to_array_of_size(self.rows),
        }
    }

    /// An argument as numbers; null where it is none.
    fn numbers(&self, index: usize) -> Result<Int64Array> {
        let array = self.array(index)?;
        let numbers = cast(&array, &DataType::Int64);
        Ok(numbers
            .map_or_else(|_| Int64Array::new_null(self.rows), |numbers| numbers.as_primitive::<Int64Type>().clone()))
    }

    /// Bytes of an argument's values by row: of text exactly, of others on average.
    fn sizes(&self, index: usize) -> Result<Vec<u64>> {
        let array = self.array(index)?;
        Ok(match array.data_type() {
            DataType::Utf8 => lengths(array.as_string::<i32>().iter()),
            DataType::LargeUtf8 => lengths(array.as_string::<i64>().iter()),
            DataType::Utf8View => lengths(array.as_string_view().iter()),
            _ => vec![(value_bytes(&array) as u64).div_ceil(self.rows.max(1) as u64); self.rows],
        })
    }

    fn replaced_bytes(&self) -> Result<u64> {
        let text = cast(&self.array(0)?, &DataType::Utf8View)?;
        let (from, to) = (cast(&self.array(1)?, &DataType::Utf8View)?, self.sizes(2)?);
        let rows = || text.as_string_view().iter().zip(from.as_string_view().iter()).zip(&to);
        let grown = |(text, from): (Option<&str>, Option<&str>), to: u64, matches: &dyn Fn(&str, &str) -> u64| {
            let (Some(text), Some(from)) = (text, from) else { return 0 };
            (text.len() as u64).saturating_add(matches(text, from).saturating_mul(to))
        };
        let at_most = |text: &str, from: &str| (text.len() / from.len().max(1) + 1) as u64;
        let bound = sum(rows().map(|(pair, to)| grown(pair, *to, &at_most)));
        if bound <= MAX_RESULT_BYTES {
            return Ok(bound);
        }
        let exactly = |text: &str, from: &str| text.matches(from).count() as u64;
        Ok(sum(rows().map(|(pair, to)| grown(pair, *to, &exactly))))
    }

    fn series_bytes(&self) -> Result<u64> {
        // Times go in steps of an interval, and are not bounded here.
        let is_number = |argument: &ColumnarValue| argument.data_type().is_integer() || argument.data_type().is_null();
        if !self.args.iter().all(is_number) {
            return Ok(0);
        }
        let (start, stop) = match self.args.len() {
            1 => (Int64Array::from_value(0, self.rows), self.numbers(0)?),
            _ => (self.numbers(0)?, self.numbers(1)?),
        };
        let step = if self.args.len() > 2 { self.numbers(2)? } else { Int64Array::from_value(1, self.rows) };
        Ok(sum((0..self.rows).map(|row| {
            let (start, stop, step) = (value(&start, row), value(&stop, row), value(&step, row));
            let elements = i128::from(stop) - i128::from(start);
            let elements = if step == 0 { 0 } else { elements / i128::from(step) };
            u64::try_from(elements.max(0) + 1).unwrap_or(u64::MAX).saturating_mul(8)
        })))
    }
}

fn lengths<'a>(texts: impl Iterator<Item = Option<&'a str>>) -> Vec<u64> {
    texts.map(|text| text.map_or(0, |text| text.len() as u64)).collect()
}

fn value(numbers: &Int64Array, row: usize) -> i64 {
    if numbers.is_null(row) { 0 } else { numbers.value(row) }
}

fn count(numbers: &Int64Array, row: usize) -> u64 {
    u64::try_from(value(numbers, row)).unwrap_or(0)
}

fn sum(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, u64::saturating_add)
}
