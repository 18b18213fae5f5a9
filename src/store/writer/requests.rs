//! What is asked of a host through its data, as its rooms take it in; and what the writer's thread costs.

use std::time::Duration;

use super::super::snippets::read_now;
use super::{Asked, Work};
use crate::protocol::{Change, FactSeq, Incoming};

impl Work {
    /// Takes up what is asked of the rooms that are open.
    pub(super) fn look_for_requests(&mut self) {
        if self.has_given_up() {
            return;
        }
        let Ok(requests) = self.store.requests() else { return };
        for request in requests {
            let Some(room) = self.rooms.values().find(|room| room.follower.key == request.key) else { continue };
            let (room, protocol) = (room.follower.header.name.clone(), &room.follower.protocol);
            let incoming = match request.kind.as_str() {
                "reset" => match self.store.snippet(request.key, &request.subject) {
                    Ok(Some(snippet)) => Ok(read_now(protocol, snippet).reset()),
                    Ok(None) => Err(format!("there is no snippet {:?}", request.subject)),
                    Err(error) => Err(error.to_string()),
                },
                "revert" => match serde_json::from_str::<(FactSeq, Vec<Change>)>(&request.subject) {
                    Ok((seq, changes)) => Ok(Incoming::Revert { seq, changes }),
                    Err(error) => Err(error.to_string()),
                },
                "event" => match serde_json::from_str::<(String, String)>(&request.subject) {
                    Ok((name, fact)) => Ok(Incoming::Event { name, fact }),
                    Err(error) => Err(error.to_string()),
                },
                kind => Err(format!("nothing is known of {kind:?}")),
            };
            match incoming {
                // Whoever took it back meanwhile was told that nothing comes of it. It is answered from now on, so it is not seen again.
                Ok(incoming) if self.store.take_up(request.id).unwrap_or(false) => {
                    self.shared.waiting().asked.push(Asked { id: request.id, room, incoming });
                }
                Ok(_) => {}
                Err(error) => self.shared.waiting().answered.push((request.id, format!("refused: {error}"))),
            }
        }
    }
}

/// The processor time of the thread that asks, where the system tells.
pub(super) fn thread_time() -> Duration {
    #[cfg(unix)]
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime).try_into().unwrap_or_default();
    #[cfg(not(unix))]
    let time = Duration::ZERO;
    time
}
