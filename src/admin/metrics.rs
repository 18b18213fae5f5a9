//! Metrics, as Prometheus reads them. Each is written in one place, so the list in `docs/admin.md` can be compared with it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::answer::Answer;
use super::desk::Desk;
use super::guard::Refused;
use super::text::Text;
use crate::host::process::Process;
use crate::host::{HostCounters, Overview, RoomInfo, Tally};
use crate::store::Pressure;

const GAUGE: &str = "gauge";
const COUNTER: &str = "counter";
const HISTOGRAM: &str = "histogram";

/// `GET /metrics`.
pub(super) async fn metrics(State(desk): State<Arc<Desk>>) -> Answer {
    // In one order: what a room counted that ends between two would be in both, and sums would fall afterwards.
    let (rooms, overview) = desk.host(crate::host::HostHandle::survey).await?;
    let mut text = Text::default();
    let mut all = overview.ended.clone();
    rooms.iter().for_each(|room| all.add(&room.status));
    whole(&mut text, &desk, &rooms, &overview);
    times(&mut text, &all);
    counters(&mut text, overview.foyer + all.counters);
    gateway(&mut text, &overview);
    store(&mut text, &overview);
    #[cfg(feature = "nats")]
    nats(&mut text, &overview);
    let open: Vec<&RoomInfo> = rooms.iter().filter(|room| !room.is_resting).collect();
    each(&mut text, &open);
    process(&mut text, &desk);
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text.finish()).into_response())
}

/// The host as a whole.
fn whole(text: &mut Text, desk: &Desk, rooms: &[RoomInfo], overview: &Overview) {
    text.metric("roomkeeper_info", GAUGE, "The version of the library, and the game.");
    text.sample("roomkeeper_info", &[("version", env!("CARGO_PKG_VERSION")), ("game", &desk.game.name)], 1);
    let count = |is: fn(&RoomInfo) -> bool| rooms.iter().filter(|room| is(room)).count();
    let sum = |of: fn(&RoomInfo) -> usize| rooms.iter().map(of).sum::<usize>();
    text.single("roomkeeper_rooms", GAUGE, "Rooms that are open.", count(|room| !room.is_resting));
    text.single("roomkeeper_rooms_resting", GAUGE, "Rooms at rest in the store.", count(|room| room.is_resting));
    text.single("roomkeeper_rooms_paused", GAUGE, "Rooms that stand still.", count(|room| room.status.is_paused));
    text.single("roomkeeper_rooms_slow", GAUGE, "Rooms that take so long that they are run apart.", count(|room| room.status.is_slow));
    text.single("roomkeeper_connections", GAUGE, "Clients that are connected.", overview.connections);
    text.single("roomkeeper_members", GAUGE, "Members and spectators of all rooms.", sum(|room| room.status.members));
    text.single("roomkeeper_seats", GAUGE, "Players who were led to a room and are connected.", sum(|room| room.seats));
    text.single("roomkeeper_away", GAUGE, "Users whose seats are kept.", sum(|room| room.status.away));
    text.single("roomkeeper_past_watchers", GAUGE, "Those who watch the past of a room.", sum(|room| room.status.past_watchers));
    text.single("roomkeeper_queue_bytes", GAUGE, "Bytes that wait to be sent to members.", sum(|room| room.status.ways.queue_bytes));
    text.single("roomkeeper_draining", GAUGE, "1 once newcomers are refused.", u8::from(overview.is_draining));
    text.metric("roomkeeper_admin_refused_total", COUNTER, "Requests and connections that the admin server refused, by why.");
    for (kind, why) in Refused::ALL {
        text.sample("roomkeeper_admin_refused_total", &[("why", why)], desk.refusals.count(kind));
    }
    let requests = desk.requests.load(Ordering::Relaxed);
    text.single("roomkeeper_admin_requests_total", COUNTER, "Requests that reached the admin server.", requests);
}

/// How all rooms kept their time, also those that have ended.
fn times(text: &mut Text, all: &Tally) {
    text.metric("roomkeeper_tick_duration_seconds", HISTOGRAM, "How long ticks took, without what is sent.");
    text.histogram("roomkeeper_tick_duration_seconds", &[], &all.pace.busy);
    text.metric("roomkeeper_tick_late_seconds", HISTOGRAM, "How late ticks began.");
    text.histogram("roomkeeper_tick_late_seconds", &[], &all.pace.late);
    text.single("roomkeeper_ticks_skipped_total", COUNTER, "Ticks that were given up because the host was too late.", all.pace.skipped);
}

