//! Where one statement ends and the next begins: at semicolons that are in no text, name or comment.

use std::iter::Peekable;
use std::str::CharIndices;

/// The statements of a text, without their semicolons and without empty ones.
pub(super) fn split(text: &str) -> Vec<&str> {
    let mut statements = Vec::new();
    let mut begin = 0;
    for end in ends(text).chain([text.len()]) {
        let statement = text[begin..end].trim();
        // What has nothing but comments would be refused as empty.
        if has_words(statement) {
            statements.push(statement);
        }
        begin = (end + 1).min(text.len());
    }
    statements
}

/// Whether the text ends with the semicolon of a statement.
pub(super) fn is_complete(text: &str) -> bool {
    ends(text).last().is_some_and(|end| !has_words(&text[end + 1..]))
}

/// What a scan over the text is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Code(char),
    Quoted,
    Comment,
}

fn ends(text: &str) -> impl Iterator<Item = usize> {
    places(text).filter(|(_, place)| *place == Place::Code(';')).map(|(index, _)| index)
}

fn has_words(text: &str) -> bool {
    places(text).any(|(_, place)| match place {
        Place::Code(c) => !c.is_whitespace(),
        Place::Quoted => true,
        Place::Comment => false,
    })
}

/// Each character that begins something, with what it is.
fn places(text: &str) -> impl Iterator<Item = (usize, Place)> {
    let mut chars = text.char_indices().peekable();
    std::iter::from_fn(move || {
        let (index, c) = chars.next()?;
        let next = chars.peek().map(|(_, next)| *next);
        let place = match (c, next) {
            ('\'' | '"', _) => {
                skip(&mut chars, |c, _| c == quote(text, index));
                Place::Quoted
            }
            ('-', Some('-')) => {
                skip(&mut chars, |c, _| c == '\n');
                Place::Comment
            }
            ('/', Some('*')) => {
                chars.next();
                skip(&mut chars, |c, before| before == '*' && c == '/');
                Place::Comment
            }
            _ => Place::Code(c),
        };
        Some((index, place))
    })
}

fn quote(text: &str, index: usize) -> char {
    text[index..].chars().next().unwrap_or_default()
}

/// Passes over everything up to the character at which `is_end` says so, which is told the one before too.
fn skip(chars: &mut Peekable<CharIndices<'_>>, is_end: impl Fn(char, char) -> bool) {
    let mut before = '\0';
    for (_, c) in chars.by_ref() {
        if is_end(c, before) {
            return;
        }
        before = c;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn semicolons_in_texts_names_and_comments_end_nothing() {
        let text = "SELECT ';' ; -- no; \nSELECT \"a;b\" /* ; */ FROM t;; \n -- the end;";
        assert_eq!(split(text), ["SELECT ';'", "-- no; \nSELECT \"a;b\" /* ; */ FROM t"]);
        assert_eq!(split("SELECT 'it''s;'"), ["SELECT 'it''s;'"]);
        assert!(split(" ; -- nothing").is_empty());
    }

    #[test]
    fn a_statement_is_complete_with_its_semicolon() {
        assert!(is_complete("SELECT 1;"));
        assert!(is_complete("SELECT 1; -- done"));
        for open in ["", "SELECT 1", "SELECT ';", "SELECT 1 -- ;", "SELECT 1; SELECT 2", "SELECT 1 /* ;"] {
            assert!(!is_complete(open), "{open}");
        }
    }
}
