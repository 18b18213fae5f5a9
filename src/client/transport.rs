//! Carries a [`Connection`] over encrypted UDP.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;

use super::connection::Connection;
use super::plugin::ReplicaSystems;
use super::reconnect::{Broken, Remedy};
use super::replica::Replica;
use super::state::ConnectionState;
use super::udp::{Credentials, LinkError, LinkStatus, UdpLink};
use crate::net::{Dial, UdpDial};
use crate::protocol::limits::TICK_MILLIS;
use crate::protocol::{LinkConditions, Protocol, Refusal};

/// How long a client tries to come back by default: longer than a host keeps the seat, so that it joins anew where it can't go on.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a client lets itself be sent on to another host before it is in a room: two that send it to each other would do so for ever.
const MOVES_MAX: u32 = 4;

/// How many hosts a client remembers that may have its room.
const HOSTS_MAX: usize = 32;

/// Most messages that wait for a link that takes none at the moment. A game that asks for more is told that its connection is too slow.
const UNSENT_MAX: usize = 4_096;

/// Fetches credentials for coming back, as from a game's back end: it is asked each frame until it has them, or knows why it has none.
pub type Renew = Box<dyn FnMut() -> Poll<Result<Credentials, String>> + Send + Sync>;

/// A [`UdpLink`] as a resource, and what it joins. Insert it to connect; remove it to leave; put another one in its place to go to another room. Either way
/// the host is told at once.
///
/// If the connection breaks while the client is in the room it comes back by itself, with what its replica still holds: see
/// [`ConnectionState::Reconnecting`]. The first time nobody was in, and it says why not at once.
///
/// ```no_run
/// // Not run: it needs a host.
/// use bevy_app::prelude::*;
/// use roomkeeper::client::{Credentials, ReplicaPlugin, UdpPlugin, UdpTransport};
/// # fn protocol(_: &mut App) {}
/// # fn fetch_token() -> std::task::Poll<Result<Vec<u8>, String>> { std::task::Poll::Pending }
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let mut app = App::new();
///     app.add_plugins((ReplicaPlugin, UdpPlugin));
///     protocol(&mut app);
///     let mut transport = UdpTransport::connect(&Credentials::Token(std::fs::read("token")?), "lobby", false)?;
///     // A token is good for one connection. For the next the game's back end gives another one.
///     transport.renew_by(|| fetch_token().map_ok(Credentials::Token));
///     app.insert_resource(transport);
///     Ok(())
/// }
/// ```
#[derive(Resource)]
pub struct UdpTransport {
    link: UdpLink,
    credentials: Credentials,
    room: String,
    spectate: bool,
    browses: Browses,
    /// The connection knows that it is on the way by this transport.
    begun: bool,
    greeted: bool,
    /// The client was in the room by this transport.
    came_in: bool,
    last_flush: Duration,
    renew: Option<Renew>,
    patience: Duration,
    broken: Option<Broken>,
    /// A try to mend it is on its way.
    trying: bool,
    /// Hosts that may have the room, besides the one that was named first.
    others: Vec<SocketAddr>,
    /// A host at whose address nobody listened when it was tried last.
    gone: Option<SocketAddr>,
    /// How often it was sent on since it was in a room.
    moves: u32,
    /// The host that has the room, to which credentials are still to be fetched.
    toward: Option<SocketAddr>,
}

/// Whether no room is to be joined yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Browses {
    No,
    /// Once the link stands.
    Soon,
    Now,
}

impl std::fmt::Debug for UdpTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UdpTransport")
            .field("link", &self.link)
            .field("room", &self.room)
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}

impl UdpTransport {
    /// Begins to connect, to join a room as a user or a spectator. A host may have rooms on demand, `duel/*` for instance: what is come back to then is the
    /// room that was entered.
    ///
    /// # Errors
    /// If the system gives no socket, or the credentials are malformed.
    pub fn connect(credentials: &Credentials, room: &str, spectate: bool) -> Result<Self, LinkError> {
        Self::connect_by(UdpDial, credentials, room, spectate)
    }

