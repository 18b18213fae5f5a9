//! Who is in a room, and how each is reached: for an operator.

use super::Lobby;
use crate::host::overview::{MemberInfo, Way, Ways};
use crate::host::session::Stage;

impl Lobby {
    /// How the ways to all members are, those of all rooms together.
    pub fn ways(&self) -> Ways {
        let (mut ways, mut members, mut loss) = (Ways::default(), 0_u32, 0.0);
        for session in self.sessions.values().filter(|session| session.stage == Stage::Live) {
            let way = session.delivery.way();
            members += 1;
            loss += way.loss;
            ways.loss_max = ways.loss_max.max(way.loss);
            ways.queue_bytes += way.queue_bytes;
            ways.queue_bytes_max = ways.queue_bytes_max.max(way.queue_bytes);
            if let Some(rtt) = way.rtt {
                ways.measured += 1;
                ways.rtt_mean += rtt;
                ways.rtt_max = ways.rtt_max.max(rtt);
            }
        }
        ways.rtt_mean /= u32::try_from(ways.measured).unwrap_or(u32::MAX).max(1);
        ways.loss_mean = loss / members.max(1) as f32;
        ways
    }

    /// Who is in a room, members and spectators, in the order in which they connected.
    pub fn members_of(&self, name: &str) -> Vec<MemberInfo> {
        let connections = self.rooms.get(name).into_iter().flat_map(|hosted| &hosted.members);
        let sessions = connections.filter_map(|connection| self.sessions.get(connection));
        let member = |session: &crate::host::session::Session| MemberInfo {
            player: session.visitor.player,
            name: session.visitor.name.clone(),
            spectates: session.spectator,
            way: session.delivery.way(),
        };
        sessions.map(member).collect()
    }

    /// How many watch the past of a room.
    pub fn past_watchers(&self) -> usize {
        self.pasts.watchers()
    }
}

impl crate::host::delivery::Delivery {
    /// How its member is reached.
    fn way(&self) -> Way {
        let (rtt, loss, rate) = self.path_measured();
        Way { rtt, loss, rate, queue_bytes: self.waiting_bytes() }
    }
}
