//! The page for browsers: its files, as they were when this was compiled.

use axum::extract::Path;
use axum::http::header;
use axum::response::IntoResponse;

use super::answer::{Answer, Failure};

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// A file, its type, and its text.
macro_rules! file {
    ($name:literal, $kind:expr) => {
        ($name, $kind, include_str!(concat!("../../assets/inspector/", $name)))
    };
}

const FILES: [(&str, &str, &str); 8] = [
    file!("index.html", HTML),
    file!("style.css", STYLE),
    file!("main.js", SCRIPT),
    file!("host.js", SCRIPT),
    file!("map.js", SCRIPT),
    file!("panels.js", SCRIPT),
    file!("timeline.js", SCRIPT),
    file!("orders.js", SCRIPT),
];

fn give(wanted: &str) -> Answer {
    let found = FILES.iter().find(|(name, ..)| *name == wanted);
    let (_, kind, text) = found.ok_or_else(|| Failure::missing(format!("the page has no file {wanted:?}")))?;
    // A newer server has newer ones.
    Ok(([(header::CONTENT_TYPE, *kind), (header::CACHE_CONTROL, "no-cache")], *text).into_response())
}

/// `GET /`.
pub(super) async fn index() -> Answer {
    give("index.html")
}

/// `GET /inspector/{file}`.
pub(super) async fn file(name: Result<Path<String>, axum::extract::rejection::PathRejection>) -> Answer {
    let Path(name) = name.map_err(|error| Failure::bad(error.to_string()))?;
    give(&name)
}