    /// [Connects](Self::connect) by a way of its own: by [`WebSocketDial`](crate::net::WebSocketDial) where a network lets no UDP through, or by
    /// [`FallbackDial`](crate::net::FallbackDial) where that is not known. When it comes back, or goes on to another host, it is by the same way.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_by(dial: impl Dial + 'static, credentials: &Credentials, room: &str, spectate: bool) -> Result<Self, LinkError> {
        let link = UdpLink::connect_by(dial, credentials, unix_time())?;
        Ok(Self {
            link,
            credentials: credentials.clone(),
            room: room.to_owned(),
            spectate,
            browses: Browses::No,
            begun: false,
            greeted: false,
            came_in: false,
            last_flush: Duration::ZERO,
            renew: None,
            patience: PATIENCE,
            broken: None,
            trying: false,
            others: Vec::new(),
            gone: None,
            moves: 0,
            toward: None,
        })
    }

    /// Begins to connect, and joins no room yet: for [`Connection::list_rooms`]. The connection counts as [`Connecting`](ConnectionState::Connecting) until a
    /// room is [entered](Self::enter), over the same link: a token is good for both.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn browse(credentials: &Credentials) -> Result<Self, LinkError> {
        Self::browse_by(UdpDial, credentials)
    }

    /// [Browses](Self::browse) by a way of its own.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn browse_by(dial: impl Dial + 'static, credentials: &Credentials) -> Result<Self, LinkError> {
        let mut transport = Self::connect_by(dial, credentials, "", false)?;
        transport.browses = Browses::Soon;
        Ok(transport)
    }

    /// Joins a room, as a user or a spectator, after the host was [browsed](Self::browse). False if a room was joined before: to come into another one, connect
    /// anew.
    pub fn enter(&mut self, room: &str, spectate: bool) -> bool {
        let can = self.browses != Browses::No;
        if can {
            (self.browses, self.room, self.spectate) = (Browses::No, room.to_owned(), spectate);
        }
        can
    }

    /// Says where credentials are from for coming back, and for following the room to another host. Without it a client that came with a token tries that one
    /// again, which lets in only at a host where it was not used yet, and while it is valid; one that came unauthenticated needs none. A token is best a way to all hosts that may have the room.
    pub fn renew_by(&mut self, renew: impl FnMut() -> Poll<Result<Credentials, String>> + Send + Sync + 'static) {
        self.renew = Some(Box::new(renew));
    }

    /// For how long it tries to come back; a minute, if nobody says otherwise. With zero it does not try. The time for which the computer slept does
    /// not count.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Further hosts that may have the room if the first one is gone. Those in a token are known anyway.
    pub fn also_at(&mut self, hosts: impl IntoIterator<Item = SocketAddr>) {
        self.others.extend(hosts);
    }

    /// Puts a simulated link before the host, in both directions.
    pub fn set_link(&mut self, conditions: LinkConditions, seed: u64) {
        self.link.set_link(conditions, seed);
    }

    /// Where the link stands.
    pub fn status(&self) -> LinkStatus {
        self.link.status()
    }

    /// Sends what is queued at once and hangs up. It does not come back.
    pub fn hang_up(&mut self) {
        self.patience = Duration::ZERO;
        self.link.flush();
        self.link.disconnect();
    }

    /// True if it is not over.
    fn is_up(&self) -> bool {
        !matches!(self.link.status(), LinkStatus::Disconnected(_))
    }

    /// The hosts that may have the room, each once.
    fn hosts(&self) -> Vec<SocketAddr> {
        let mut hosts = self.credentials.hosts();
        let further = self.others.iter().filter(|host| !hosts.contains(host)).copied().collect::<Vec<_>>();
        hosts.extend(further);
        hosts
    }

    fn fresh_credentials(&mut self) -> Poll<Result<Credentials, String>> {
        if let Some(renew) = &mut self.renew {
            match renew() {
                Poll::Ready(Ok(fresh)) => self.credentials = fresh,
                without => return without,
            }
        }
        // Where the room is said to be; else the hosts by turns: the one that was lost may have lost its rooms to another.
        let hosts = self.hosts();
        let nth = self.broken.as_ref().map_or(0, Broken::tried) as usize;
        let turn = hosts.get(nth % hosts.len().max(1)).copied();
        let there = [self.toward.take(), turn].into_iter().flatten().find_map(|host| self.credentials.at(host));
        let mut credentials = there.unwrap_or_else(|| self.credentials.clone());
        if let (None, Credentials::Unauthenticated { admission, .. }) = (&self.renew, &mut credentials) {
            // To each connection its own number.
            admission.client_id = RandomState::new().hash_one(admission.client_id);
        }
        Poll::Ready(Ok(credentials))
    }

    /// The link is gone: tries again, if somebody was in.
    fn mend(&mut self, now: Duration, reason: String, connection: &mut Connection) {
        if self.link.is_unheard() {
            self.gone = Some(self.link.host());
        }
        let is_done = matches!(connection.state(), ConnectionState::Idle) || connection.state().is_over();
        if is_done || !self.came_in || self.patience.is_zero() {
            return connection.lost(reason);
        }
        let (trying, hosts) = (std::mem::take(&mut self.trying), self.hosts().len());
        let broken = match &mut self.broken {
            none @ None => none.insert(Broken::new(now, reason)),
            Some(broken) => {
                if trying {
                    broken.failed(now, reason, hosts);
                }
                broken
            }
        };
        connection.reconnecting(broken.tried());
        match broken.remedy(now, self.patience) {
            // Where nobody listens it may still be knocking.
            Remedy::Wait if self.link.status() == LinkStatus::Connecting => self.link.disconnect(),
            Remedy::Wait => {}
            Remedy::GiveUp => {
                connection.lost(format!("{}; it was tried again {} times", broken.reason, broken.tried()));
                (self.broken, self.came_in) = (None, false);
                self.link.disconnect();
            }
            Remedy::Try => self.retry(now),
        }
    }

    /// Connects anew, over the same socket where that can be: who is known by its address stays known.
    fn retry(&mut self, now: Duration) {
        let begun = match self.fresh_credentials() {
            Poll::Pending => return,
            Poll::Ready(Err(why)) => Err(why),
            Poll::Ready(Ok(credentials)) => self.link.restart(&credentials, now).map_err(|error| error.to_string()),
        };
        match (begun, &mut self.broken) {
            (Ok(()), _) => (self.trying, self.greeted) = (true, false),
            (Err(why), Some(broken)) => broken.failed(now, why, 1),
            (Err(_), None) => {}
        }
    }

    /// Another host has the room.
    fn go_to(&mut self, now: Duration, host: &str, connection: &mut Connection) {
        let host: Option<SocketAddr> = host.parse().ok();
        if let Some(broken) = self.broken.as_ref().filter(|_| host.is_some() && host == self.gone) {
            // It is known to be gone, and nobody has taken the room over yet.
            connection.reconnecting(broken.tried());
            return self.link.disconnect();
        }
        self.moves += 1;
        let host = host.filter(|_| self.moves <= MOVES_MAX);
        // What let it in was good for one connection, and may be long past its time.
        if let Some(there) = host.filter(|_| self.came_in && self.renew.is_some() && !self.patience.is_zero()) {
            return self.go_anew(now, there, connection);
        }
        let there = host.and_then(|host| self.credentials.at(host));
        // What can't be followed is left as it is: refused, and where the room is.
        let Some(there) = there else { return };
        self.link.disconnect();
        match self.link.restart(&there, now) {
            Ok(()) => {
                // Those who sent it here may have the room another time.
                let known = self.hosts();
                self.others = known.into_iter().take(HOSTS_MAX).collect();
                (self.credentials, self.greeted) = (there, false);
                if self.browses == Browses::Now {
                    self.browses = Browses::Soon;
                }
                match &self.broken {
                    Some(broken) => connection.reconnecting(broken.tried()),
                    None => connection.connecting(),
                }
            }
            Err(error) => connection.lost(error.to_string()),
        }
    }

    /// The same with credentials that are yet to be fetched.
    fn go_anew(&mut self, now: Duration, there: SocketAddr, connection: &mut Connection) {
        if !self.hosts().contains(&there) && self.others.len() < HOSTS_MAX {
            self.others.push(there);
        }
        (self.toward, self.trying) = (Some(there), false);
        let broken = self.broken.get_or_insert_with(|| Broken::new(now, "the room is at another host".to_owned()));
        connection.reconnecting(broken.tried());
        self.link.disconnect();
    }

    /// The link stands.
    fn stand(&mut self, connection: &mut Connection, protocol: &Protocol, replica: &Replica) {
        if self.browses != Browses::No {
            if self.browses == Browses::Soon {
                self.browses = Browses::Now;
                connection.connecting();
                connection.browse();
            }
        } else if !self.greeted && connection.state().is_over() {
            // The goodbye was read only after the link had been made anew.
            self.hang_up();
        } else if !self.greeted {
            self.greeted = true;
            connection.join(protocol, &self.room, self.spectate);
        } else if connection.state().is_in_room() {
            // Who asked for any room comes back to the one that it was given.
            if !self.came_in && self.room != replica.room_name() {
                replica.room_name().clone_into(&mut self.room);
            }
            (self.came_in, self.trying, self.broken, self.gone, self.moves) = (true, false, None, None, 0);
        } else if let (ConnectionState::Refused(Refusal::Rejected(why), _), Some(broken)) = (connection.state(), &self.broken)
            && why.code == "already_joined"
        {
            // By the connection that broke, of which the host does not know yet that it did.
            connection.reconnecting(broken.tried());
            self.link.disconnect();
        }
    }
}

