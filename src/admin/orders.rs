//! Orders: what changes something.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::answer::{Answer, Asked, Failure, Room, Said, bounded, told, told_as, with};
use super::desk::Desk;
use crate::client::unix_time;
use crate::host::{Ban, Host, OrderError};
use crate::protocol::{EntityId, FactSeq, Incoming, RoomTick, Speed};

/// Most ticks that a room goes on at once while it stands still: a minute.
const STEPS_MAX: u32 = 1_200;

/// No fact has a higher number: stores count in 63 bits.
pub(super) const FACT_MAX: u64 = u64::MAX >> 1;

/// `POST /rooms`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Open {
    room: String,
    /// The only one there is, if none is named.
    template: Option<String>,
}

pub(super) async fn open(State(desk): State<Arc<Desk>>, Said(Open { room, template }): Said<Open>) -> Answer {
    Host::check_name(&room).map_err(|wanted| Failure::bad(format!("the room's name {room:?}: {wanted}")))?;
    let template = match template {
        Some(template) => template,
        None => {
            let known = desk.host(crate::host::HostHandle::overview).await?.templates;
            match known.as_slice() {
                [only] => only.clone(),
                _ => return Err(Failure::bad(format!("name a template; there are: {}", known.join(", ")))),
            }
        }
    };
    let opened = json!({ "room": room, "template": template });
    let (asked, by) = (room.clone(), template.clone());
    desk.host(move |host| host.open(&asked, &by)).await?;
    tracing::info!(room, template, "opened by an operator");
    told_as(StatusCode::CREATED, &opened)
}

/// `DELETE /rooms/{room}`.
#[derive(Deserialize)]
pub(super) struct Close {
    why: Option<String>,
}

pub(super) async fn close(State(desk): State<Arc<Desk>>, Room(room): Room, Asked(Close { why }): Asked<Close>) -> Answer {
    let why = why.unwrap_or_else(|| "an operator closed it".to_owned());
    bounded("the reason", &why)?;
    let closed = json!({ "room": room, "closed": true });
    let (asked, because) = (room.clone(), why.clone());
    desk.host(move |host| host.close(&asked, &because)).await?;
    tracing::info!(room, why, "closed by an operator");
    told(&closed)
}

/// `DELETE /rooms/{room}/ledger`.
pub(super) async fn delete(State(desk): State<Arc<Desk>>, Room(room): Room) -> Answer {
    let asked = room.clone();
    desk.host(move |host| host.delete(&asked)).await?;
    tracing::warn!(room, "deleted by an operator, with all that was stored of it");
    told(&json!({ "room": room, "deleted": true }))
}

/// `POST /rooms/{room}/kick`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kick {
    /// A member's name, or its id.
    player: String,
    why: Option<String>,
}

pub(super) async fn kick(State(desk): State<Arc<Desk>>, Room(room): Room, Said(Kick { player, why }): Said<Kick>) -> Answer {
    let why = why.unwrap_or_else(|| "an operator put you out".to_owned());
    bounded("the reason", &why)?;
    let asked = room.clone();
    let members = desk.host(move |host| host.members(&asked)).await?;
    let players: Vec<(EntityId, String)> =
        members.into_iter().filter(|member| !member.spectates).map(|member| (member.player, member.name)).collect();
    let (id, _) = who(&player, &players)?;
    let Some((_, name)) = players.into_iter().find(|(plays, _)| *plays == id) else {
        return Err(Failure::missing(format!("nobody who plays in {room:?} is called {player:?}")));
    };
    let (asked, because) = (room.clone(), why.clone());
    desk.host(move |host| host.kick(&asked, id, &because)).await?;
    tracing::info!(room, player = name, why, "put out by an operator");
    told(&json!({ "player": id.to_string(), "name": name, "kicked": true }))
}

/// `POST /rooms/{room}/pause`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pause {
    paused: bool,
}

pub(super) async fn pause(State(desk): State<Arc<Desk>>, Room(room): Room, Said(Pause { paused }): Said<Pause>) -> Answer {
    let asked = room.clone();
    // What a room is sent it takes in order: once it has been looked into, it stands still, and says so.
    desk.host(move |host| host.pause(&asked, paused).and_then(|()| host.look(&asked, |_| ()))).await?;
    tracing::info!(room, paused, "paused, or let go on, by an operator");
    told(&json!({ "paused": paused }))
}

/// `POST /rooms/{room}/speed`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSpeed {
    speed: f64,
}

pub(super) async fn speed(State(desk): State<Arc<Desk>>, Room(room): Room, Said(NewSpeed { speed: ratio }): Said<NewSpeed>) -> Answer {
    let most = Speed::MAX.ratio();
    let speed = Speed::from_ratio(ratio).filter(|speed| !speed.is_still());
    let speed =
        speed.ok_or_else(|| Failure::bad(format!("a speed is from 0.01 to {most}, not {ratio}; to let it stand still, pause it")))?;
    let asked = room.clone();
    desk.host(move |host| host.set_speed(&asked, speed).and_then(|()| host.look(&asked, |_| ()))).await?;
    tracing::info!(room, %speed, "made slower or faster by an operator");
    told(&json!({ "speed": speed.ratio() }))
}

