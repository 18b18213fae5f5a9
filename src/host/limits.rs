//! What a host allows. Every limit has a counter that tells how often it was met.

/// What a host allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostLimits {
    /// Most connections. More are refused as `HostFull`. Default: 1,000. Counter: `refused_full`.
    pub sessions_max: usize,
    /// Most members and spectators of one room. More are refused as `room_full`. Default: 256. Counter: `refused_full`.
    pub members_per_room_max: usize,
    /// Most rooms. More are not created. Default: 1,000.
    pub rooms_max: usize,
    /// Most commands of one member that wait for one tick. More are dropped, and rejected as `too_many_commands`. Default: 64. Counter:
    /// `commands_dropped`.
    pub commands_waiting_max: usize,
    /// Most bytes that wait to be sent to one member, besides a snapshot. One with more has its batches dropped, and is sent a snapshot when
    /// it can take one. What can't be dropped, the answers to its commands, counts with 64 bytes more each; one that takes no answers and goes on asking is closed.
    /// Default: 4 MiB. Counters: `resyncs`, `kicked`.
    pub queue_bytes_max: usize,
    /// Most bytes a second that one member is sent, with what the network adds. Less where its way carries less, down to 12 KiB a
    /// second. In any one second it may be a quarter more, or 16 KiB and a tenth. Default: 2 MiB.
    pub bytes_per_second_max: u32,
    /// Most malformed or ill-timed messages of one connection. One with more is closed. Default: 16. Counter: `kicked`.
    pub mistakes_max: u32,
    /// Fewest ticks between two snapshots that one member may ask for. Default: 20. Counter: `resyncs_refused`.
    pub resync_ticks_min: u32,
    /// Most bytes of missed batches that somebody who comes back is sent one by one although a difference or a snapshot is less: so it is told the facts of
    /// that time, at most half a minute back. Default: 0, what is least for a member that wants to know where things stand.
    pub replay_bytes_max: usize,
    /// How many ticks a room that goes on after its process ended waits for the users that it had. Who is not back by then has left.
    /// Default: 1,200, a minute.
    pub seat_ticks: u32,
    /// How many ticks the seat of a user is kept whose connection was lost. Who is back by then goes on as the same entity; who is not has left, by time-out.
    /// Default: 200, ten seconds, after the five in which the transport gives up.
    pub grace_ticks: u32,
    /// Most pasts of rooms that are watched at a time: those who are as far behind the same room share one. Each costs some memory, a reader of the
    /// store, and no tick of the room. More are refused as `pasts_full`. Each room of a
    /// [`Host`](super::Host) counts its own. Default: 16. Counter: `refused`.
    pub pasts_max: usize,
    /// By how many ticks those who only watch are behind a room at least. What they see is then too old to be of use to who plays. Less is refused
    /// as `too_close`. Default: 0, they may watch the present.
    pub spectators_behind_min: u32,
}

impl Default for HostLimits {
    fn default() -> Self {
        Self {
            sessions_max: 1_000,
            members_per_room_max: 256,
            rooms_max: 1_000,
            commands_waiting_max: 64,
            queue_bytes_max: 4 << 20,
            bytes_per_second_max: 2 << 20,
            mistakes_max: 16,
            resync_ticks_min: 20,
            replay_bytes_max: 0,
            seat_ticks: 1_200,
            grace_ticks: 200,
            pasts_max: 16,
            spectators_behind_min: 0,
        }
    }
}

/// What a host has counted since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostCounters {
    /// Connections that came.
    pub connected: u64,
    /// Users and spectators that were let in.
    pub joined: u64,
    /// Those of them that were sent what they had missed, and no snapshot.
    pub resumed: u64,
    /// Connections that a room's rules, its name, or another protocol turned away.
    pub refused: u64,
    /// Connections for which the host or the room had no place.
    pub refused_full: u64,
    /// Users that left by their own word.
    pub left: u64,
    /// Users whose connection was lost.
    pub timed_out: u64,
    /// Those of them that came back while their seat was kept.
    pub returned: u64,
    /// Messages that were malformed.
    pub malformed: u64,
    /// Messages that were well-formed but had no place where they came: a command before the welcome, a second hello, a command whose
    /// number leaves some out.
    pub out_of_turn: u64,
    /// Connections that were closed for their mistakes, or because they took no answers.
    pub kicked: u64,
    /// Commands that came faster than a room takes them.
    pub commands_dropped: u64,
    /// Commands that were handed to a room.
    pub commands: u64,
    /// Those of them that the room's rules rejected.
    pub rejected: u64,
    /// Members that were sent a snapshot because they could not keep up, or differed.
    pub resyncs: u64,
    /// Snapshots that were asked for too soon after the last, and were put off.
    pub resyncs_refused: u64,
    /// Rooms that stopped because their game failed.
    pub room_faults: u64,
    /// Batches that were handed to members.
    pub batches: u64,
}

impl std::ops::Add for HostCounters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            connected: self.connected + other.connected,
            joined: self.joined + other.joined,
            resumed: self.resumed + other.resumed,
            refused: self.refused + other.refused,
            refused_full: self.refused_full + other.refused_full,
            left: self.left + other.left,
            timed_out: self.timed_out + other.timed_out,
            returned: self.returned + other.returned,
            malformed: self.malformed + other.malformed,
            out_of_turn: self.out_of_turn + other.out_of_turn,
            kicked: self.kicked + other.kicked,
            commands_dropped: self.commands_dropped + other.commands_dropped,
            commands: self.commands + other.commands,
            rejected: self.rejected + other.rejected,
            resyncs: self.resyncs + other.resyncs,
            resyncs_refused: self.resyncs_refused + other.resyncs_refused,
            room_faults: self.room_faults + other.room_faults,
            batches: self.batches + other.batches,
        }
    }
}
