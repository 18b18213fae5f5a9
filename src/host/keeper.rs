//! Between rooms and their store: what a room gives out is handed to the writer, and rooms are brought back from it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thiserror::Error;

use super::berth::lock;
use super::lobby::{Lobby, TickReport};
use super::past::{Answers, PastReader, attend};
use crate::protocol::{Protocol, Rejection, RoomId, RoomTick};
use crate::room::{Blueprint, Incoming, Level, Outbox, Room, RoomError, RoomOptions, Scene};
#[cfg(feature = "nats")]
use crate::store::nats::{NatsError, NatsOptions, Publisher};
use crate::store::{
    Archive, Durability, Handle, Opening, Pressure, Recovered, RecoveredScene, RoomHeader, Store, StoreError, TickRecord, Writer,
    WriterOptions, WriterReport, intact_room, store_at,
};

/// How often a room is compared with what is stored of it, in ticks: twice a minute. Its snapshot costs less than a quiet tick.
pub(super) const AUDIT_EVERY: u32 = 600;

/// Why a room can't be kept, or brought back.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeepError {
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The room can't be built.
    #[error(transparent)]
    Room(#[from] RoomError),
    /// Its facts can't be published.
    #[cfg(feature = "nats")]
    #[error(transparent)]
    Nats(#[from] NatsError),
}

/// Where and how a host keeps its rooms.
#[derive(Clone, Debug)]
pub struct KeepOptions {
    /// The folder with the data, which is made if there is none; or the address of a PostgreSQL, `postgres://user@host/database`, in which
    /// this is the only host.
    pub folder: PathBuf,
    /// What a commit survives.
    pub durability: Durability,
    /// How the writer works.
    pub writer: WriterOptions,
}

impl KeepOptions {
    /// Keeps rooms in a folder, as safely as it goes; with the feature `postgres`, also in the database of an address.
    pub fn in_folder(folder: impl AsRef<Path>) -> Self {
        Self { folder: folder.as_ref().to_owned(), durability: Durability::default(), writer: WriterOptions::default() }
    }
}

/// How long who opens a room again waits for what is left of it to be written.
const SYNC_MAX: Duration = Duration::from_secs(2);

/// How long the store may take to answer who opens a room: whoever waits for a room waits for those before it.
const OPENS_WITHIN: Duration = Duration::from_secs(5);

/// What reads the store for those who open rooms, one after the other.
pub(super) type Opens = Arc<Mutex<Box<dyn Store>>>;

/// Hands what rooms give out to the writer, and brings rooms back.
#[derive(Debug)]
pub struct Keeper {
    writer: Writer,
    reader: Box<dyn Store>,
    opens: Opens,
    rooms: BTreeMap<String, KeptRoom>,
    found: Vec<String>,
    /// By room, also of those that were given away or are over: the protocol that it is stored by, since its past may still be watched, and its last end of the
    /// writer.
    had: BTreeMap<String, (Arc<Protocol>, Handle)>,
    past: Option<Arc<PastReader>>,
    /// That there is none was told: it is tried again whenever somebody wants it.
    is_past_missed: bool,
    answers: Answers,
    #[cfg(feature = "nats")]
    publisher: Option<Publisher>,
    /// Under which name the store has how far the publisher has come with each room.
    position: Option<String>,
}

/// Why commands are refused while the store can't keep up.
pub(super) fn store_behind() -> Rejection {
    Rejection::new("store_behind").because("the server can't store what happens at the moment")
}

/// A room's end of the writer.
#[derive(Debug)]
pub(super) struct KeptRoom {
    handle: Handle,
    /// The tick of which the members were told that it is stored.
    told: Option<RoomTick>,
    pub(super) protocol: Arc<Protocol>,
    is_closed: bool,
}

impl KeptRoom {
    /// Hands a tick over. The report keeps nothing of it but its tick.
    pub(super) fn record(&self, report: &mut TickReport) {
        if report.fault.is_some() {
            return;
        }
        self.handle.record(TickRecord {
            tick: report.tick,
            batch: report.batch.take(),
            facts: std::mem::take(&mut report.facts),
            taken: std::mem::take(&mut report.taken),
            trail: std::mem::take(&mut report.trail),
        });
    }

    /// Hands over the room as it is after the tick that was recorded last, to be compared with what is stored of it.
    pub(super) fn audit(&self, room: &mut Room) {
        // A room that can't be told as a snapshot says so when somebody joins it.
        if let Ok(snapshot) = room.snapshot() {
            self.handle.audit(room.tick_now(), snapshot);
        }
    }

    /// The last tick that is stored.
    pub(super) fn durable(&self) -> Option<RoomTick> {
        self.handle.durable()
    }

    /// Tells the members of the room what is stored meanwhile.
    pub(super) fn tell_durable(&mut self, room: &str, lobby: &mut Lobby) {
        let durable = self.handle.durable();
        if let Some(tick) = durable.filter(|_| durable > self.told) {
            self.told = durable;
            lobby.durable(room, tick);
        }
    }

    /// Nothing more comes of it.
    pub(super) fn close(&mut self) {
        if !std::mem::replace(&mut self.is_closed, true) {
            self.handle.close();
        }
    }

    /// True once all that came of it is stored, up to this tick, and the store is done with it. Nothing more may come.
    pub(super) fn is_settled(&mut self, last: Option<RoomTick>) -> bool {
        let is_written = self.handle.durable() >= last;
        if is_written {
            self.close();
        }
        is_written && self.handle.is_over()
    }
}

impl std::fmt::Debug for dyn Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

/// What a stored room was created from, as options.
pub fn options_of(header: &RoomHeader) -> RoomOptions {
    let level = header.level.as_ref().map(|(name, text)| Level::from_text(name, text.as_str()));
    RoomOptions {
        id: Some(header.id()),
        seed: header.seed,
        notes: header.notes,
        check: header.check,
        level,
        ..RoomOptions::named(&header.name)
    }
}

/// What the store notes of a new room.
pub fn header_of(options: &RoomOptions) -> RoomHeader {
    RoomHeader {
        name: options.name.clone(),
        uid: options.id.unwrap_or_else(|| RoomId::named(&options.name)).as_uuid(),
        seed: options.seed,
        notes: options.notes,
        check: options.check,
        level: options.level.as_ref().map(|level| (level.name().to_owned(), level.text().to_owned())),
        forked_from: None,
    }
}

/// Builds a room from what was recovered of it.
///
/// # Errors
/// If the stored state does not fit.
pub fn rebuild(blueprint: &Blueprint, recovered: &Recovered) -> Result<Room, RoomError> {
    let options = options_of(&recovered.header);
    match &recovered.scene {
        None => blueprint.room(options),
        Some(RecoveredScene::Exact(state)) => blueprint.resume(&options, Scene::Exact(state), &recovered.standing),
        Some(RecoveredScene::Json(text)) => {
            let level = Level::from_stored(&format!("the stored state of {}", options.name), text.as_str());
            blueprint.resume(&options, Scene::Json(&level), &recovered.standing)
        }
    }
}

/// What reads a store that a writer has: for whoever asks, and for who opens rooms.
fn readers(store: &dyn Store) -> Result<(Box<dyn Store>, Box<dyn Store>), StoreError> {
    Ok((store.reader()?, store.reader_within(OPENS_WITHIN)?))
}

impl Keeper {
    /// Opens the data and puts in order what an earlier process left.
    ///
    /// # Errors
    /// If the data can't be read or written.
    pub fn open(options: &KeepOptions) -> Result<Self, KeepError> {
        Self::start(store_at(&options.folder, options.durability)?, options.writer)
    }

    /// Keeps rooms in any store.
    ///
    /// # Errors
    /// If it can't be read or written.
    pub fn start(store: Box<dyn Store>, options: WriterOptions) -> Result<Self, KeepError> {
        let mut found = Vec::new();
        let readers = readers(&*store)?;
        let writer = Writer::start(store, options, |finding| found.push(finding))?;
        Ok(Self::with(writer, readers, found))
    }

    /// The same for simulations: a writer without a thread, which writes when it is told to by [`Writer::step`].
    ///
    /// # Errors
    /// If it can't be read or written.
    pub fn by_hand(store: Box<dyn Store>, options: WriterOptions) -> Result<Self, KeepError> {
        let mut found = Vec::new();
        let readers = readers(&*store)?;
        let writer = Writer::by_hand(store, options, |finding| found.push(finding))?;
        Ok(Self::with(writer, readers, found))
    }

    fn with(writer: Writer, (reader, opens): (Box<dyn Store>, Box<dyn Store>), found: Vec<String>) -> Self {
        let (rooms, had) = Default::default();
        Self {
            writer,
            reader,
            opens: Arc::new(Mutex::new(opens)),
            rooms,
            found,
            had,
            past: None,
            is_past_missed: false,
            answers: channel(),
            #[cfg(feature = "nats")]
            publisher: None,
            position: None,
        }
    }

    /// Ends one that works by hand as a crash would: what waits is not written.
    pub fn abandon(self) {
        self.writer.abandon();
    }

    /// Publishes the facts that become durable, and those that did and were not published yet, to NATS JetStream. It waits for no server.
    ///
    /// # Errors
    /// If an option is wrong, or the data can't be opened once more.
    #[cfg(feature = "nats")]
    pub fn publish(&mut self, options: &NatsOptions) -> Result<(), KeepError> {
        let reader = self.reader.reader()?;
        self.publisher = Some(Publisher::start(options, &self.writer, reader)?);
        self.position = Some(options.position_name());
        Ok(())
    }

    /// What publishes facts, if anything does.
    #[cfg(feature = "nats")]
    pub fn publisher(&self) -> Option<&Publisher> {
        self.publisher.as_ref()
    }

    /// Another way to read what is kept, for another thread.
    ///
    /// # Errors
    /// If the data can't be opened once more.
    pub fn reader(&self) -> Result<Box<dyn Store>, KeepError> {
        Ok(self.reader.reader()?)
    }

    /// The same where an answer is waited for no longer than by who opens rooms.
    pub(super) fn reader_soon(&self) -> Result<Box<dyn Store>, KeepError> {
        Ok(self.reader.reader_within(OPENS_WITHIN)?)
    }

    /// Under which name the store has how far each room's facts are published, if they are to be.
    pub(super) fn position(&self) -> Option<String> {
        self.position.clone()
    }

    /// What was found missing or damaged, a sentence each.
    pub fn found(&self) -> &[String] {
        &self.found
    }

    /// What the stored rooms were created from.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn stored(&mut self) -> Result<Vec<RoomHeader>, KeepError> {
        Ok(self.reader.rooms()?.into_iter().map(|room| room.header).collect())
    }

    /// Builds a room, or brings it back if it was stored: then `options` count only for its name. Where several hosts share a store, the
    /// room has to be leased to this one.
    ///
    /// # Errors
    /// If it can't be built, or what is stored can't be read.
    pub fn room(&mut self, blueprint: &Blueprint, options: RoomOptions) -> Result<Room, KeepError> {
        let built = self.build(blueprint, options)?;
        Ok(self.admit(built))
    }

    /// Builds a room that is to be [admitted](Self::admit) next.
    pub(super) fn build(&mut self, blueprint: &Blueprint, options: RoomOptions) -> Result<Built, KeepError> {
        if self.is_left(&options.name) {
            self.writer.sync_within(SYNC_MAX)?;
        }
        Built::kept(&mut **lock(&self.opens), blueprint, options, &mut self.found)
    }

    /// Keeps from now on what was built by what [opens](Self::opens) rooms.
    pub(super) fn admit(&mut self, built: Built) -> Room {
        let Built { room, protocol, kept } = built;
        let Some((header, opening)) = kept else { return room };
        let is_new = matches!(opening, Opening::New);
        let handle = self.writer.open(header, protocol.clone(), opening);
        if is_new {
            handle.record(room.opening().clone().into());
        }
        let name = &room.info().name;
        self.had.insert(name.clone(), (protocol.clone(), handle.clone()));
        self.rooms.insert(name.clone(), KeptRoom { handle, told: None, protocol, is_closed: false });
        room
    }

    /// By which rooms are opened on another thread.
    pub(super) fn opens(&self) -> Opens {
        self.opens.clone()
    }

    /// Notes what was found missing or damaged.
    pub(super) fn note(&mut self, found: &[String]) {
        self.found.extend_from_slice(found);
    }

    /// True if it kept a room of that name before.
    pub(super) fn has_had(&self, room: &str) -> bool {
        self.had.contains_key(room)
    }

    /// True if something of a room that was kept here before may not be stored yet. It is written before the room is opened again, which goes on from all that
    /// it was, not from what happens to be stored.
    pub(super) fn is_left(&mut self, room: &str) -> bool {
        // A writer that ended has nothing any more, whatever it did not write.
        let is_left = self.had.get(room).is_some_and(|(_, end)| !end.is_over() || self.writer.cursor_keeper().is_stopping());
        if is_left {
            self.close(room);
        }
        is_left
    }

    /// Why a room can't be opened at the moment, if so: it [had](Self::has_had) it before, and whoever opens it would wait for the store.
    pub(super) fn why_not_again(&self, room: &str) -> Option<String> {
        if self.has_had(room) { self.trouble() } else { None }
    }

    /// Why nobody should wait for the store at the moment, if so.
    pub(super) fn trouble(&self) -> Option<String> {
        let behind = || self.writer.is_behind().then(|| "it has not come to what was to be written long ago".to_owned());
        self.writer.failing().or_else(behind)
    }

    /// Hands a tick over. The report keeps nothing of it but its tick.
    pub fn record(&mut self, room: &str, report: &mut TickReport) {
        self.rooms.get(room).into_iter().for_each(|kept| kept.record(report));
    }

    /// Hands over a room of the lobby as it is after the tick that was recorded last, to be compared with what is stored of it: see
    /// [`Handle::audit`](crate::store::Handle::audit).
    pub fn audit(&self, room: &str, lobby: &mut Lobby) {
        if let (Some(kept), Some(open)) = (self.rooms.get(room), lobby.room_mut(room)) {
            kept.audit(open);
        }
    }

    /// A room's end of the writer, for who ticks rooms without a [`Lobby`].
    pub fn handle(&self, room: &str) -> Option<Handle> {
        self.rooms.get(room).map(|kept| kept.handle.clone())
    }

    /// Hands a room's end of the writer over to who runs the room.
    pub(super) fn give_away(&mut self, room: &str) -> Option<KeptRoom> {
        self.rooms.remove(room)
    }

    /// Forgets that it had a room, which was deleted.
    pub(super) fn forget(&mut self, room: &str) {
        self.had.remove(room);
    }

    /// Forgets a room that is gone.
    pub fn close(&mut self, room: &str) {
        self.rooms.remove(room).into_iter().for_each(|mut kept| kept.close());
    }

    /// The rooms that became another host's since this was last asked; nothing more of them is written, and they are forgotten here.
    pub fn lost(&mut self) -> Vec<String> {
        let lost = self.writer.lost();
        lost.iter().for_each(|room| self.close(room));
        lost
    }

    /// Tells the members of a room what is stored meanwhile.
    pub fn tell_durable(&mut self, room: &str, lobby: &mut Lobby) {
        self.rooms.get_mut(room).into_iter().for_each(|kept| kept.tell_durable(room, lobby));
    }

    /// Takes up what was asked through the data, and lets commands be refused while the store is behind. True if the rooms are to stand
    /// still.
    pub fn attend(&mut self, lobby: &mut Lobby) -> bool {
        self.take_up(|room, incoming| lobby.push(room, incoming));
        let pressure = self.writer.pressure();
        let why = (pressure > Pressure::Easy).then(|| {
            let detail = self.writer.failing().unwrap_or_else(|| "it is slower than the game".to_owned());
            tracing::debug!(detail, "the store is behind; commands are refused");
            store_behind()
        });
        lobby.refuse_commands(why);
        pressure == Pressure::Full
    }

    /// Takes up what was asked through the data. `push` puts it into a room's inbox, if that is open.
    pub(super) fn take_up(&mut self, mut push: impl FnMut(&str, Incoming) -> bool) {
        for asked in self.writer.asked() {
            let answer = match push(&asked.room, asked.incoming) {
                true => "done",
                false => "refused: the room is not open",
            };
            self.writer.answer(asked.id, answer);
        }
    }

    /// What reads the past of rooms.
    pub(super) fn past_reader(&mut self) -> Option<Arc<PastReader>> {
        if self.past.is_none() {
            match self.reader.reader() {
                Ok(reader) => self.past = Some(Arc::new(PastReader::start(reader))),
                Err(error) if !std::mem::replace(&mut self.is_past_missed, true) => {
                    tracing::error!(%error, "the past of rooms can't be read");
                }
                Err(_) => {}
            }
        }
        self.past.clone()
    }

    /// Lets what is stored be read for those who watch the past of rooms, and hands over what was read.
    pub fn attend_pasts(&mut self, lobby: &mut Lobby) {
        // It begins to read only once somebody asks.
        let past = if lobby.wants_pasts() { self.past_reader() } else { None };
        attend(lobby, &self.answers, |room| Some((past.clone()?, self.had.get(room)?.0.clone())));
    }

    /// The writer.
    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    /// Writes everything and stops. Facts that are to be published are, as long as that takes no longer than it may.
    pub fn stop(self) -> WriterReport {
        let report = self.writer.stop();
        #[cfg(feature = "nats")]
        drop(self.publisher.map(Publisher::stop));
        report
    }
}