/// What was counted in all rooms, also those that have ended, and before somebody was in one.
fn counters(text: &mut Text, all: HostCounters) {
    let mut count = |name: &str, help: &str, value: u64| text.single(&format!("roomkeeper_{name}_total"), COUNTER, help, value);
    count("joined", "Users and spectators that were let in.", all.joined);
    count("resumed", "Those of them that were sent only what they had missed.", all.resumed);
    count("left", "Users that left by their own word.", all.left);
    count("timed_out", "Users whose connection was lost.", all.timed_out);
    count("returned", "Users that came back while their seat was kept.", all.returned);
    count("refused", "Connections that rules, names or another protocol turned away.", all.refused);
    count("refused_full", "Connections for which there was no place.", all.refused_full);
    count("kicked", "Members that were put out.", all.kicked);
    count("commands", "Commands that were handed to rooms.", all.commands);
    count("commands_rejected", "Commands that rules rejected.", all.rejected);
    count("commands_dropped", "Commands that came too fast, or while the store was behind.", all.commands_dropped);
    count("messages_malformed", "Messages of clients that were malformed.", all.malformed);
    count("messages_out_of_turn", "Messages of clients that had no place where they came.", all.out_of_turn);
    count("resyncs", "Members that were sent a snapshot because they could not keep up, or differed.", all.resyncs);
    count("resyncs_refused", "Snapshots that members asked for too soon after the last, and were put off.", all.resyncs_refused);
    count("room_faults", "Rooms that stopped because their game failed.", all.room_faults);
    count("batches", "Batches that were handed to members.", all.batches);
}

fn gateway(text: &mut Text, overview: &Overview) {
    let gateway = &overview.gateway;
    let mut count = |name: &str, help: &str, value: u64| text.single(&format!("roomkeeper_{name}_total"), COUNTER, help, value);
    count("bytes_in", "Bytes that came in, without the headers of UDP and IP.", gateway.bytes_in);
    count("bytes_out", "Bytes that went out, without the headers of UDP and IP.", gateway.bytes_out);
    count("datagrams_in", "Datagrams that came in.", gateway.datagrams_in);
    count("datagrams_out", "Datagrams that went out.", gateway.datagrams_out);
    count("sends_failed", "Datagrams that the system did not take.", gateway.sends_failed);
    count("connected", "Clients that connected.", gateway.connected);
    count("disconnected", "Clients that are gone.", gateway.disconnected);
    count("transport_panics", "Panics of the transport that were caught.", gateway.panics_caught);
    text.metric("roomkeeper_datagrams_refused_total", COUNTER, "Datagrams that the gate let fall, by why.");
    let refused = [
        ("malformed", gateway.malformed),
        ("unknown_address", gateway.unknown_address),
        ("request_while_connected", gateway.requests_while_connected),
        ("too_many_requests", gateway.requests_limited),
        ("too_many_of_an_address", gateway.addresses_limited),
        ("too_many", gateway.rate_limited),
        ("unusable", gateway.unusable),
        ("payload", gateway.payloads_refused),
        ("forged", gateway.forged),
        ("duplicate", gateway.duplicates),
    ];
    refused.iter().for_each(|(why, count)| text.sample("roomkeeper_datagrams_refused_total", &[("why", why)], count));
}

fn store(text: &mut Text, overview: &Overview) {
    let Some(store) = &overview.store else { return };
    let pressure = match store.pressure {
        Pressure::Easy => 0,
        Pressure::High => 1,
        Pressure::Full => 2,
    };
    text.single("roomkeeper_store_pressure", GAUGE, "0: it keeps up. 1: commands are refused. 2: rooms stand still.", pressure);
    text.single("roomkeeper_store_pending_bytes", GAUGE, "Bytes that wait to be stored.", store.pending_bytes);
    text.single("roomkeeper_store_failing", GAUGE, "1 while nothing can be stored.", u8::from(store.failing.is_some()));
    let report = &store.report;
    text.metric("roomkeeper_store_commit_seconds", "summary", "How long commits took.");
    text.sample("roomkeeper_store_commit_seconds_sum", &[], report.commit_sum.as_secs_f64());
    text.sample("roomkeeper_store_commit_seconds_count", &[], report.flushes);
    text.single("roomkeeper_store_commit_seconds_max", GAUGE, "The longest commit so far.", report.commit_max.as_secs_f64());
    text.single("roomkeeper_store_retries_total", COUNTER, "Commits that failed and were tried again.", report.retries);
    let differ = "Times that a room was not what is told and stored of it: something wrote it behind Bevy's change detection.";
    text.single("roomkeeper_store_differences_total", COUNTER, differ, report.differences);
    text.single("roomkeeper_store_busy_seconds_total", COUNTER, "Processor time of the writer's thread.", report.busy.as_secs_f64());
}

#[cfg(feature = "nats")]
fn nats(text: &mut Text, overview: &Overview) {
    let Some(nats) = &overview.nats else { return };
    text.single("roomkeeper_nats_connected", GAUGE, "1 while NATS takes facts.", u8::from(nats.is_connected));
    text.single("roomkeeper_nats_waiting", GAUGE, "Facts that are stored and not published yet.", nats.waiting);
    text.single("roomkeeper_nats_rooms_refused", GAUGE, "Rooms whose facts are not published; the log says why.", nats.rooms_refused);
    let mut count = |name: &str, help: &str, value: u64| text.single(&format!("roomkeeper_nats_{name}_total"), COUNTER, help, value);
    count("published", "Facts that NATS took.", nats.published);
    count("doubles", "Of them, those that it had before.", nats.doubles);
    count("missing", "Facts that were deleted from the ledger before they were published.", nats.missing);
    count("failures", "How often something failed, and was tried again.", nats.failures);
}

