//! Answers as JSON, also where something is wrong; and what is asked, read with care.

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::guard::BODY_BYTES_MAX;
use crate::host::OrderError;
use crate::protocol::CodecError;
use crate::store::StoreError;

/// Why a request was not answered as it wanted: for a program, and for a person.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
    /// What else a program is told; null for nothing.
    pub(super) more: Value,
}

/// The code of what another version of the game wrote.
pub(super) const ANOTHER_PROTOCOL: &str = "another_protocol";

/// What a handler gives.
pub(super) type Answer = Result<Response, Failure>;

impl Failure {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), more: Value::Null }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(super) fn missing(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    pub(super) fn broken(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", message)
    }
}

/// JSON with further fields.
pub(super) fn with(mut json: Value, fields: Value) -> Value {
    if let (Some(all), Value::Object(fields)) = (json.as_object_mut(), fields) {
        all.extend(fields);
    }
    json
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = with(json!({ "error": self.code, "message": self.message }), self.more);
        (self.status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
    }
}

impl From<OrderError> for Failure {
    fn from(error: OrderError) -> Self {
        let (status, code) = match &error {
            OrderError::NoRoom(_) => (StatusCode::NOT_FOUND, "no_room"),
            OrderError::Refused(_) => (StatusCode::CONFLICT, "refused"),
            OrderError::NoAnswer => (StatusCode::SERVICE_UNAVAILABLE, "no_answer"),
            OrderError::Stopped => (StatusCode::SERVICE_UNAVAILABLE, "stopped"),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let (status, code) = match &error {
            StoreError::NoRoom { .. } => (StatusCode::NOT_FOUND, "no_room"),
            StoreError::NoSnippet { .. } => (StatusCode::NOT_FOUND, "no_snippet"),
            StoreError::NoTick { .. } => (StatusCode::NOT_FOUND, "no_tick"),
            StoreError::Protocol { .. } => (StatusCode::CONFLICT, ANOTHER_PROTOCOL),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "store"),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<CodecError> for Failure {
    fn from(error: CodecError) -> Self {
        Self::broken(error.to_string())
    }
}

/// A value as the answer.
pub(super) fn told(value: &Value) -> Answer {
    told_as(StatusCode::OK, value)
}

pub(super) fn told_as(status: StatusCode, value: &Value) -> Answer {
    Ok((status, [(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response())
}

/// Longest name, and longest reason, in bytes.
const TEXT_MAX: usize = 256;

/// A name, or a reason, that can be shown.
pub(super) fn bounded(what: &str, text: &str) -> Result<(), Failure> {
    match text.len() {
        0 => Err(Failure::bad(format!("{what} is empty"))),
        length if length > TEXT_MAX => Err(Failure::bad(format!("{what} has {length} bytes; {TEXT_MAX} are allowed"))),
        _ if text.chars().any(char::is_control) => Err(Failure::bad(format!("{what} has control characters"))),
        _ => Ok(()),
    }
}

/// The room, or the player, that the path names.
pub(super) struct Room(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Room {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(name)| Self(name)).map_err(|error| Failure::bad(format!("the name in the path can't be read: {error}")))
    }
}

/// What stands behind the question mark.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(asked)| Self(asked)).map_err(|error| Failure::bad(error.body_text()))
    }
}

/// What the body says, as JSON.
pub(super) struct Said<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Said<T> {
    type Rejection = Failure;

    async fn from_request(request: Request<Body>, _: &S) -> Result<Self, Failure> {
        let is_json = |value: &header::HeaderValue| value.to_str().is_ok_and(|text| text.starts_with("application/json"));
        // A form of a foreign page can't say this, and a script of one must ask first.
        if !request.headers().get(header::CONTENT_TYPE).is_some_and(is_json) {
            return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", "the body must be application/json"));
        }
        // The guard has read it already, and knows that it is not too long.
        let bytes = to_bytes(request.into_body(), BODY_BYTES_MAX).await.map_err(|error| Failure::bad(error.to_string()))?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| Failure::bad(format!("the body: {error}")))
    }
}