/// A room that was built, and is not kept yet.
pub(super) struct Built {
    pub(super) room: Room,
    protocol: Arc<Protocol>,
    /// What the writer goes on from, where rooms are kept.
    kept: Option<(RoomHeader, Opening)>,
}

impl Built {
    /// Builds a room that nobody keeps.
    pub(super) fn new(blueprint: &Blueprint, options: RoomOptions) -> Result<Self, KeepError> {
        Ok(Self { room: blueprint.room(options)?, protocol: blueprint.protocol(), kept: None })
    }

    /// Builds a room that is to be kept, or brings it back if the store has it. What is found missing or damaged is noted, a sentence each.
    pub(super) fn kept(
        store: &mut dyn Store,
        blueprint: &Blueprint,
        options: RoomOptions,
        found: &mut Vec<String>,
    ) -> Result<Self, KeepError> {
        found.append(&mut store.take_over(&options.name)?);
        let protocol = blueprint.protocol();
        if intact_room(store, &options.name)?.is_none_or(|room| room.sealed.is_none()) {
            let id = match options.id {
                Some(id) => id,
                None => id_of_new(store, &options.name)?,
            };
            let options = RoomOptions { id: Some(id), ..options };
            let kept = Some((header_of(&options), Opening::New));
            return Ok(Self { room: blueprint.room(options)?, protocol, kept });
        }
        let recovered = Archive::new(store.reader()?, protocol.clone()).recover(&options.name)?;
        let mut room = rebuild(blueprint, &recovered)?;
        let kept = Some(opening(&mut room, recovered)?);
        Ok(Self { room, protocol, kept })
    }
}

/// The id of a new room. Where rooms were deleted there may have been one of its name, whose facts and entities are not to be taken for its own.
fn id_of_new(store: &mut dyn Store, name: &str) -> Result<RoomId, StoreError> {
    let id = RoomId::named(name);
    Ok(match store.deleted()? {
        0 => id,
        deleted => RoomId::from_uuid(uuid::Uuid::new_v5(&id.as_uuid(), &deleted.to_le_bytes())),
    })
}

/// What the writer goes on from. A room that another protocol stored has its state as this protocol has it now.
fn opening(room: &mut Room, recovered: Recovered) -> Result<(RoomHeader, Opening), KeepError> {
    let Recovered { header, scene, standing, chain, .. } = recovered;
    let state = match scene {
        Some(RecoveredScene::Exact(state)) => state,
        _ => Box::new(room.state().map_err(RoomError::from)?),
    };
    Ok((header, Opening::Resumed { state, standing: Box::new(standing), chain }))
}

impl From<Outbox> for TickRecord {
    fn from(outbox: Outbox) -> Self {
        let Outbox { tick, batch, facts, taken, trail, .. } = outbox;
        Self { tick, batch, facts, taken, trail }
    }
}
