//! The bodies of answers, as the specification wants them.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::value::RawValue;

/// Why a request is refused.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { status, kind, message: message.into() }
    }

    pub(super) fn no_namespace(name: &str) -> Refusal {
        let message = format!("there is no namespace {name:?}: the topics are tables of \"topics\"");
        Refusal::new(StatusCode::NOT_FOUND, "NoSuchNamespaceException", message)
    }

    pub(super) fn no_table(message: String) -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, "NoSuchTableException", message)
    }

    pub(super) fn unavailable(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailableException", message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body {
            error: Model,
        }
        #[derive(Serialize)]
        struct Model {
            message: String,
            r#type: &'static str,
            code: u16,
        }
        let Refusal { status, kind, message } = self;
        (status, Json(Body { error: Model { message, r#type: kind, code: status.as_u16() } })).into_response()
    }
}

/// What the route for tokens answers: its errors have a form of their own.
#[derive(Debug, Serialize)]
pub(super) struct OAuthError {
    pub(super) error: &'static str,
    pub(super) error_description: &'static str,
}

/// `GET /v1/config`.
#[derive(Debug, Serialize)]
pub(super) struct CatalogConfig {
    pub(super) defaults: BTreeMap<String, String>,
    pub(super) overrides: BTreeMap<String, String>,
    pub(super) endpoints: &'static [&'static str],
}

/// `GET /v1/namespaces`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Namespaces {
    pub(super) namespaces: Vec<[&'static str; 1]>,
    pub(super) next_page_token: Option<String>,
}

/// `GET /v1/namespaces/topics`.
#[derive(Debug, Serialize)]
pub(super) struct Namespace {
    pub(super) namespace: [&'static str; 1],
    pub(super) properties: BTreeMap<String, String>,
}

/// `GET /v1/namespaces/topics/tables`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Tables {
    pub(super) identifiers: Vec<Identifier>,
    pub(super) next_page_token: Option<String>,
}

/// A table's name.
#[derive(Debug, Serialize)]
pub(super) struct Identifier {
    pub(super) namespace: [&'static str; 1],
    pub(super) name: String,
}

/// `GET /v1/namespaces/topics/tables/T`: the metadata go through as they lie in the bucket.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Loaded {
    pub(super) metadata_location: String,
    pub(super) metadata: Box<RawValue>,
    pub(super) config: BTreeMap<String, String>,
}
