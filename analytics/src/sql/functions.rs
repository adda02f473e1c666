//! Functions for what keys and values really are: `text(bytes)`, and the JSON functions over bytes as they are over text.
//!
//! `json_get_str(value, 'carrier')` and `value->>'carrier'` mean what they mean for `text(value)`: bytes that are not
//! UTF-8 are null, and so is what is not JSON.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BinaryViewArray, Int32Array, StringViewArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, exec_err, plan_err};
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::json::JsonValues;

/// Adds the functions to what a session knows.
pub(super) fn register(state: &mut SessionState) -> Result<()> {
    // Operators are asked in turn, so bytes become text before the JSON operators see them.
    state.register_expr_planner(Arc::new(BytesAsJson))?;
    state.register_function_rewrite(Arc::new(BytesAsJson))?;
    datafusion_functions_json::register_all(state)?;
    JsonValues::register(state)?;
    for name in JSON_FUNCTIONS {
        let over_text = state.udf(name)?;
        state.register_udf(Arc::new(ScalarUDF::new_from_impl(OverBytes::new(over_text))))?;
    }
    state.register_udf(Arc::new(text_function()))?;
    let over_text = state.udf("octet_length")?;
    state.register_udf(Arc::new(ScalarUDF::new_from_impl(OctetLength::new(over_text))))?;
    super::bounded::register(state)
}

/// The JSON functions whose first argument is JSON.
const JSON_FUNCTIONS: [&str; 10] = [
    "json_get",
    "json_get_bool",
    "json_get_float",
    "json_get_int",
    "json_get_json",
    "json_get_array",
    "json_get_str",
    "json_as_text",
    "json_contains",
    "json_length",
];

fn text_function() -> ScalarUDF {
    ScalarUDF::new_from_impl(Text { signature: Signature::any(1, Volatility::Immutable) })
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_))
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8)
}

/// `text(bytes)`: the bytes as text, null where they are not UTF-8. Text stays as it is.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Text {
    signature: Signature,
}

impl ScalarUDFImpl for Text {
    fn name(&self) -> &'static str {
        "text"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match &arguments[0] {
            bytes if is_bytes(bytes) => Ok(DataType::Utf8View),
            DataType::Null => Ok(DataType::Utf8View),
            text if is_text(text) => Ok(text.clone()),
            other => plan_err!("text() takes bytes, not {other}: VALUE::text makes text of other values"),
        }
    }

    fn invoke_with_args(&self, mut arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match arguments.args.pop() {
            Some(value) if is_text(&value.data_type()) => Ok(value),
            Some(ColumnarValue::Array(bytes)) => Ok(ColumnarValue::Array(as_text(&bytes)?)),
            Some(ColumnarValue::Scalar(bytes)) => {
                let text = as_text(&bytes.to_array()?)?;
                Ok(ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&text, 0)?))
            }
            None => exec_err!("text() takes one argument"),
        }
    }
}

fn as_text(bytes: &ArrayRef) -> Result<ArrayRef> {
    let bytes = cast(bytes, &DataType::BinaryView)?;
    let bytes: &BinaryViewArray = bytes.as_binary_view();
    // Nearly always all values are text, and then nothing is copied.
    if let Ok(text) = bytes.clone().to_string_view() {
        return Ok(Arc::new(text));
    }
    let texts = bytes.iter().map(|value| value.and_then(|value| std::str::from_utf8(value).ok()));
    Ok(Arc::new(texts.collect::<StringViewArray>()))
}

/// A JSON function that also takes bytes while types are worked out; [`BytesAsJson`] makes them text before it runs.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OverBytes {
    over_text: Arc<ScalarUDF>,
}

impl OverBytes {
    fn new(over_text: Arc<ScalarUDF>) -> Self {
        OverBytes { over_text }
    }
}

impl ScalarUDFImpl for OverBytes {
    fn name(&self) -> &str {
        self.over_text.name()
    }

    fn signature(&self) -> &Signature {
        self.over_text.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let mut arguments = arguments.to_vec();
        if let Some(first) = arguments.first_mut().filter(|first| is_bytes(first)) {
            *first = DataType::Utf8View;
        }
        self.over_text.return_type(&arguments)
    }

    fn invoke_with_args(&self, mut arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let Some(first) = arguments.args.first_mut().filter(|first| is_bytes(&first.data_type())) {
            let array = first.to_array(arguments.number_rows)?;
            *first = ColumnarValue::Array(as_text(&array)?);
        }
        self.over_text.invoke_with_args(arguments)
    }
}

/// `octet_length` of bytes as well as of text.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OctetLength {
    over_text: Arc<ScalarUDF>,
    signature: Signature,
}

impl OctetLength {
    fn new(over_text: Arc<ScalarUDF>) -> Self {
        OctetLength { over_text, signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for OctetLength {
    fn name(&self) -> &'static str {
        "octet_length"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match &arguments[0] {
            argument if is_bytes(argument) => Ok(DataType::Int32),
            argument if is_text(argument) => self.over_text.return_type(arguments),
            other => plan_err!("octet_length() takes bytes or text, not {other}"),
        }
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(bytes) = arguments.args.first().filter(|first| is_bytes(&first.data_type())) else {
            return self.over_text.invoke_with_args(arguments);
        };
        let bytes = cast(&bytes.to_array(arguments.number_rows)?, &DataType::BinaryView)?;
        let lengths =
            bytes.as_binary_view().iter().map(|value| value.and_then(|value| i32::try_from(value.len()).ok()));
        Ok(ColumnarValue::Array(Arc::new(lengths.collect::<Int32Array>())))
    }
}

/// Puts `text()` around bytes that a JSON function or operator is given.
#[derive(Debug)]
struct BytesAsJson;

impl BytesAsJson {
    fn as_text(expr: Expr) -> Expr {
        Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(text_function()), vec![expr]))
    }
}

impl ExprPlanner for BytesAsJson {
    fn plan_binary_op(&self, mut expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let is_json = matches!(expr.op, BinaryOperator::Arrow | BinaryOperator::LongArrow | BinaryOperator::Question);
        if is_json && is_bytes(&expr.left.get_type(schema)?) {
            let name = expr.left.schema_name().to_string();
            // The alias keeps the title of the column as it was written.
            expr.left = Self::as_text(expr.left).alias(name);
        }
        Ok(PlannerResult::Original(expr))
    }
}

impl FunctionRewrite for BytesAsJson {
    fn name(&self) -> &'static str {
        "BytesAsJson"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _config: &ConfigOptions) -> Result<Transformed<Expr>> {
        match expr {
            Expr::ScalarFunction(mut call) if JSON_FUNCTIONS.contains(&call.func.name()) => {
                match call.args.first_mut() {
                    Some(first) if is_bytes(&first.get_type(schema)?) => {
                        *first = Self::as_text(std::mem::take(first));
                        Ok(Transformed::yes(Expr::ScalarFunction(call)))
                    }
                    _ => Ok(Transformed::no(Expr::ScalarFunction(call))),
                }
            }
            other => Ok(Transformed::no(other)),
        }
    }
}
