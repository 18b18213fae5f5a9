//! A live room on the screen: of somebody who plays in it, or who watches.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bevy_app::App;
use bevy_ecs::prelude::*;
use ratatui::crossterm::event::{Event, MouseButton, MouseEventKind};
use ratatui::layout::Rect;

use super::super::game::Game;
use super::super::options::{CliError, ClientArguments};
use super::super::player::hang_up;
use super::super::system::instant;
use super::canvas::Camera;
use super::frame::{Frame, Page, places};
use super::keyboard::{Keyboard, leaves};
use super::replay::Replay;
use super::screen::Screen;
use super::story::{Story, listen};
use crate::client::picture::{Ending, Eyes, Key, Keys, Picture, Pilot, Tint, View};
use crate::client::{Connection, ConnectionState, Replica};
use crate::predict::Prediction;
use crate::protocol::limits::TICKS_PER_SECOND;
use crate::protocol::{EntityId, Moment, Refusal, RoomTick, Speed, When};

/// How often somebody steers: once per tick.
const TICK: Duration = Duration::from_millis(50);

/// How often it is drawn at most.
const DRAW: Duration = Duration::from_millis(33);

/// How long it waits for a key before it looks at the network again.
const LOOK: Duration = Duration::from_millis(8);

/// What comes after a room was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing.
    Leave,
    /// The same again.
    Again,
}

/// What stands over the map because somebody asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Nothing,
    Keys,
    /// Whether it is meant: the key that leaves is beside those that walk.
    Leave,
}

/// A room, and who looks at it.
pub(super) struct Live<'a> {
    game: &'a Game,
    view: View,
    app: App,
    /// Who steers; nobody for one who watches.
    pilot: Option<Pilot>,
    keyboard: Keyboard,
    /// Where the mouse is while its button is held.
    pointer: Option<(u16, u16)>,
    /// Who is followed instead of oneself.
    follow: EntityId,
    camera: Camera,
    over: Over,
    /// How it ended for who plays, if it did, whoever is followed now.
    ending: Option<Ending>,
    /// Whether the room is this process's own: then another match can be had.
    is_own: bool,
    /// How to get to the room, and as whom.
    client: ClientArguments,
    name: String,
    /// By how many ticks one who watches is behind.
    behind: u32,
    /// From which tick on it is watched, if that was named instead.
    from: Option<RoomTick>,
    /// How who plays came to its end, as it is seen once more; and of whom, until which tick.
    replay: Option<Replay>,
    fell: Option<(EntityId, u32)>,
    /// The keys that were down when it ended for who plays, until they come up.
    clung: BTreeSet<Key>,
    /// Where the room is, for the panel.
    place: String,
    story: Story,
    picture: Picture,
}

impl<'a> Live<'a> {
    /// Begins to connect.
    pub(super) fn connect(
        game: &'a Game,
        (client, name): (&ClientArguments, &str),
        pilot: Option<Pilot>,
        (place, is_own): (String, bool),
    ) -> Result<Self, CliError> {
        let mut app = game.player_app(pilot.is_some());
        listen(&mut app);
        let transport = client.transport(name, &client.room, pilot.is_none(), client.link.link_seed)?;
        app.insert_resource(transport);
        let (mut client, mut behind, mut from) = (client.clone(), 0, None);
        if let Some(Moment { room, when }) = Moment::parse(&client.room) {
            match when {
                When::Ago(ticks) => behind = ticks,
                When::At(tick) => from = Some(tick),
            }
            client.room = room.to_owned();
        }
        Ok(Self {
            game,
            client,
            name: name.to_owned(),
            behind,
            from,
            replay: None,
            fell: None,
            clung: BTreeSet::new(),
            view: game.view.ok_or(CliError::NoView)?,
            app,
            pilot,
            keyboard: Keyboard::default(),
            pointer: None,
            follow: EntityId::NIL,
            camera: Camera::new(2),
            over: Over::Nothing,
            ending: None,
            is_own,
            place,
            story: Story::default(),
            picture: Picture::default(),
        })
    }

