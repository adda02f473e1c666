//! What lasts from one query to the next: values of parameters, and views.
//!
//! The topics are the only tables, and SQL changes nothing: a view is remembered here, and sent with each query that names it.

use analytics::sql::output::Format;
use analytics::sql::{Parameters, Text, View};
use serde_json::Value;

use super::asking::Asked;
use super::{print, statements};
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
    /// When parameters are named by numbers and by names, or a number is left out.
    pub(super) fn new(params: &[(String, String)]) -> Result<Self, WrongUse> {
        Ok(Session { parameters: parameters(params)?, views: Vec::new() })
    }

    /// Takes note of a `CREATE VIEW`; false where the statement is another one.
    ///
    /// # Errors
    /// When it has no name or no query.
    pub(super) fn remember(&mut self, statement: &str) -> Result<bool, WrongUse> {
        let Some(view) = statements::view(statement) else { return Ok(false) };
        let (name, sql) = view.map_err(WrongUse)?;
        self.views.retain(|known| known.name != name);
        self.views.push(View { name, sql });
        Ok(true)
    }

    /// Prints a query's rows.
    pub(super) async fn answer(&self, asked: &Asked, query: &str, format: Format) -> anyhow::Result<()> {
        print(asked, self.text(query), format).await
    }

    fn text(&self, query: &str) -> Text {
        let mut named: Vec<View> = Vec::new();
        let mut text = query.to_owned();
        // A view may name those before it.
        for view in self.views.iter().rev().filter(|view| !view.name.is_empty()) {
            if text.contains(&view.name) {
                text.push_str(&view.sql);
                named.insert(0, view.clone());
            }
        }
        Text { sql: query.to_owned(), parameters: self.parameters.clone(), views: named }
    }
}

fn parameters(params: &[(String, String)]) -> Result<Parameters, WrongUse> {
    let value = |text: &str| match serde_json::from_str::<Value>(text) {
        Ok(value @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_))) => value,
        _ => Value::String(text.to_owned()),
    };
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
    all.map(Parameters::List).ok_or_else(|| WrongUse("a parameter is given twice".to_owned()))
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
        assert!(given(&[("1", "a"), ("1", "b")]).unwrap_err().contains("twice"));
    }

    #[test]
    fn a_view_is_sent_with_the_queries_that_name_it() {
        let mut session = Session::default();
        assert!(session.remember("CREATE VIEW late AS SELECT * FROM departures WHERE 1 = 1").unwrap());
        assert!(session.remember("create or replace view \"very late\" as SELECT * FROM late").unwrap());
        assert!(!session.remember("SELECT 1").unwrap());
        assert!(session.remember("CREATE VIEW nothing").is_err());
        let names = |query: &str| session.text(query).views.into_iter().map(|view| view.name).collect::<Vec<_>>();
        assert_eq!(names("SELECT * FROM \"very late\""), ["late", "very late"]);
        assert_eq!(names("SELECT 1"), Vec::<String>::new());
    }
}