/// `POST /rooms/{room}/step`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    ticks: Option<u32>,
}

pub(super) async fn step(State(desk): State<Arc<Desk>>, Room(room): Room, Said(Step { ticks }): Said<Step>) -> Answer {
    let ticks = ticks.unwrap_or(1);
    if !(1..=STEPS_MAX).contains(&ticks) {
        return Err(Failure::bad(format!("1 to {STEPS_MAX} ticks can be asked for")));
    }
    let infos = desk.host(crate::host::HostHandle::rooms).await?;
    if infos.iter().any(|info| info.name == room && !info.status.is_paused) {
        return Err(Failure::conflict(format!("{room:?} does not stand still: pause it first")));
    }
    let asked = room.clone();
    desk.host(move |host| host.step(&asked, ticks)).await?;
    tracing::info!(room, ticks, "let go on for some ticks by an operator");
    told(&json!({ "ticks": ticks }))
}

/// `POST /rooms/{room}/reset`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reset {
    snippet: String,
}

pub(super) async fn reset(State(desk): State<Arc<Desk>>, Room(room): Room, Said(Reset { snippet }): Said<Reset>) -> Answer {
    let (of, label) = (room.clone(), snippet.clone());
    let reset = desk.read(move |_, reader| Ok(reader.archive()?.snippet(&of, &label)?.reset())).await?;
    let asked = room.clone();
    desk.host(move |host| host.push(&asked, reset)).await?;
    tracing::info!(room, snippet, "an operator asked for a reset");
    told_as(
        StatusCode::ACCEPTED,
        &json!({ "snippet": snippet, "done_with": "the next tick; the fact `scene_reset` tells it, or a refusal why not" }),
    )
}

/// `POST /rooms/{room}/snippet`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Save {
    label: String,
    /// The last one that is stored, if none is named.
    tick: Option<u32>,
}

pub(super) async fn snippet(State(desk): State<Arc<Desk>>, Room(room): Room, Said(Save { label, tick }): Said<Save>) -> Answer {
    bounded("the snippet's name", &label)?;
    let saved = desk.read(move |_, reader| {
        let archive = reader.archive()?;
        let tick = match tick {
            Some(tick) => RoomTick(tick),
            None => archive.head(&room)?.map_or(RoomTick(0), |head| head.tick),
        };
        let snippet = archive.save_snippet(&room, &label, tick)?;
        tracing::info!(room, label, %tick, "a snippet was saved by an operator");
        Ok(json!({ "label": snippet.label, "tick": snippet.tick, "entities": snippet.entities.len() }))
    });
    told_as(StatusCode::CREATED, &saved.await?)
}

/// `POST /rooms/{room}/revert`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Revert {
    fact: u64,
}

pub(super) async fn revert(State(desk): State<Arc<Desk>>, Room(room): Room, Said(Revert { fact }): Said<Revert>) -> Answer {
    let of = room.clone();
    let changes = desk.read(move |_, reader| Ok(reader.archive()?.changes_of(&of, FactSeq(fact.min(FACT_MAX)))?)).await?;
    if changes.is_empty() {
        let why = format!("fact {fact} changed nothing, is not there, or the room does not tell causes");
        return Err(Failure::conflict(why));
    }
    let told: Value =
        json!({ "fact": fact, "changes": changes, "done_with": "the next tick; the fact `reverted` tells which were undone" });
    let asked = room.clone();
    desk.host(move |host| host.push(&asked, Incoming::Revert { seq: FactSeq(fact), changes })).await?;
    tracing::info!(room, fact, "an operator asked for a fact to be undone");
    told_as(StatusCode::ACCEPTED, &told)
}

/// `POST /rooms/{room}/event`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Event {
    /// The fact's wire name.
    name: String,
    /// What it says, as it stands in the body; null if it says nothing but its name.
    fact: Option<Box<RawValue>>,
}

pub(super) async fn event(State(desk): State<Arc<Desk>>, Room(room): Room, Said(Event { name, fact }): Said<Event>) -> Answer {
    bounded("the fact's name", &name)?;
    let (of, said) = (room.clone(), name.clone());
    let fact = fact.as_deref().map_or("null", RawValue::get).to_owned();
    let refused = desk.host(move |host| match host.event(&of, &said, &fact) {
        Err(OrderError::Refused(why)) => Ok(Some(why)),
        asked => asked.map(|()| None),
    });
    if let Some(why) = refused.await? {
        return Err(Failure::bad(why));
    }
    tracing::info!(room, fact = name, "an operator lets a fact happen");
    told_as(StatusCode::ACCEPTED, &json!({ "name": name, "done_with": "the next tick; the fact tells it, or a refusal why not" }))
}