    /// Goes on until somebody leaves, or wants it again.
    pub(super) fn run(&mut self, screen: &mut Screen, stop: &AtomicBool) -> Result<Next, CliError> {
        let started = instant();
        let (mut next_tick, mut next_draw) = (Duration::ZERO, Duration::ZERO);
        let mut area = Rect::default();
        while !stop.load(Ordering::Relaxed) {
            for event in screen.events(LOOK)? {
                if let Some(next) = self.take(&event, started.elapsed()) {
                    return Ok(next);
                }
            }
            let now = started.elapsed();
            if now >= next_tick {
                // A round that is late is not made up for: nobody walks twice as fast.
                next_tick = if next_tick + TICK > now { next_tick + TICK } else { now + TICK };
                self.steer(area, now);
            }
            self.app.update();
            self.story.take(self.game, self.app.world_mut());
            if self.replay.as_mut().is_some_and(|replay| !replay.update()) {
                self.end_replay();
            }
            if now >= next_draw {
                next_draw = now + DRAW;
                self.look();
                screen.draw(|whole, buffer| {
                    area = whole;
                    self.frame().paint(whole, buffer);
                })?;
            }
        }
        Ok(Next::Leave)
    }

    /// Says goodbye.
    pub(super) fn hang_up(&mut self) {
        self.end_replay();
        hang_up(&mut self.app);
    }

    fn state(&self) -> &ConnectionState {
        self.app.world().resource::<Connection>().state()
    }

    /// Lets the pilot do what the keys say: here, and nowhere else, commands come from.
    fn steer(&mut self, area: Rect, now: Duration) {
        let (held, struck) = (self.keyboard.held(now), self.keyboard.take_struck());
        self.clung.retain(|key| held.contains(key));
        let is_live = self.state().is_in_room();
        let (Some(pilot), true) = (&mut self.pilot, is_live) else { return };
        let camera = self.camera;
        let map = places(area, false).map(|places| places.map);
        let over = self.pointer.zip(map).filter(|((column, row), map)| map.contains((*column, *row).into()));
        let pointed = over.map(|((column, row), map)| camera.spot(map, column, row));
        pilot(self.app.world_mut(), &Keys { held, struck, pointed });
    }

    /// Draws the picture: here, and nowhere else, the replica is read for drawing.
    fn look(&mut self) {
        let replica = self.app.world().resource::<Replica>();
        let (user, tick) = (replica.user(), replica.tick().0);
        let mut draw = |of: EntityId| (self.view.draw)(self.app.world_mut(), &Eyes { of, tick });
        let own = draw(user);
        let ending = own.ending.clone().filter(|_| !user.is_nil());
        self.picture = if self.follow.is_nil() || self.follow == user { own } else { draw(self.follow) };
        // One who watches follows somebody from the start, and somebody else when that one leaves.
        if self.picture.focus.is_none() {
            let first = self.picture.actors.first().filter(|_| user.is_nil());
            self.follow = first.map_or(EntityId::NIL, |actor| actor.id);
        }
        self.camera.follow(self.picture.focus);
        let falls = ending.as_ref().filter(|_| self.pilot.is_some() && self.fell.is_none()).map(|ending| ending.tint);
        self.ending = ending;
        if let Some(tint) = falls {
            self.fell = Some((user, tick));
            self.clung = self.keyboard.held(Duration::ZERO);
            // Who won saw it.
            if tint == Tint::Red {
                self.see_again();
            }
        }
        // Who is in it again sees through its own eyes, and another end is to come.
        if self.ending.is_none() && self.pilot.is_some() && self.state().is_in_room() {
            (self.follow, self.fell) = (EntityId::NIL, None);
            self.end_replay();
        }
        self.replay.iter_mut().for_each(|replay| replay.look(&self.view));
    }

    /// Shows once more how it ended, where the server keeps what happened.
    fn see_again(&mut self) {
        let Some(fell) = self.fell.filter(|_| self.can_see_again()) else { return };
        self.end_replay();
        match Replay::begin(self.game, &self.client, &self.name, fell, self.camera) {
            Ok(replay) => self.replay = Some(replay),
            Err(error) => tracing::warn!(%error, "the last seconds can't be seen again"),
        }
    }

