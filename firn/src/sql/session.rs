//! What lasts from one query to the next: values of parameters, and views.
//!
//! The topics are the only tables, and SQL changes nothing: a view is remembered here, and sent with each query; the engine takes those
//! that the query names.

use std::collections::BTreeSet;

use analytics::sql::{Parameters, Text, View};
use serde_json::Value;

use super::statements;
use crate::WrongUse;

/// Parameters and views.
#[derive(Debug, Default)]
pub(super) struct Session {
    parameters: Parameters,
    views: Vec<View>,
}

impl Session {
    /// Without views.
    ///
    /// # Errors
    /// When parameters are named by numbers and by names, a number is left out, or one is given twice.
    pub(super) fn new(params: &[(String, String)]) -> Result<Self, WrongUse> {
        Ok(Session { parameters: parameters(params)?, views: Vec::new() })
    }

    /// Takes note of a `CREATE VIEW`; false where the statement is another one.
    ///
    /// # Errors
    /// When it has no name or no query.
    pub(super) fn remember(&mut self, statement: &str) -> Result<bool, WrongUse> {
        let created = View::created_by(statement).map_err(|error| WrongUse(error.to_string()))?;
        let Some(view) = created else { return Ok(false) };
        self.views.retain(|known| known.name != view.name);
        self.views.push(view);
        Ok(true)
    }

    /// The queries of a text of several statements, each with the views that are created before it.
    ///
    /// # Errors
    /// As [`Self::remember`].
    pub(super) fn queries(&mut self, text: &str) -> Result<Vec<Text>, WrongUse> {
        let mut queries = Vec::new();
        for statement in statements::split(text) {
            if !self.remember(statement)? {
                queries.push(self.text(statement));
            }
        }
        Ok(queries)
    }

    /// A query with all that it may refer to.
    pub(super) fn text(&self, query: &str) -> Text {
        Text { sql: query.to_owned(), parameters: self.parameters.clone(), views: self.views.clone() }
    }
}

fn parameters(params: &[(String, String)]) -> Result<Parameters, WrongUse> {
    let value = |text: &str| match serde_json::from_str::<Value>(text) {
        Ok(value @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_))) => value,
        _ => Value::String(text.to_owned()),
    };
    let twice = || WrongUse("a parameter is given twice".to_owned());
    let names: BTreeSet<&str> = params.iter().map(|(name, _)| name.as_str()).collect();
    if names.len() < params.len() {
        return Err(twice());
    }
    let numbers: Vec<Option<usize>> = params.iter().map(|(name, _)| name.parse().ok()).collect();
    if params.is_empty() {
        return Ok(Parameters::None);
    }
    if numbers.iter().all(Option::is_none) {
        return Ok(Parameters::Named(params.iter().map(|(name, text)| (name.clone(), value(text))).collect()));
    }
    let mut values = vec![None; params.len()];
    for ((name, text), number) in params.iter().zip(numbers) {
        let place = number.and_then(|number| values.get_mut(number.checked_sub(1)?));
        let place = place.ok_or_else(|| {
            WrongUse(format!("parameters are $1 to ${}, or have names: {name:?} does not fit", params.len()))
        })?;
        *place = Some(value(text));
    }
    let all: Option<Vec<Value>> = values.into_iter().collect();
    all.map(Parameters::List).ok_or_else(twice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(params: &[(&str, &str)]) -> Result<Parameters, String> {
        let params: Vec<_> = params.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        parameters(&params).map_err(|wrong| wrong.0)
    }

    #[test]
    fn parameters_are_json_or_text_by_number_or_name() {
        let list = Parameters::List(vec![Value::from("2013-07-04"), Value::from(7), Value::from("7")]);
        assert_eq!(given(&[("2", "7"), ("1", "2013-07-04"), ("3", "\"7\"")]), Ok(list));
        let named = Parameters::Named(vec![("carrier".to_owned(), Value::from("LH"))]);
        assert_eq!(given(&[("carrier", "LH")]), Ok(named));
        assert!(given(&[("1", "a"), ("name", "b")]).unwrap_err().contains("$1 to $2"));
        for twice in [[("1", "a"), ("1", "b")], [("1", "a"), ("01", "b")], [("name", "a"), ("name", "b")]] {
            assert!(given(&twice).unwrap_err().contains("twice"), "{twice:?}");
        }
    }

    #[test]
    fn a_query_has_the_views_that_stand_before_it() {
        let mut session = Session::default();
        let text = "-- Views may begin with a comment.\nCREATE VIEW late AS SELECT 1; SELECT * FROM late;
            CREATE OR REPLACE VIEW late AS SELECT 2; SELECT * FROM LATE";
        let queries = session.queries(text).unwrap();
        let seen: Vec<_> = queries.iter().map(|query| (query.sql.as_str(), query.views[0].sql.as_str())).collect();
        assert_eq!(seen, [("SELECT * FROM late", "SELECT 1"), ("SELECT * FROM LATE", "SELECT 2")]);
        assert!(session.remember("CREATE VIEW nothing").is_err());
        assert!(!session.remember("SELECT 1").unwrap());
    }
}