/// Whose transport is removed, or gives way to another one, has left. A game that panics has not: its player's seat is kept, as where the process is gone.
impl Drop for UdpTransport {
    fn drop(&mut self) {
        if self.is_up() && !std::thread::panicking() {
            self.hang_up();
        }
    }
}

/// The time since the Unix epoch, which the transport's tokens go by. It never goes back and never stands still: where the system's clock is set back it
/// goes on from where it was, and is ahead of that clock from then on.
#[expect(clippy::disallowed_methods, reason = "the client's end of the network is where real time comes in")]
pub fn unix_time() -> Duration {
    static LAST: Mutex<Option<(Duration, Instant)>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let system = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let at = Instant::now();
    let now = last.map_or(system, |(time, then)| steady(system, time, at.saturating_duration_since(then)));
    *last = Some((now, at));
    now
}

/// The time by the system's clock, but not less than what it was before and what has passed since. A clock that is ahead counts: a computer that
/// slept does not measure for how long it did.
fn steady(system: Duration, before: Duration, passed: Duration) -> Duration {
    system.max(before.saturating_add(passed))
}

/// Carries the client's messages over UDP. Add it after [`ReplicaPlugin`](super::ReplicaPlugin), and insert a [`UdpTransport`].
#[derive(Clone, Copy, Debug, Default)]
pub struct UdpPlugin;

