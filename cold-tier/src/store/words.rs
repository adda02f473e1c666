//! What a store's error says, in few words, and what to do about it.
//!
//! The error of a call is a chain: the library's words, a line of HTTP, and the store's own words as a document of XML, JSON or
//! HTML. [`of`] leaves the request, the status, the store's code and its sentence, or the last cause where no answer came.
//! [`advice`] knows the faults that a start meets most.

use std::error::Error;

use crate::error::{StoreError, StoreErrorKind};

/// Longest text of a store or a library that is passed on, in characters.
const MAX_CHARS: usize = 240;

/// The words of an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Words {
    /// In one line.
    pub(crate) short: String,
    /// The store's code for what is wrong, where it gave one.
    pub(crate) code: Option<String>,
    /// True when the store answered that the caller may not do this.
    pub(crate) is_forbidden: bool,
}

/// The words of an error of `object_store`.
pub(crate) fn of(error: &object_store::Error) -> Words {
    let all = chain(error);
    tracing::debug!(error = all, "call to the object store failed");
    let Some(answer) = Answer::of(&all) else {
        let cause = deepest(error);
        let request = request(&all).map(|(method, endpoint)| format!("{method} at {endpoint}: {}", plain(&cause)));
        let short = cut(&request.unwrap_or_else(|| plain(&all)));
        return Words { short, code: None, is_forbidden: false };
    };
    let request = request(&all).map_or_else(|| "the request".to_owned(), |(method, at)| format!("{method} at {at}"));
    let is_forbidden = ["401", "403"].iter().any(|status| answer.status.starts_with(status));
    let said: Vec<_> = [answer.code.clone(), answer.message].into_iter().flatten().collect();
    let said = if said.is_empty() { answer.body } else { said.join(", ") };
    let said = if said.is_empty() { said } else { format!(": {said}") };
    let short = cut(&format!("{request} was answered with {}{said}", answer.status));
    Words { short, code: answer.code, is_forbidden }
}

/// An error with all that caused it, in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The last cause, which knows best.
fn deepest(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The words without the library's names for itself.
fn plain(text: &str) -> String {
    let rest = text.strip_prefix("Generic ").and_then(|rest| rest.split_once(" error: "));
    rest.filter(|(store, _)| !store.contains(' ')).map_or(text, |(_, rest)| rest).to_owned()
}

/// The beginning and the end of a text that is too long: it ends with the cause.
fn cut(text: &str) -> String {
    let count = text.chars().count();
    if count <= MAX_CHARS {
        return text.to_owned();
    }
    let half = MAX_CHARS / 2;
    let (head, tail): (String, String) = (text.chars().take(half).collect(), text.chars().skip(count - half).collect());
    format!("{head}…{tail}")
}

/// The method of the request that failed, and where it went.
fn request(text: &str) -> Option<(String, String)> {
    let (_, rest) = text.split_once("Error performing ")?;
    let mut words = rest.split(' ');
    let (method, url) = (words.next()?, words.next()?);
    let url = url::Url::parse(url).ok().filter(url::Url::has_host)?;
    Some((method.to_owned(), url.origin().ascii_serialization()))
}

/// What a store answered.
struct Answer {
    status: String,
    code: Option<String>,
    message: Option<String>,
    /// What it said where that is no document with a code.
    body: String,
}

impl Answer {
    fn of(text: &str) -> Option<Answer> {
        let (status, body) = match text.split_once("non-2xx status code: ") {
            Some((_, rest)) => rest.split_once(": ").unwrap_or((rest, "")),
            None => ("an error", text.split_once("Server returned error response: ")?.1),
        };
        let json: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
        let json = json.get("error").unwrap_or(&json);
        let text_of = |name: &str| json.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
        let code = element(body, "Code").or_else(|| text_of("code"));
        let message = element(body, "Message").or_else(|| text_of("message"));
        let is_html = ["<html", "<!doctype html"].iter().any(|tag| body.to_ascii_lowercase().contains(tag));
        let is_document = body.trim_start().starts_with(['<', '{']);
        let body = match (is_html, is_document) {
            (true, _) => "a page of HTML".to_owned(),
            (false, true) => String::new(),
            (false, false) => body.trim().to_owned(),
        };
        Some(Answer {
            status: status.trim().to_owned(),
            code,
            message: message.map(|text| first_sentence(&text)),
            body,
        })
    }
}

/// The text of an element of XML.
fn element(document: &str, name: &str) -> Option<String> {
    let (_, rest) = document.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(unescaped(text).trim().to_owned()).filter(|text| !text.is_empty())
}

/// Text of XML with its references resolved. One that is not known stays as it is.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        plain.push_str(before);
        let resolved = after.split_once(';').and_then(|(name, after)| Some((referred(name)?, after)));
        let (character, after) = resolved.unwrap_or(('&', after));
        plain.push(character);
        rest = after;
    }
    plain + rest
}