    /// Whether it can be asked for. A token lets in but once.
    fn can_see_again(&self) -> bool {
        self.fell.is_some() && self.client.token.is_none()
    }

    fn end_replay(&mut self) {
        self.replay.take().into_iter().for_each(Replay::end);
    }

    /// Whether another moment can be asked for by one who watches. A token lets in but once.
    fn can_go_back(&self) -> bool {
        self.pilot.is_none() && self.client.token.is_none()
    }

    /// Goes back in time, or on.
    fn go_back(&mut self, seconds: i64) {
        let ticks = seconds.saturating_mul(i64::from(TICKS_PER_SECOND));
        let shown = self.app.world().resource::<Replica>().tick().0;
        let (behind, from) = match self.from {
            // What has not come yet was refused: from there it goes on to the present.
            Some(_) if ticks < 0 && self.is_out() => (0, None),
            Some(from) => {
                let at = if self.state().is_in_room() { shown } else { from.0 };
                (0, Some(RoomTick(i64::from(at).saturating_sub(ticks).clamp(0, i64::from(u32::MAX)) as u32)))
            }
            None => {
                // How old a room is that it was not let into is not known.
                let newest = if self.state().is_in_room() { shown.saturating_add(self.behind) } else { u32::MAX };
                (i64::from(self.behind).saturating_add(ticks).clamp(0, i64::from(newest)) as u32, None)
            }
        };
        let room = match from {
            Some(tick) => format!("{}@{}", self.client.room, tick.0),
            None if behind == 0 => self.client.room.clone(),
            None => format!("{}@-{}s", self.client.room, f64::from(behind) / f64::from(TICKS_PER_SECOND)),
        };
        match self.client.transport(&self.name, &room, true, self.client.link.link_seed) {
            Ok(transport) => {
                hang_up(&mut self.app);
                self.app.insert_resource(transport);
                (self.behind, self.from) = (behind, from);
            }
            Err(error) => tracing::warn!(%error, "the way to another moment is closed"),
        }
    }

    /// Takes in what happened at the terminal.
    fn take(&mut self, event: &Event, now: Duration) -> Option<Next> {
        match event {
            Event::Key(key) if leaves(key) => return Some(Next::Leave),
            Event::Key(key) => {
                let key = self.keyboard.take(key, now)?;
                return self.press(key);
            }
            Event::Mouse(mouse) => match mouse.kind {
                MouseEventKind::Down(MouseButton::Left) | MouseEventKind::Drag(MouseButton::Left) => {
                    self.pointer = Some((mouse.column, mouse.row));
                }
                MouseEventKind::Up(MouseButton::Left) => self.pointer = None,
                MouseEventKind::ScrollUp => self.camera.zoom_by(1),
                MouseEventKind::ScrollDown => self.camera.zoom_by(-1),
                _ => {}
            },
            Event::FocusLost => {
                self.keyboard.release();
                self.pointer = None;
            }
            _ => {}
        }
        None
    }

    /// Whether there is no room, and none on its way.
    fn is_out(&self) -> bool {
        self.state().is_over()
    }

    /// Whether the same can be had again: a match that is over for all, of a server of one's own, or a room that could not be entered.
    fn can_again(&self) -> bool {
        self.is_out() || (self.is_own && self.ending.as_ref().is_some_and(|ending| ending.of_all))
    }

    /// Whether somebody plays who would be gone from a match if they left.
    fn is_at_stake(&self) -> bool {
        self.pilot.is_some() && self.state().is_in_room() && self.ending.is_none()
    }

