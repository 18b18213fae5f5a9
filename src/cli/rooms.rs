//! The verb `rooms`: which rooms a server tells of, and how full they are.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::game::Game;
use super::options::{Carrier, CliError, ClientArguments, LinkArguments};
use super::output::say;
use super::signals::stop_flag;
use crate::client::{HeadlessReplica, LinkStatus, Sight, UdpLink, unix_time};
use crate::protocol::limits::NAME_BYTES_MAX;
use crate::protocol::{Availability, ClientMessage, ListedRoom, RoomList};
use crate::store::RoomHeader;

/// A name for a new match where others are kept: as it was said, or with a number behind it if there is one of that name.
pub(super) fn free_name(stored: &[RoomHeader], name: &str) -> String {
    let is_free = |name: &String| stored.iter().all(|header| header.name != *name);
    let mut names = std::iter::once(name.to_owned()).chain((2..).map(|nth: u64| format!("{name}-{nth}")));
    names.find(is_free).unwrap_or_default()
}

/// How often it looks whether the answer has come.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How long it waits for the answer once it is connected. A server of another version does not understand the question.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct RoomsOptions {
    /// The server.
    #[arg(long, default_value = "127.0.0.1:5000", value_name = "ADDRESS")]
    server: String,
    /// A file with a connect token, made by `token`. It is good for this one question.
    #[arg(long, value_name = "FILE")]
    token: Option<PathBuf>,
    /// Only rooms whose names begin with this: `duel/`, for instance.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    prefix: String,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// The server: another way to say `--server`.
    #[arg(value_name = "ADDRESS", conflicts_with = "server")]
    address: Option<String>,
    /// By what it gets there.
    #[arg(long, value_enum, default_value_t = Carrier::default())]
    transport: Carrier,
    #[command(flatten)]
    link: LinkArguments,
}

impl RoomsOptions {
    /// How to get to the server.
    fn client(&self) -> ClientArguments {
        let server = self.address.clone().unwrap_or_else(|| self.server.clone());
        ClientArguments { server, room: String::new(), token: self.token.clone(), transport: self.transport, link: self.link.clone() }
    }
}

pub(super) fn rooms(game: &Game, options: &RoomsOptions) -> Result<(), CliError> {
    let list = ask(game, options)?;
    if options.json {
        say(&format!("{:#}", to_json(&list)));
    } else {
        table(&list).iter().for_each(|line| say(line));
    }
    Ok(())
}

/// Asks a server once.
fn ask(game: &Game, options: &RoomsOptions) -> Result<RoomList, CliError> {
    if options.prefix.len() > NAME_BYTES_MAX {
        let detail = format!("at most {NAME_BYTES_MAX} bytes are wanted, as names have");
        return Err(CliError::Argument { what: "--prefix".to_owned(), detail });
    }
    let (stop, client) = (stop_flag(), options.client());
    let mut link = client.link("browser")?;
    let (mut replica, mut asked) = (HeadlessReplica::new(game.protocol()), None);
    let list = loop {
        link.receive(unix_time());
        if let Some(list) = heard(&mut link, &mut replica)? {
            break list;
        }
        match link.status() {
            LinkStatus::Connecting => {}
            LinkStatus::Connected if asked.is_some_and(|asked| unix_time().saturating_sub(asked) > ANSWER_WITHIN) => {
                let why = format!("no answer came for {} s: the server may be of another version", ANSWER_WITHIN.as_secs());
                return Err(CliError::Connection(why));
            }
            LinkStatus::Connected if asked.is_some() => {}
            LinkStatus::Connected => {
                asked = Some(unix_time());
                link.send(ClientMessage::ListRooms { prefix: options.prefix.clone() }.encode())?;
            }
            LinkStatus::Disconnected(reason) => return Err(CliError::Connection(reason)),
        }
        if stop.load(Ordering::Relaxed) {
            return Err(CliError::Connection("it was stopped before an answer came".to_owned()));
        }
        if let Some(report) = replica.next_report(unix_time()) {
            link.send_packet(&report);
        }
        link.flush();
        std::thread::sleep(LOOK_EVERY);
    };
    link.disconnect();
    Ok(list)
}

/// The answer, if it has come.
fn heard(link: &mut UdpLink, replica: &mut HeadlessReplica) -> Result<Option<RoomList>, CliError> {
    while let Some(packet) = link.next_packet() {
        for sight in replica.deliver(unix_time(), &packet).map_err(|error| CliError::Connection(error.to_string()))? {
            match sight {
                Sight::Rooms(list) => return Ok(Some(list)),
                Sight::Refused(refusal, _) => return Err(CliError::Connection(refusal.to_string())),
                _ => {}
            }
        }
    }
    Ok(None)
}

fn availability(room: &ListedRoom) -> &'static str {
    match room.availability {
        Availability::Open => "open",
        Availability::AtRest => "at rest",
        Availability::OnDemand => "on demand",
    }
}

fn to_json(list: &RoomList) -> Value {
    let room = |room: &ListedRoom| json!({ "name": room.name, "taken": room.taken, "seats": room.seats, "is": availability(room) });
    json!({ "prefix": list.prefix, "total": list.total, "rooms": list.rooms.iter().map(room).collect::<Vec<_>>() })
}

/// A line for each room, and what there is to say of all.
fn table(list: &RoomList) -> Vec<String> {
    if list.rooms.is_empty() {
        let what = if list.prefix.is_empty() { String::new() } else { format!(" whose names begin with {:?}", list.prefix) };
        return vec![format!("the server tells of no rooms{what}; what it does not tell of is joined by name all the same")];
    }
    let seats = |room: &ListedRoom| format!("{}/{}", room.taken, room.seats);
    let longest = list.rooms.iter().map(|room| room.name.chars().count()).max().unwrap_or_default().max("room".len());
    let most = list.rooms.iter().map(|room| seats(room).len()).max().unwrap_or_default().max("seats".len());
    let mut lines = vec![format!("{:<longest$}  {:>most$}", "room", "seats")];
    lines.extend(list.rooms.iter().map(|room| format!("{:<longest$}  {:>most$}  {}", room.name, seats(room), availability(room))));
    if list.total as usize > list.rooms.len() {
        lines.push(format!("these are {} of {}; --prefix says how the names begin that are wanted", list.rooms.len(), list.total));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_a_table_that_says_where_more_is_to_be_found() {
        let room = |name: &str, taken, availability| ListedRoom { name: name.to_owned(), taken, seats: 12, availability };
        let rooms = vec![room("duel/*", 0, Availability::OnDemand), room("duel/blue", 11, Availability::Open)];
        let mut list = RoomList { prefix: String::new(), total: 2, rooms };
        assert_eq!(table(&list), ["room       seats", "duel/*      0/12  on demand", "duel/blue  11/12  open"]);
        assert_eq!(to_json(&list)["rooms"][1], json!({ "name": "duel/blue", "taken": 11, "seats": 12, "is": "open" }));
        list.total = 300;
        assert_eq!(table(&list).last().unwrap(), "these are 2 of 300; --prefix says how the names begin that are wanted");
        list = RoomList { prefix: "x".to_owned(), ..RoomList::default() };
        assert!(table(&list)[0].starts_with("the server tells of no rooms whose names begin with \"x\""));
    }
}
