//! What is asked: the text of a query, values for its parameters, and the views that it may name.

use datafusion::common::{ParamValues, ScalarValue};
use serde_json::Value;

use super::error::SqlError;
use super::statement;
use super::view::{View, named_in};

/// A query with all that it refers to beside the topics.
#[derive(Debug, Clone, Default)]
pub struct Text {
    /// One statement.
    pub sql: String,
    /// Values of `$1`, `$2`, … or `$name`.
    pub parameters: Parameters,
    /// Queries that it may name in `FROM`, in any order.
    pub views: Vec<View>,
}

impl From<&str> for Text {
    fn from(sql: &str) -> Self {
        Text { sql: sql.to_owned(), ..Text::default() }
    }
}

impl Text {
    /// The same, with the views alone that are named, each after those that it names itself.
    ///
    /// # Errors
    /// When there are too many views.
    pub(super) fn narrowed(self) -> Result<Text, SqlError> {
        let views = named_in(&self.sql, self.views)?;
        Ok(Text { views, ..self })
    }

    /// How many operators the query and its views have.
    ///
    /// # Errors
    /// When they are larger than the bounds.
    pub(super) fn operators(&self) -> Result<usize, SqlError> {
        let views = self.views.iter().map(|view| view.sql.as_str());
        let all: Vec<&str> = std::iter::once(self.sql.as_str()).chain(views).collect();
        statement::operators(&all.join("\n"))
    }
}

/// Values for the parameters of a query, as JSON has them.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Parameters {
    /// There are none.
    #[default]
    None,
    /// Of `$1`, `$2`, and so on.
    List(Vec<Value>),
    /// Of `$name`.
    Named(Vec<(String, Value)>),
}

impl Parameters {
    /// The parameters that a JSON value stands for: a list, an object, or null.
    ///
    /// # Errors
    /// When it is something else.
    pub fn from_json(value: Value) -> Result<Self, String> {
        match value {
            Value::Null => Ok(Parameters::None),
            Value::Array(values) => Ok(Parameters::List(values)),
            Value::Object(values) => Ok(Parameters::Named(values.into_iter().collect())),
            other => Err(format!("parameters are a list or an object, not {other}")),
        }
    }

    pub(super) fn values(&self) -> Result<ParamValues, SqlError> {
        match self {
            Parameters::None => Ok(ParamValues::List(Vec::new())),
            Parameters::List(values) => {
                Ok(values.iter().map(scalar).collect::<Result<Vec<ScalarValue>, SqlError>>()?.into())
            }
            Parameters::Named(values) => {
                let named = |(name, value): &(String, Value)| Ok((name.clone(), scalar(value)?));
                Ok(values.iter().map(named).collect::<Result<Vec<(String, ScalarValue)>, SqlError>>()?.into())
            }
        }
    }
}

fn scalar(value: &Value) -> Result<ScalarValue, SqlError> {
    let refuse = || SqlError::Invalid { message: format!("a parameter may not be {value}"), at: None };
    Ok(match value {
        Value::Null => ScalarValue::Null,
        Value::Bool(value) => ScalarValue::from(*value),
        Value::String(text) => ScalarValue::from(text.as_str()),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => ScalarValue::from(integer),
            (None, Some(float)) => ScalarValue::from(float),
            (None, None) => return Err(refuse()),
        },
        Value::Array(_) | Value::Object(_) => return Err(refuse()),
    })
}
