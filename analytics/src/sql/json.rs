//! JSON values as SQL values, where the library's own functions would not do: they take negative numbers for null, and stop
//! at integers that need more than 64 bits.
//!
//! `json_get_int` and `json_get_float` go by the text of a value, so that every number counts. `json_get` and the operator `->`
//! give JSON text, as in PostgreSQL, unless they are cast: then the cast says which function is meant.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::expr::{Cast, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};

const GET: &str = "json_get";
const GET_JSON: &str = "json_get_json";

/// Which numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Int,
    Float,
}

/// `json_get_int` or `json_get_float`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Number {
    kind: Kind,
    as_text: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for Number {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Int => "json_get_int",
            Kind::Float => "json_get_float",
        }
    }

    fn signature(&self) -> &Signature {
        self.as_text.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.as_text.return_type(arguments)?;
        Ok(match self.kind {
            Kind::Int => DataType::Int64,
            Kind::Float => DataType::Float64,
        })
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let return_field = Arc::new(Field::new(self.as_text.name(), DataType::Utf8, true));
        match self.as_text.invoke_with_args(ScalarFunctionArgs { return_field, ..arguments })? {
            ColumnarValue::Array(texts) => Ok(ColumnarValue::Array(self.numbers(&texts)?)),
            ColumnarValue::Scalar(text) => {
                let number = self.numbers(&text.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&number, 0)?))
            }
        }
    }
}

impl Number {
    fn numbers(&self, texts: &ArrayRef) -> Result<ArrayRef> {
        let texts = cast(texts, &DataType::Utf8View)?;
        let texts = || texts.as_string_view().iter();
        Ok(match self.kind {
            Kind::Int => Arc::new(texts().map(|text| text?.parse().ok()).collect::<Int64Array>()),
            Kind::Float => Arc::new(texts().map(|text| text?.parse().ok()).collect::<Float64Array>()),
        })
    }
}

/// Puts these functions in the place of the library's.
pub(super) struct JsonValues {
    int: Arc<ScalarUDF>,
    float: Arc<ScalarUDF>,
    bool: Arc<ScalarUDF>,
    text: Arc<ScalarUDF>,
    json: Arc<ScalarUDF>,
}

impl fmt::Debug for JsonValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JsonValues")
    }
}

impl JsonValues {
    /// Over the functions that `state` has; adds those that replace some of them.
    pub(super) fn register(state: &mut SessionState) -> Result<()> {
        let as_text = state.udf("json_as_text")?;
        let number = |kind| Arc::new(ScalarUDF::new_from_impl(Number { kind, as_text: Arc::clone(&as_text) }));
        let (int, float) = (number(Kind::Int), number(Kind::Float));
        let (bool, text, json) = (state.udf("json_get_bool")?, state.udf("json_get_str")?, state.udf(GET_JSON)?);
        for function in [&int, &float] {
            state.register_udf(Arc::clone(function))?;
        }
        state.register_function_rewrite(Arc::new(JsonValues { int, float, bool, text, json }))
    }

    /// The function that gives JSON as a value of that type, where one does.
    fn of_type(&self, wanted: &DataType) -> Option<&Arc<ScalarUDF>> {
        match wanted {
            DataType::Boolean => Some(&self.bool),
            integer if integer.is_integer() => Some(&self.int),
            number if number.is_numeric() => Some(&self.float),
            DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => Some(&self.text),
            _ => None,
        }
    }
}

impl FunctionRewrite for JsonValues {
    fn name(&self) -> &'static str {
        "JsonValues"
    }

    fn rewrite(&self, expr: Expr, _schema: &DFSchema, _config: &ConfigOptions) -> Result<Transformed<Expr>> {
        match expr {
            Expr::ScalarFunction(mut call) => {
                call.func = Arc::clone(match call.func.name() {
                    GET => &self.json,
                    "json_get_int" => &self.int,
                    "json_get_float" => &self.float,
                    GET_JSON | "json_as_text" | "json_get_str" | "json_get_bool" => &call.func,
                    _ => return Ok(Transformed::no(Expr::ScalarFunction(call))),
                });
                Ok(Transformed::yes(Expr::ScalarFunction(one_step(call))))
            }
            // Inner expressions come first: `json_get` is `json_get_json` by now.
            Expr::Cast(cast) => {
                let function = json_of(&cast.expr).and_then(|call| Some((self.of_type(cast.field.data_type())?, call)));
                let Some((function, call)) = function else { return Ok(Transformed::no(Expr::Cast(cast))) };
                let value = ScalarFunction::new_udf(Arc::clone(function), call.args.clone());
                let value = Box::new(Expr::ScalarFunction(value));
                Ok(Transformed::yes(Expr::Cast(Cast { expr: value, ..cast })))
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

/// A value of a value, by one path: `json_as_text(json_get_json(x, 'a'), 'b')` is `json_as_text(x, 'a', 'b')`.
fn one_step(mut call: ScalarFunction) -> ScalarFunction {
    let Some(inner) = call.args.first().and_then(json_of) else { return call };
    let args: Vec<_> = inner.args.iter().chain(&call.args[1..]).cloned().collect();
    if args[1..].iter().all(|step| matches!(step, Expr::Literal(..))) {
        call.args = args;
    }
    call
}

fn json_of(expr: &Expr) -> Option<&ScalarFunction> {
    match expr {
        Expr::ScalarFunction(call) if call.func.name() == GET_JSON => Some(call),
        Expr::Alias(alias) => json_of(&alias.expr),
        _ => None,
    }
}