/// Each room that is open, by its name.
fn each(text: &mut Text, rooms: &[&RoomInfo]) {
    let mut list = |name: &str, kind: &str, help: &str, value: &dyn Fn(&RoomInfo) -> f64| {
        let name = format!("roomkeeper_room_{name}");
        text.metric(&name, kind, help);
        rooms.iter().for_each(|room| text.sample(&name, &[("room", &room.name)], value(room)));
    };
    list("tick", GAUGE, "The tick that ran last.", &|room| room.status.tick.0.into());
    list("members", GAUGE, "Members and spectators.", &|room| room.status.members as f64);
    list("seats", GAUGE, "Players who were led there and are connected.", &|room| room.seats as f64);
    list("seats_max", GAUGE, "How many it takes.", &|room| room.seats_max as f64);
    list("away", GAUGE, "Users whose seats are kept.", &|room| room.status.away as f64);
    list("past_watchers", GAUGE, "Those who watch its past.", &|room| room.status.past_watchers as f64);
    list("paused", GAUGE, "1 while it stands still.", &|room| f64::from(u8::from(room.status.is_paused)));
    list("slow", GAUGE, "1 while it is run apart.", &|room| f64::from(u8::from(room.status.is_slow)));
    list("ticks_skipped_total", COUNTER, "Ticks that were given up.", &|room| room.status.pace.skipped as f64);
    list("bytes_in_total", COUNTER, "Bytes of members that came in, decrypted.", &|room| room.status.traffic.bytes_in as f64);
    list("bytes_out_total", COUNTER, "Bytes that went out to members, before they are encrypted.", &|room| {
        room.status.traffic.bytes_out as f64
    });
    list("messages_in_total", COUNTER, "Messages and reports that came in.", &|room| room.status.traffic.messages_in as f64);
    list("packets_out_total", COUNTER, "Packets that went out, each a datagram.", &|room| room.status.traffic.packets_out as f64);
    list("rtt_seconds_mean", GAUGE, "Mean round trip of members.", &|room| room.status.ways.rtt_mean.as_secs_f64());
    list("rtt_seconds_max", GAUGE, "Longest round trip of a member.", &|room| room.status.ways.rtt_max.as_secs_f64());
    list("loss_ratio_mean", GAUGE, "Share of packets that get lost, mean of members.", &|room| room.status.ways.loss_mean.into());
    list("loss_ratio_max", GAUGE, "The same on the worst way.", &|room| room.status.ways.loss_max.into());
    list("queue_bytes", GAUGE, "Bytes that wait to be sent.", &|room| room.status.ways.queue_bytes as f64);
    list("queue_bytes_max", GAUGE, "Bytes that wait for the one for whom most do.", &|room| room.status.ways.queue_bytes_max as f64);
    list("commands_total", COUNTER, "Commands that were handed to it.", &|room| room.status.counters.commands as f64);
    list("commands_rejected_total", COUNTER, "Commands that its rules rejected.", &|room| room.status.counters.rejected as f64);
    list("kicked_total", COUNTER, "Members that were put out.", &|room| room.status.counters.kicked as f64);
    list("resyncs_total", COUNTER, "Snapshots for members that could not keep up, or differed.", &|room| {
        room.status.counters.resyncs as f64
    });
    list("unstored_ticks", GAUGE, "Ticks that ran and are not known to be stored; 0 if it is not kept.", &|room| {
        room.status.durable.map_or(0.0, |durable| room.status.tick.0.saturating_sub(durable.0).into())
    });
    let histograms: [(&str, &str, fn(&RoomInfo) -> &crate::host::Durations); 2] = [
        ("tick_duration_seconds", "How long ticks took, without what is sent.", |room| &room.status.pace.busy),
        ("tick_late_seconds", "How late ticks began.", |room| &room.status.pace.late),
    ];
    for (name, help, of) in histograms {
        let name = format!("roomkeeper_room_{name}");
        text.metric(&name, HISTOGRAM, help);
        rooms.iter().for_each(|room| text.histogram(&name, &[("room", &room.name)], of(room)));
    }
}

/// By the names that Prometheus gives to such things.
fn process(text: &mut Text, desk: &Desk) {
    let process = Process::look();
    let mut one = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        value.into_iter().for_each(|value| text.single(name, kind, help, value));
    };
    let seconds = process.processor.map(|time| time.as_secs_f64());
    one("process_cpu_seconds_total", COUNTER, "Processor time of this process.", seconds);
    one("process_resident_memory_bytes", GAUGE, "Memory that it has.", process.resident_bytes.map(|bytes| bytes as f64));
    one("process_open_fds", GAUGE, "Files that it has open.", process.open_files.map(|files| files as f64));
    one("process_max_fds", GAUGE, "Files that it may have open.", process.files_max.map(|files| files as f64));
    one("process_threads", GAUGE, "Its threads.", process.threads.map(|threads| threads as f64));
    one("process_start_time_seconds", GAUGE, "When the admin server started.", Some(desk.started.as_secs_f64()));
}