impl Plugin for UdpPlugin {
    fn build(&self, app: &mut App) {
        app.add_systems(PreUpdate, take_in.before(ReplicaSystems::Receive).run_if(resource_exists::<UdpTransport>));
        app.add_systems(PreUpdate, let_go.before(ReplicaSystems::Receive).run_if(resource_removed::<UdpTransport>));
        app.add_systems(PreUpdate, go_on.after(ReplicaSystems::Receive).run_if(resource_exists::<UdpTransport>));
        app.add_systems(PostUpdate, give_out.run_if(resource_exists::<UdpTransport>));
    }
}

fn take_in(mut transport: ResMut<UdpTransport>, mut connection: ResMut<Connection>, protocol: Res<Protocol>, replica: Res<Replica>) {
    let transport = &mut *transport;
    let now = unix_time();
    connection.set_now(now);
    if let Some(broken) = &mut transport.broken {
        broken.look(now);
    }
    transport.link.receive(now);
    while let Some(packet) = transport.link.next_packet() {
        connection.deliver(packet);
    }
    let status = transport.link.status();
    let begun = std::mem::replace(&mut transport.begun, true);
    if begun && !transport.greeted && transport.is_up() && *connection.state() == ConnectionState::Idle {
        // The player has left before it was in: there is nobody to say goodbye to, and nothing to ask for any more.
        return transport.hang_up();
    }
    connection.set_silence(if status == LinkStatus::Connected { transport.link.silence() } else { Duration::ZERO });
    match status {
        LinkStatus::Connecting if transport.broken.is_none() => connection.connecting(),
        // There are others that may have the room; one that is the only one may be about to be there again.
        LinkStatus::Connecting if transport.trying && transport.link.is_unheard() && transport.hosts().len() > 1 => {
            transport.mend(now, "nobody listens there".to_owned(), &mut connection);
        }
        LinkStatus::Connecting => {}
        LinkStatus::Connected => transport.stand(&mut connection, &protocol, &replica),
        LinkStatus::Disconnected(reason) => {
            if !begun {
                // A way that ends before it was looked at has been begun all the same.
                connection.connecting();
            }
            transport.mend(now, reason, &mut connection);
        }
    }
}

