//! Connect tokens by HTTP, for a game's back end.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::answer::{Answer, Failure, Said, bounded, told_as};
use super::desk::Desk;
use crate::client::unix_time;
use crate::host::{HostKey, TokenIssuer};
use crate::protocol::EntityId;

/// Longest time for which a token lets in, in seconds: it is fetched when a player wants to join, not before.
const SECONDS_MAX: u64 = 3_600;

/// What makes connect tokens. Its copies are one: a key that one of them is told counts for all.
///
/// ```
/// use roomkeeper::admin::{AdminKey, AdminOptions, Tokens};
/// use roomkeeper::host::{HostKey, TokenIssuer};
///
/// let addresses = vec!["203.0.113.7:5000".parse()?];
/// let mut options = AdminOptions::at("10.0.0.7:8080".parse()?);
/// options.tokens = Some(Tokens::new(TokenIssuer { key: HostKey::random()?, addresses, expire_seconds: 30 }));
/// options.token_key = Some(AdminKey::parse("what-only-the-back-end-knows")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tokens(Arc<Mutex<TokenIssuer>>);

impl Tokens {
    /// Tokens as this issuer makes them.
    pub fn new(issuer: TokenIssuer) -> Self {
        Self(Arc::new(Mutex::new(issuer)))
    }

    /// From now on tokens are made with this key.
    pub fn use_key(&self, key: HostKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).key = key;
    }

    fn issuer(&self) -> TokenIssuer {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// `POST /tokens`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewToken {
    /// The player's id, or the name that stands for it.
    player: String,
    /// As others read it; the player, if it is not said.
    name: Option<String>,
    /// The only room that it is good for; any, if none is named.
    room: Option<String>,
    /// For how long it lets in.
    seconds: Option<u64>,
}

pub(super) async fn issue(State(desk): State<Arc<Desk>>, headers: HeaderMap, Said(asked): Said<NewToken>) -> Answer {
    let none = "this server makes no tokens: it lets in without, or has no key to make them with";
    let tokens = desk.tokens.as_ref().ok_or_else(|| Failure::new(StatusCode::NOT_IMPLEMENTED, "no_tokens", none))?;
    let name = asked.name.as_ref().unwrap_or(&asked.player);
    for (what, text) in [("the player", &asked.player), ("the name", name)] {
        bounded(what, text)?;
    }
    asked.room.as_ref().map_or(Ok(()), |room| bounded("the room's name", room))?;
    let mut issuer = tokens.issuer();
    issuer.expire_seconds = asked.seconds.unwrap_or(issuer.expire_seconds);
    if !(1..=SECONDS_MAX).contains(&issuer.expire_seconds) {
        return Err(Failure::bad(format!("a token is for 1 to {SECONDS_MAX} seconds, not {}", issuer.expire_seconds)));
    }
    let (player, now) = (EntityId::parse(&asked.player), unix_time());
    let bans = desk.host(crate::host::HostHandle::bans).await?;
    if let Some(ban) = bans.iter().find(|ban| ban.player == player) {
        return Err(Failure::new(StatusCode::FORBIDDEN, "banned", format!("{:?} is banned: {}", asked.player, ban.why)));
    }
    let token = issuer.issue(player, name, asked.room.as_deref(), now).map_err(|error| Failure::bad(error.to_string()))?;
    tracing::debug!(%player, name, room = asked.room, "a token was made");
    let wants_bytes = headers.get(header::ACCEPT).is_some_and(|accept| accept == "application/octet-stream");
    if wants_bytes {
        return Ok((StatusCode::CREATED, [(header::CONTENT_TYPE, "application/octet-stream")], token).into_response());
    }
    let told = json!({
        "token": BASE64_STANDARD.encode(token),
        "player": player.to_string(),
        "room": asked.room,
        "expires": now.as_secs() + issuer.expire_seconds,
        "addresses": issuer.addresses,
    });
    told_as(StatusCode::CREATED, &told)
}