fn ban_json(ban: &Ban) -> Value {
    json!({ "player": ban.player.to_string(), "why": ban.why, "until": ban.until })
}

pub(super) async fn bans(State(desk): State<Arc<Desk>>) -> Answer {
    let bans = desk.host(crate::host::HostHandle::bans).await?;
    told(&bans.iter().map(ban_json).collect())
}

/// `POST /bans`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewBan {
    /// The name that others see of somebody who is connected, or the player's id, or the name that stands for it.
    player: String,
    why: String,
    /// For how long; for ever if it is not said.
    seconds: Option<u64>,
}

pub(super) async fn ban(State(desk): State<Arc<Desk>>, Said(NewBan { player, why, seconds }): Said<NewBan>) -> Answer {
    bounded("the player", &player)?;
    bounded("the reason", &why)?;
    if seconds == Some(0) {
        return Err(Failure::bad("a ban is for 1 second or more; for ever, if none are named"));
    }
    let (id, was_connected) = who(&player, &desk.host(crate::host::HostHandle::visitors).await?)?;
    let until = seconds.map(|seconds| unix_time().as_secs().saturating_add(seconds));
    let ban = Ban { player: id, why, until };
    let told = with(ban_json(&ban), json!({ "was_connected": was_connected }));
    tracing::info!(player, %id, was_connected, ?until, why = ban.why, "banned by an operator");
    desk.host(move |host| host.ban(ban)).await?;
    told_as(StatusCode::CREATED, &told)
}

/// Who is meant, and whether it is connected. By its id, or by the name that others see, which tokens need not make the id of; who is not here is taken
/// by the id alone.
fn who(player: &str, visitors: &[(EntityId, String)]) -> Result<(EntityId, bool), Failure> {
    let id = EntityId::parse(player);
    if visitors.iter().any(|(visitor, _)| *visitor == id) {
        return Ok((id, true));
    }
    let called: BTreeSet<EntityId> = visitors.iter().filter(|(_, name)| name == player).map(|(visitor, _)| *visitor).collect();
    match called.first() {
        Some(_) if called.len() > 1 => {
            let ids: Vec<String> = called.iter().map(EntityId::to_string).collect();
            Err(Failure::conflict(format!("several are called {player:?}, name one by its id: {}", ids.join(", "))))
        }
        Some(only) => Ok((*only, true)),
        None => Ok((id, false)),
    }
}

pub(super) async fn unban(State(desk): State<Arc<Desk>>, Room(player): Room) -> Answer {
    let id = EntityId::parse(&player);
    match desk.host(move |host| host.unban(id)).await? {
        true => {
            tracing::info!(player, "let in again by an operator");
            told(&json!({ "player": id.to_string(), "banned": false }))
        }
        false => Err(Failure::missing(format!("{player:?} is not banned"))),
    }
}

/// `PUT /log`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    filter: String,
}

pub(super) async fn log(State(desk): State<Arc<Desk>>, Said(Log { filter }): Said<Log>) -> Answer {
    bounded("the filter", &filter)?;
    let none = || Failure::new(StatusCode::NOT_IMPLEMENTED, "no_log", "this host's log can't be changed while it runs");
    desk.set_log.as_ref().ok_or_else(none)?(&filter).map_err(Failure::bad)?;
    tracing::warn!(filter, "the log's filter was changed by an operator");
    told(&json!({ "filter": filter }))
}

/// `POST /drain`.
pub(super) async fn drain(State(desk): State<Arc<Desk>>) -> Answer {
    tracing::warn!("an operator lets the host refuse newcomers");
    desk.host(crate::host::HostHandle::refuse_newcomers).await?;
    told_as(StatusCode::ACCEPTED, &json!({ "draining": true }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_to_be_banned_is_found_by_id_by_name_and_if_it_is_not_here_by_what_stands_for_it() {
        let [ann, bob, other] = ["account 1", "account 2", "account 3"].map(EntityId::named);
        let visitors = [(ann, "ann"), (bob, "bob"), (other, "bob")].map(|(id, name)| (id, name.to_owned()));
        let found = |player: &str| who(player, &visitors).map_err(|failure| failure.message);
        assert_eq!(found("ann"), Ok((ann, true)));
        assert_eq!((found("account 1"), found(&bob.to_string())), (Ok((ann, true)), Ok((bob, true))));
        assert_eq!(found("eve"), Ok((EntityId::named("eve"), false)));
        let several = found("bob").unwrap_err();
        assert!(
            several.contains(&bob.to_string()) && several.contains(&other.to_string()) && !several.contains(&ann.to_string()),
            "{several}"
        );
    }
}
