//! The engine's words in those of this product: types as SQL and the pages here name them, one sentence, and what to write instead.

use datafusion::error::DataFusionError;

/// Names of types in the engine's messages, longest first, and ours.
const TYPES: [(&str, &str); 17] = [
    ("LargeBinary", "bytes"),
    ("BinaryView", "bytes"),
    ("Binary", "bytes"),
    ("LargeUtf8", "text"),
    ("Utf8View", "text"),
    ("Utf8", "text"),
    ("Boolean", "boolean"),
    ("Float64", "double"),
    ("Float32", "real"),
    ("UInt64", "bigint"),
    ("UInt32", "bigint"),
    ("Int64", "bigint"),
    ("Int32", "int"),
    ("Int16", "smallint"),
    ("Int8", "smallint"),
    ("Date32", "date"),
    ("Null", "null"),
];
/// Where the part begins that lists what the engine could do for other arguments.
const TAILS: [&str; 6] = [
    "\n\tCandidate functions",
    " Candidate functions",
    " No function matches the given name",
    " You might need to add",
    ". Use CAST",
    "\n\nThis issue was likely caused",
];
/// Beginnings that say nothing to the person who asked.
const HEADS: [&str; 6] = [
    "Execution error: ",
    "Error during planning: ",
    "Arrow error: ",
    "Cast error: ",
    "Compute error: ",
    "Optimizer rule 'simplify_expressions' failed\ncaused by\n",
];

/// The words for a person, on one line.
pub(super) fn sentence(text: &str) -> String {
    let text = text.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or(text).trim();
    let is_about_bytes = text.contains("Binary");
    let mut text = text;
    while let Some(rest) = HEADS.iter().find_map(|head| text.strip_prefix(head)) {
        text = rest;
    }
    let end = TAILS.iter().filter_map(|tail| text.find(tail)).min().unwrap_or(text.len());
    let mut words = plain_types(text[..end].trim_end_matches(['.', ' ']));
    if is_about_bytes {
        words.push_str("; keys and values are bytes: write text(key), text(value)");
    }
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn plain_types(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let starts_word = !plain.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let found = TYPES.iter().find(|(name, _)| {
            let is_whole = |after: &str| !after.starts_with(|c: char| c.is_alphanumeric() || c == '_');
            starts_word && rest.strip_prefix(name).is_some_and(is_whole)
        });
        if let Some((name, ours)) = found {
            let after = &rest[name.len()..];
            // A literal is written with its type: Int64(1).
            match after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
                Some((value, after)) => {
                    plain.push_str(value);
                    rest = after;
                }
                None => {
                    plain.push_str(ours);
                    rest = after;
                }
            }
        } else if let (true, Some(after)) = (starts_word, rest.strip_prefix("Timestamp(")) {
            plain.push_str("timestamp");
            rest = closed(after);
        } else {
            plain.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    plain
}

/// The text after the parenthesis that is open.
fn closed(text: &str) -> &str {
    let mut depth = 1_i32;
    for (at, c) in text.char_indices() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        if depth == 0 {
            return &text[at + 1..];
        }
    }
    ""
}

/// What used up the memory, from the engine's list of its consumers.
pub(super) fn memory(text: &str) -> String {
    let largest = text.lines().find(|line| line.contains(" consumed ")).and_then(|line| {
        let (name, rest) = line.trim().split_once(" consumed ")?;
        let name = name.split(['[', '#', '(']).next()?.trim();
        Some((consumer(name), rest.split(',').next()?))
    });
    let by = largest.map(|(name, bytes)| format!("{name} has {bytes} and wants more; ")).unwrap_or_default();
    format!("{by}raise firn.sql.memory.bytes, or narrow the query")
}

fn consumer(name: &str) -> &str {
    let known = [
        ("NestedLoopJoin", "a join on inequalities"),
        ("HashJoin", "a join"),
        ("CrossJoin", "a join"),
        ("SortMergeJoin", "a join"),
        ("ExternalSorter", "a sort"),
        ("SortPreserving", "a sort"),
        ("GroupedHashAggregate", "an aggregate"),
        ("Aggregate", "an aggregate"),
        ("RepartitionExec", "the exchange between threads"),
        ("RecursiveQuery", "a recursive query"),
        ("TopK", "a sort with a limit"),
    ];
    known.iter().find(|(engine, _)| name.starts_with(engine)).map_or(name, |(_, ours)| ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_s_words_become_ours() {
        let coerce =
            "Error during planning: There isn't a common type to coerce BinaryView and Utf8 in LIKE expression";
        assert_eq!(
            sentence(coerce),
            "There isn't a common type to coerce bytes and text in LIKE expression; keys and values are bytes: write text(key), text(value)"
        );
        let call = "Function 'upper' expects String but received BinaryView No function matches the given name and argument \
                    types 'upper(BinaryView)'. You might need to add explicit type casts.\n\tCandidate functions:\n\tupper(..)";
        assert!(
            sentence(call).starts_with("Function 'upper' expects String but received bytes; keys"),
            "{}",
            sentence(call)
        );
        assert_eq!(
            plain_types("a + Int64(1) of Timestamp(Microsecond, Some(\"UTC\")) Int64s"),
            "a + 1 of timestamp Int64s"
        );
        let full = "Additional allocation failed for X with top memory consumers (across reservations) as:\n  \
                    NestedLoopJoinLoad[0]#11(can spill: false) consumed 3.0 MB, peak 3.0 MB,\nError: Failed";
        assert!(
            memory(full).starts_with("a join on inequalities has 3.0 MB and wants more; raise"),
            "{}",
            memory(full)
        );
    }
}