    fn press(&mut self, key: Key) -> Option<Next> {
        let watches = self.pilot.is_none();
        let over = std::mem::replace(&mut self.over, Over::Nothing);
        // Not by the keys that who died was holding.
        let is_clung = self.clung.contains(&key);
        if self.replay.is_some() {
            if !is_clung && matches!(key, Key::Char('k' | 'q') | Key::Escape | Key::Enter) {
                self.end_replay();
            }
            return None;
        }
        match key {
            Key::Char('[') if self.can_go_back() => self.go_back(10),
            Key::Char(']') if self.can_go_back() => self.go_back(-10),
            Key::Char('k') if self.ending.is_some() && !is_clung => self.see_again(),
            Key::Escape if over == Over::Keys => {}
            Key::Char('q') | Key::Escape if over == Over::Leave || !self.is_at_stake() => return Some(Next::Leave),
            Key::Char('q') | Key::Escape => self.over = Over::Leave,
            Key::Char('?') if over != Over::Keys => self.over = Over::Keys,
            Key::Char('+' | '=') => self.camera.zoom_by(1),
            Key::Char('-') => self.camera.zoom_by(-1),
            Key::Char('r') if self.can_again() => return Some(Next::Again),
            Key::Tab | Key::BackTab if watches || self.ending.is_some() => self.follow_next(key == Key::Tab),
            Key::Char('0') => self.camera.come_back(),
            Key::Char('a') | Key::Left if watches => self.camera.pan_by(-1.0, 0.0),
            Key::Char('d') | Key::Right if watches => self.camera.pan_by(1.0, 0.0),
            Key::Char('s') | Key::Down if watches => self.camera.pan_by(0.0, -1.0),
            Key::Char('w') | Key::Up if watches => self.camera.pan_by(0.0, 1.0),
            // Who walks on while the keys are shown reads them all the same.
            _ if over == Over::Keys => self.over = Over::Keys,
            _ => {}
        }
        None
    }

    fn follow_next(&mut self, forward: bool) {
        let now = if self.follow.is_nil() { self.app.world().resource::<Replica>().user() } else { self.follow };
        self.follow = next_actor(&self.picture, now, forward);
        self.camera.come_back();
    }