/// The transport was removed: nothing comes or goes any more.
fn let_go(mut connection: ResMut<Connection>) {
    if !connection.state().is_over() {
        connection.leave();
    }
    connection.outgoing.clear();
    connection.browsing.is_open = false;
    connection.set_silence(Duration::ZERO);
}

/// Goes where the room is, before anybody sees that it is not here. Hangs up where nothing more can come of it: a host would go on sending.
fn go_on(mut transport: ResMut<UdpTransport>, mut connection: ResMut<Connection>) {
    match connection.state() {
        ConnectionState::Refused(Refusal::Elsewhere(host), _) => {
            let host = host.clone();
            transport.go_to(unix_time(), &host, &mut connection);
        }
        // Not one that was just put in the place of the one that broke.
        ConnectionState::Broken(_) if (transport.greeted || transport.browses == Browses::Now) && transport.is_up() => transport.hang_up(),
        _ => {}
    }
}

/// Sends at most once per tick, however often the game draws.
fn give_out(mut transport: ResMut<UdpTransport>, mut connection: ResMut<Connection>) {
    let transport = &mut *transport;
    if transport.link.status() != LinkStatus::Connected {
        return;
    }
    while let Some(message) = connection.next_outgoing() {
        let Err(error) = transport.link.send(message.clone()) else { continue };
        match error {
            // A stall of the network: it goes out later.
            LinkError::Full if connection.outgoing_len() < UNSENT_MAX => connection.put_back(message),
            _ => connection.lost(error.to_string()),
        }
        break;
    }
    let now = unix_time();
    connection.set_now(now);
    if let Some(report) = connection.next_report() {
        transport.link.send_packet(&report);
    }
    // A little less than a tick, so that a loop of 50 ms sends in each round.
    if now.saturating_sub(transport.last_flush) >= Duration::from_millis(TICK_MILLIS - 5) {
        transport.last_flush = now;
        transport.link.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_of_the_system_that_is_set_back_neither_stops_the_time_nor_turns_it_back() {
        let seconds = Duration::from_secs;
        let noon = seconds(1_000_000);
        assert_eq!(steady(noon + seconds(1), noon, seconds(1)), noon + seconds(1));
        // An hour back: a second later it is a second later.
        assert_eq!(steady(noon - seconds(3_600), noon, seconds(1)), noon + seconds(1));
        // The computer slept for an hour, of which nothing was measured.
        assert_eq!(steady(noon + seconds(3_600), noon, seconds(1)), noon + seconds(3_600));
        let (first, second) = (unix_time(), unix_time());
        assert!(first <= second && first > seconds(1_600_000_000));
    }
}
