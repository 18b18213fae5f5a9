//! What is asked of a host through its data, as its rooms take it in; and what the writer's thread costs.

use std::time::Duration;

use super::{Asked, Work};
use crate::protocol::{Change, FactSeq, Incoming};

impl Work {
    /// Takes up what is asked of the rooms that are open.
    pub(super) fn look_for_requests(&mut self) {
        let Ok(requests) = self.store.requests() else { return };
        for request in requests {
            let room = self.rooms.values().find(|room| room.follower.key == request.key);
            let Some(room) = room.map(|room| room.follower.header.name.clone()) else { continue };
            let incoming = match request.kind.as_str() {
                "reset" => match self.store.snippet(request.key, &request.subject) {
                    Ok(Some(snippet)) => Ok(snippet.reset()),
                    Ok(None) => Err(format!("there is no snippet {:?}", request.subject)),
                    Err(error) => Err(error.to_string()),
                },
                "revert" => match serde_json::from_str::<(FactSeq, Vec<Change>)>(&request.subject) {
                    Ok((seq, changes)) => Ok(Incoming::Revert { seq, changes }),
                    Err(error) => Err(error.to_string()),
                },
                kind => Err(format!("nothing is known of {kind:?}")),
            };
            let mut waiting = self.shared.waiting();
            match incoming {
                Ok(incoming) if waiting.asked.iter().all(|asked| asked.id != request.id) => {
                    // Answered already as far as the store is concerned: it must not be carried out twice.
                    waiting.answered.push((request.id, "taken up".to_owned()));
                    waiting.asked.push(Asked { id: request.id, room, incoming });
                }
                Ok(_) => {}
                Err(error) => waiting.answered.push((request.id, format!("refused: {error}"))),
            }
        }
    }
}

/// The processor time of the thread that asks, where the system tells.
pub(super) fn thread_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap_or_default();
    // After the name, which stands in parentheses: state is the first, utime the 12th and stime the 13th.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}