    fn frame(&self) -> Frame<'_> {
        let footer = match self.pilot {
            Some(_) => " ? keys   q leave   + - zoom".to_owned(),
            None => {
                let back = if self.can_go_back() { "   [ ] 10 s back, on" } else { "" };
                format!(" ? keys   q leave   tab follow another   wasd pan   0 back   + - zoom{back}")
            }
        };
        let again = self.replay.as_ref().and_then(Replay::shown);
        let footer = if again.is_some() { " how it ended, once more   k goes on".to_owned() } else { footer };
        let (picture, camera) = again.unwrap_or((&self.picture, self.camera));
        Frame { picture, camera, story: &self.story.lines, figures: self.figures(), footer, bar: None, page: self.page() }
    }

    /// What is known of the network.
    fn figures(&self) -> Vec<(&'static str, String)> {
        let world = self.app.world();
        let (connection, replica) = (world.resource::<Connection>(), world.resource::<Replica>());
        let (packets, bytes) = connection.received();
        let (missing, of) = connection.missing();
        let trip = connection.server_clock().rtt().map_or_else(|| "not known".to_owned(), |rtt| format!("{} ms", rtt.as_millis()));
        let tick = connection.server_tick().map_or_else(|| "not known".to_owned(), |tick| format!("{tick:.0}"));
        let mut figures = vec![
            ("server", self.place.clone()),
            ("round trip", trip),
            ("tick", format!("{} of {tick}", replica.tick())),
            ("received", format!("{packets}, {} kB", bytes / 1_000)),
            ("missing", format!("{missing} of {of}")),
        ];
        if connection.speed() != Speed::FULL {
            let stands = if connection.speed().is_still() { "stands still".to_owned() } else { connection.speed().to_string() };
            figures.push(("the room", stands));
        }
        if *self.state() == ConnectionState::Degraded {
            figures.push(("silent", format!("{:.0} s", connection.silence().as_secs_f32())));
        }
        if self.pilot.is_some() {
            figures.push(("unanswered", connection.unanswered().to_string()));
            let prediction = world.resource::<Prediction>();
            figures.push(("corrected", format!("{} of {}", prediction.corrected, prediction.confirmed)));
        } else {
            let when = match self.from {
                Some(tick) => format!("from tick {tick}"),
                None if self.behind == 0 => "watch".to_owned(),
                None => format!("{} s late", self.behind.div_ceil(TICKS_PER_SECOND)),
            };
            figures.push(("you", when));
        }
        figures
    }

    /// What stands over the map, if anything does.
    fn page(&self) -> Option<Page> {
        let what_next = |again: &str| vec![if self.can_again() { format!("r {again}, q leaves") } else { "q leaves".to_owned() }];
        match self.state() {
            ConnectionState::Reconnecting(_) => {
                let title = "the connection is gone: it is tried again".to_owned();
                return Some(Page { title, lines: vec![self.state().to_string(), "q leaves".to_owned()], tint: Tint::Yellow });
            }
            ConnectionState::Idle | ConnectionState::Connecting | ConnectionState::Joining(_) => {
                let title = match self.state() {
                    ConnectionState::Joining(share) => format!("joining, {:.0} %", share * 100.0),
                    _ => format!("knocking at {}", self.place),
                };
                return Some(Page { title, lines: vec!["q leaves".to_owned()], tint: Tint::Cyan });
            }
            ConnectionState::Refused(refusal, differences) => {
                let differences = differences.iter().take(8).cloned();
                let lines = differences.chain(self.where_rooms_are(refusal)).chain(what_next("tries again")).collect();
                return Some(Page { title: format!("not let in: {refusal}"), lines, tint: Tint::Red });
            }
            ConnectionState::Broken(why) => {
                let title = format!("the connection is gone: {why}");
                return Some(Page { title, lines: what_next("tries again"), tint: Tint::Red });
            }
            ConnectionState::Live | ConnectionState::Degraded => {}
        }
        match self.over {
            Over::Nothing => {}
            Over::Leave => {
                let lines = vec!["q leaves, any other key goes on".to_owned()];
                return Some(Page { title: "leave the match?".to_owned(), lines, tint: Tint::Yellow });
            }
            Over::Keys => {
                let more = [("+ -", "zoom"), ("q, Esc, Ctrl-C", "leave"), ("?", "close this")];
                let watching = [("tab", "follow another"), ("wasd, arrows", "pan"), ("0", "back"), ("[ ]", "10 s back in time, and on")];
                let watching = if self.can_go_back() { &watching[..] } else { &watching[..3] };
                let keys = if self.pilot.is_some() { self.view.keys } else { watching };
                let lines = keys.iter().chain(&more).map(|(key, what)| format!("{key:<16} {what}")).collect();
                return Some(Page { title: format!("{}: keys", self.game.name), lines, tint: Tint::Cyan });
            }
        }
        if self.replay.is_some() {
            return None;
        }
        // One who watches reads it in the story, and so does one who follows somebody.
        let ending = self.ending.as_ref().filter(|_| self.follow.is_nil())?;
        let mut lines = what_next("plays again");
        if !ending.of_all {
            lines.push("the others go on: tab follows them".to_owned());
        }
        if self.can_see_again() {
            lines.push("k shows the last seconds once more".to_owned());
        }
        Some(Page { title: ending.text.clone(), lines, tint: ending.tint })
    }
}

impl Live<'_> {
    /// What helps who asked for a room that is not there.
    fn where_rooms_are(&self, refusal: &Refusal) -> Option<String> {
        let is_missing = matches!(refusal, Refusal::NoSuchRoom(_)) && !self.is_own;
        is_missing.then(|| format!("{} rooms {} lists rooms", self.game.name, self.client.server))
    }
}

/// The one after, or before, the one who is followed.
pub(super) fn next_actor(picture: &Picture, after: EntityId, forward: bool) -> EntityId {
    let count = picture.actors.len();
    let now = picture.actors.iter().position(|actor| actor.id == after);
    let next = match (now, forward) {
        (None, _) => 0,
        (Some(at), true) => (at + 1) % count.max(1),
        (Some(at), false) => (at + count - 1) % count.max(1),
    };
    picture.actors.get(next).map_or(EntityId::NIL, |actor| actor.id)
}