fn referred(name: &str) -> Option<char> {
    match name {
        "quot" => Some('"'),
        "apos" => Some('\''),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        _ => {
            let number = name.strip_prefix('#')?;
            let hexadecimal = number.strip_prefix(['x', 'X']).map(|digits| u32::from_str_radix(digits, 16));
            char::from_u32(hexadecimal.unwrap_or_else(|| number.parse()).ok()?)
        }
    }
}

/// Azure adds an id and a time to its sentence.
fn first_sentence(text: &str) -> String {
    text.split(" RequestId:").next().unwrap_or(text).trim_end().trim_end_matches('.').to_owned()
}

/// What is wrong and what to do, for the person who starts a broker; none where that is not known.
pub(crate) fn advice(error: &StoreError, scheme: &str) -> Option<String> {
    let detail = error.detail.as_str();
    let has = |words: &[&str]| words.iter().any(|word| detail.contains(word));
    let is_folder = matches!(scheme, "" | "file");
    let advice = if is_folder {
        return of_folder(detail).map(str::to_owned);
    } else if has(&["no AWS credentials"]) {
        "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run where a role gives them"
    } else if has(&["NoSuchBucket", "ContainerNotFound", "specified bucket does not exist", "bucket not found"]) {
        "the bucket does not exist: create it, or correct its name in the URL"
    } else if has(&[
        "AuthorizationHeaderMalformed",
        "PermanentRedirect",
        "IllegalLocationConstraint",
        "without LOCATION",
        "301 Moved",
    ]) {
        return Some(of_region(detail));
    } else if has(&["InvalidAccessKeyId"]) {
        "the store does not know the access key: correct AWS_ACCESS_KEY_ID"
    } else if has(&["SignatureDoesNotMatch", "AuthenticationFailed"]) {
        "the secret does not belong to the key: correct it (AWS_SECRET_ACCESS_KEY, AZURE_STORAGE_ACCOUNT_KEY)"
    } else if has(&["RequestTimeTooSkewed"]) {
        "the clock of this machine differs too much from the store's: set it"
    } else if has(&["ExpiredToken", "TokenRefreshRequired", "InvalidToken"]) {
        "the credentials have expired: renew them"
    } else if has(&["MethodNotAllowed", "NotImplemented", "501 Not Implemented"]) {
        "the store does not know a request that an archive needs, such as a PUT with If-None-Match: use another store, or another version of it"
    } else if has(&["QuotaExceeded", "InsufficientStorage", "507 "]) {
        "the store is full: make room, or raise its quota"
    } else if has(&["HTTP request to an HTTPS server", "plain HTTP request was sent to HTTPS"]) {
        "the endpoint speaks HTTPS: write https:// in it"
    } else if error.kind == StoreErrorKind::Denied || has(&["AccessDenied", "AuthorizationPermissionMismatch"]) {
        return Some(of_permission(error.operation).to_owned());
    } else if has(&["a page of HTML", "405 Method Not Allowed"]) {
        "the endpoint is not one of an object store: correct it"
    } else {
        return of_connection(error, detail).map(str::to_owned);
    };
    Some(advice.to_owned())
}

