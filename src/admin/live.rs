//! How the host and its rooms do at the moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Answer, Asked, Failure, Room, told, with};
use super::desk::Desk;
use crate::host::{Durations, HostCounters, MemberInfo, RoomInfo, Way};
use crate::protocol::RoomTick;
use crate::store::Head;

/// Alive: nobody else is asked.
pub(super) async fn health() -> &'static str {
    "alive\n"
}

/// Whether newcomers are taken.
pub(super) async fn ready(State(desk): State<Arc<Desk>>) -> Response {
    let not = |why: String| (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response();
    match desk.host(crate::host::HostHandle::overview).await {
        Ok(overview) if overview.is_draining => not("draining".to_owned()),
        Ok(_) => "ready\n".into_response(),
        Err(failure) => not(failure.message),
    }
}

fn millis(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn spread(durations: &Durations) -> Value {
    let [p50, p99] = [0.5, 0.99].map(|share| millis(durations.quantile(share)));
    json!({ "count": durations.count(), "p50_ms": p50, "p99_ms": p99, "max_ms": millis(durations.max()) })
}

pub(super) fn counters(counters: &HostCounters) -> Value {
    json!({
        "joined": counters.joined, "left": counters.left, "timed_out": counters.timed_out, "returned": counters.returned,
        "refused": counters.refused, "refused_full": counters.refused_full, "commands": counters.commands,
        "rejected": counters.rejected, "commands_dropped": counters.commands_dropped, "kicked": counters.kicked,
        "malformed": counters.malformed, "out_of_turn": counters.out_of_turn, "resyncs": counters.resyncs,
        "resyncs_refused": counters.resyncs_refused, "room_faults": counters.room_faults, "batches": counters.batches,
    })
}

fn way(way: &Way) -> Value {
    json!({ "rtt_ms": way.rtt.map(millis), "loss": way.loss, "rate": way.rate.round(), "queue_bytes": way.queue_bytes })
}

/// A room of the host as JSON.
fn room_json(info: &RoomInfo) -> Value {
    let (status, ways) = (&info.status, &info.status.ways);
    json!({
        "room": info.name, "template": info.template, "is_open": !info.is_resting, "is_resting": info.is_resting,
        "tick": status.tick, "durable": status.durable, "members": status.members, "away": status.away,
        "seats": info.seats, "seats_max": info.seats_max, "is_paused": status.is_paused, "speed": status.speed.ratio(), "is_slow": status.is_slow,
        "empty_for_ms": millis(status.empty_for), "past_watchers": status.past_watchers,
        "pace": { "late": spread(&status.pace.late), "busy": spread(&status.pace.busy), "skipped": status.pace.skipped },
        "traffic": {
            "messages_in": status.traffic.messages_in, "bytes_in": status.traffic.bytes_in,
            "packets_out": status.traffic.packets_out, "bytes_out": status.traffic.bytes_out,
        },
        "ways": {
            "measured": ways.measured, "rtt_mean_ms": millis(ways.rtt_mean), "rtt_max_ms": millis(ways.rtt_max),
            "loss_mean": ways.loss_mean, "loss_max": ways.loss_max,
            "queue_bytes": ways.queue_bytes, "queue_bytes_max": ways.queue_bytes_max,
        },
        "counters": counters(&status.counters),
    })
}

/// The host as a whole.
pub(super) async fn host(State(desk): State<Arc<Desk>>) -> Answer {
    let overview = desk.host(crate::host::HostHandle::overview).await?;
    let store = overview.store.as_ref().map(|store| {
        json!({
            "pressure": format!("{:?}", store.pressure).to_lowercase(), "pending_bytes": store.pending_bytes,
            "failing": store.failing, "flushes": store.report.flushes, "commit_max_ms": millis(store.report.commit_max),
        })
    });
    let protocol = desk.game.protocol();
    told(&json!({
        "game": desk.game.name, "version": env!("CARGO_PKG_VERSION"), "connections": overview.connections,
        "is_draining": overview.is_draining, "templates": overview.templates, "store": store,
        "counters": counters(&overview.foyer), "can_draw": desk.game.view.is_some(), "ends": desk.game.ends, "kinds": desk.game.kinds,
        "facts": protocol.event_names().collect::<Vec<_>>(),
    }))
}

/// `GET /rooms`.
#[derive(Deserialize)]
pub(super) struct Listed {
    /// Of the rooms that only the store knows, how many: those that were made last.
    stored: Option<usize>,
}

/// So many of them, if nobody says.
const STORED_TOLD: usize = 1_000;

/// The rooms: those that are open or at rest, and those of which only the store knows.
pub(super) async fn rooms(State(desk): State<Arc<Desk>>, Asked(Listed { stored: most }): Asked<Listed>) -> Answer {
    let infos = desk.host(crate::host::HostHandle::rooms).await?;
    let heads = desk.read(|_, reader| reader.archive.as_mut().map_or(Ok(Vec::new()), |archive| Ok(archive.store().room_heads()?))).await?;
    let open: BTreeSet<&str> = infos.iter().map(|info| info.name.as_str()).collect();
    let stored: BTreeSet<&str> = heads.iter().map(|(name, _)| name.as_str()).collect();
    let last = heads.iter().rev().filter(|(name, _)| !open.contains(name.as_str())).take(most.unwrap_or(STORED_TOLD));
    let closed: BTreeMap<&str, Option<Head>> = last.map(|(name, head)| (name.as_str(), *head)).collect();
    let here = infos.iter().map(|info| with_stored(room_json(info), stored.contains(info.name.as_str())));
    told(&here.chain(closed.into_iter().map(|(name, head)| closed_json(name, head))).collect())
}

/// A room of which only the store knows, with the last tick that is sealed.
fn closed_json(name: &str, sealed: Option<Head>) -> Value {
    let tick = sealed.map_or(RoomTick(0), |head| head.tick);
    with_stored(json!({ "room": name, "is_open": false, "is_resting": false, "tick": tick }), true)
}

fn with_stored(room: Value, is_stored: bool) -> Value {
    with(room, json!({ "is_stored": is_stored }))
}

/// One room.
pub(super) async fn room(State(desk): State<Arc<Desk>>, Room(name): Room) -> Answer {
    let infos = desk.host(crate::host::HostHandle::rooms).await?;
    let wanted = name.clone();
    let known = desk.read(move |_, reader| {
        let Some(archive) = &mut reader.archive else { return Ok(None) };
        Ok(archive.store().room(&wanted)?.map(|room| room.sealed))
    });
    let known = known.await?;
    match (infos.iter().find(|info| info.name == name), known) {
        (Some(info), known) => told(&with_stored(room_json(info), known.is_some())),
        (None, Some(sealed)) => told(&closed_json(&name, sealed)),
        (None, None) => Err(Failure::new(StatusCode::NOT_FOUND, "no_room", format!("there is no room {name:?}"))),
    }
}

fn member(member: &MemberInfo) -> Value {
    json!({ "player": member.player.to_string(), "name": member.name, "spectates": member.spectates, "way": way(&member.way) })
}

/// Who is in a room, and how each is reached.
pub(super) async fn members(State(desk): State<Arc<Desk>>, Room(name): Room) -> Answer {
    let members = desk.host(move |host| host.members(&name)).await?;
    told(&members.iter().map(member).collect())
}
