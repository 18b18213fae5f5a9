//! Commands on their way, and what they did in the shadow.

use bytes::Bytes;

use crate::protocol::{CommandId, EntityId, SeenTick};

/// A component that a command wrote.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) component: usize,
    pub(super) id: EntityId,
    /// As of the end of the command's tick, encoded by the shadow; nothing if it had none.
    pub(super) value: Option<Vec<u8>>,
    /// What the room says of that tick is here.
    pub(super) settled: bool,
}

/// A command that was sent.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) id: CommandId,
    pub(super) kind: usize,
    pub(super) seen: Option<SeenTick>,
    pub(super) payload: Bytes,
    /// The tick that it was at the server when it was sent.
    pub(super) server_tick: Option<f64>,
    /// The tick in which it is expected to be decided.
    pub(super) guess: u32,
    /// The tick in which it was decided, and whether it was obeyed.
    pub(super) answer: Option<(u32, bool)>,
    /// The tick in which the shadow obeyed it, if it did yet.
    pub(super) obeyed_at: Option<u32>,
    /// Whether the shadow accepted it.
    pub(super) accepted: bool,
    pub(super) rows: Vec<Row>,
    /// The entities that it creates.
    pub(super) births: Vec<EntityId>,
    /// All of its tick is here but perhaps values of `latest` components.
    pub(super) is_in: bool,
    /// It came out otherwise.
    pub(super) differs: bool,
    /// What it does is known as of the end of its tick.
    pub(super) is_recorded: bool,
    /// It came out otherwise when it was predicted again.
    pub(super) is_revised: bool,
    /// What it does was shown.
    pub(super) is_shown: bool,
}

impl Pending {
    pub(super) fn new(
        id: CommandId,
        (kind, seen, payload): (usize, Option<SeenTick>, Bytes),
        server_tick: Option<f64>,
        guess: u32,
    ) -> Self {
        let (answer, obeyed_at) = (None, None);
        let (rows, births) = (Vec::new(), Vec::new());
        let (accepted, is_in, differs, is_recorded, is_revised, is_shown) = Default::default();
        Self {
            id,
            kind,
            seen,
            payload,
            server_tick,
            guess,
            answer,
            obeyed_at,
            accepted,
            rows,
            births,
            is_in,
            differs,
            is_recorded,
            is_revised,
            is_shown,
        }
    }

    /// The tick in which the room obeyed it.
    pub(super) fn obeyed(&self) -> Option<u32> {
        self.answer.filter(|(_, accepted)| *accepted).map(|(tick, _)| tick)
    }

    /// True while what it does is not all in the state that the shadow starts from.
    pub(super) fn is_ahead(&self) -> bool {
        !self.is_in
    }
}