fn of_connection(error: &StoreError, detail: &str) -> Option<&'static str> {
    let has = |words: &[&str]| words.iter().any(|word| detail.contains(word));
    Some(if has(&["InvalidContentType", "corrupt message", "wrong version number"]) {
        "the endpoint speaks plain HTTP: write http:// in it"
    } else if has(&["Connection refused"]) {
        "nothing listens at the endpoint: start the store, or correct host and port"
    } else if has(&["lookup address", "Name or service not known", "dns error"]) {
        "the host of the endpoint is not known: correct its name, or the name server"
    } else if has(&["certificate", "UnknownIssuer"]) {
        "the endpoint's certificate is not trusted: install its authority's certificate, or correct the host's name"
    } else if has(&["URL scheme is not allowed"]) {
        "the endpoint speaks plain HTTP, which is not allowed: add allow_http=true to the URL's options"
    } else if has(&["unreachable", "No route to host"]) {
        "there is no route to the endpoint: correct its address, or the network"
    } else if has(&["metadata.google.internal", "169.254.169.254"]) {
        "there are no credentials, and this machine has no role that gives them: set GOOGLE_SERVICE_ACCOUNT or AZURE_STORAGE_ACCOUNT_KEY"
    } else if has(&[
        "invalid HTTP",
        "message parse",
        "error reading a body",
        "IncompleteMessage",
        "before message completed",
        "Connection reset",
    ]) {
        "the endpoint does not speak HTTP as an object store does: correct host, port and scheme"
    } else if error.kind == StoreErrorKind::TimedOut || has(&["timed out"]) {
        "the endpoint does not answer: see whether the store works, and whether a firewall drops the requests"
    } else if has(&[" 503 ", " 500 ", " 502 ", " 504 "]) {
        "the store answers with errors of its own: see its log, and start again when it works"
    } else {
        return None;
    })
}

fn of_region(detail: &str) -> String {
    let region = detail.split("expecting '").nth(1).and_then(|rest| rest.split('\'').next());
    match region {
        Some(region) => format!("the bucket lies in the region {region}: set AWS_REGION={region}"),
        None => "the bucket lies in another region: set AWS_REGION to the bucket's".to_owned(),
    }
}

fn of_permission(operation: &str) -> &'static str {
    match operation {
        "put" | "put_part" | "upload" => {
            "the key may not write: allow it s3:PutObject on the bucket's objects, or their like"
        }
        "delete" => "the key may not delete: allow it s3:DeleteObject on the bucket's objects, or their like",
        "list" => "the key may not list: allow it s3:ListBucket on the bucket, or its like",
        _ => "the key may not read: allow it s3:GetObject on the bucket's objects, or their like",
    }
}

/// The same for a folder.
pub(crate) fn of_folder(detail: &str) -> Option<&'static str> {
    let has = |words: &str| detail.contains(words);
    Some(if has("Permission denied") || has("not permitted") {
        "the folder cannot be written: give it to the user that runs the broker"
    } else if has("Read-only file system") {
        "the folder's file system is read-only: mount it for writing"
    } else if has("No space left") || has("Disk quota") {
        "the folder's file system is full: make room"
    } else if has("Not a directory") || has("File exists") {
        "the path, or a part of it, is a file: name a folder"
    } else if has("Input/output error") {
        "the folder's disk has errors: replace it, or name another folder"
    } else {
        return None;
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> (String, Option<String>, Option<String>, String) {
        let answer = Answer::of(text).unwrap();
        (answer.status, answer.code, answer.message, answer.body)
    }

    #[test]
    fn the_store_s_code_and_sentence_are_found_in_its_document() {
        let xml = "Server returned non-2xx status code: 404 Not Found: <?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code>\
            <Message>The specified bucket doesn&apos;t exist.</Message><HostId>x</HostId></Error>";
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            answer(xml),
            ("404 Not Found".into(), some("NoSuchBucket"), some("The specified bucket doesn't exist"), String::new())
        );
        let json = "non-2xx status code: 403 Forbidden: {\"error\": {\"code\": 403, \"message\": \"no access\"}}";
        assert_eq!(answer(json), ("403 Forbidden".into(), None, some("no access"), String::new()));
        let html = "non-2xx status code: 404 Not Found: <html><body>nginx</body></html>";
        assert_eq!(answer(html).3, "a page of HTML");
        assert_eq!(answer("non-2xx status code: 400 Bad Request: use TLS").3, "use TLS");
    }

    #[test]
    fn references_of_xml_are_resolved_once_and_what_is_none_stays() {
        for (text, plain) in [
            ("&#34;a&#x22; &lt;&amp;lt;&gt;", "\"a\" <&lt;>"),
            ("a & b; &nbsp; &#xD800; &#; &", "a & b; &nbsp; &#xD800; &#; &"),
        ] {
            assert_eq!(unescaped(text), plain);
        }
    }

    #[test]
    fn a_request_is_named_by_its_method_and_endpoint() {
        let text = "Generic S3 error: Error performing PUT http://127.0.0.1:9000/b/firn/x?y=1 in 1.2ms - HTTP error";
        assert_eq!(request(text), Some(("PUT".into(), "http://127.0.0.1:9000".into())));
        assert_eq!(plain("Generic S3 error: Missing key"), "Missing key");
    }
}
