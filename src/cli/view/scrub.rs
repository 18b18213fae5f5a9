//! The verb `ledger view`: a recorded match, at any moment, forwards and backwards.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bevy_app::App;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{Event, MouseEventKind};
use ratatui::layout::Rect;

use super::super::game::Game;
use super::super::ledger::Tick;
use super::super::options::CliError;
use super::super::output::room_time;
use super::super::signals::stop_flag;
use super::super::system::instant;
use super::canvas::Camera;
use super::frame::{Bar, Frame, Page};
use super::keyboard::{Keyboard, leaves};
use super::live::next_actor;
use super::record::Record;
use super::screen::{Screen, require_terminal};
use crate::client::picture::{Eyes, Key, Picture, Tint, View};
use crate::client::show_state;
use crate::protocol::{EntityId, RoomTick};
use crate::store::{Archive, Cursor, StoreError};

/// How often it is drawn, and looked whether the room has gone on.
const DRAW: Duration = Duration::from_millis(33);
const REFRESH: Duration = Duration::from_secs(1);

/// Ticks in a second.
const TICKS: f64 = 20.0;

/// How fast it can go: numerator and denominator, so that it is written as people do.
const SPEEDS: [(f64, &str); 7] = [(0.25, "1/4"), (0.5, "1/2"), (1.0, "1"), (2.0, "2"), (4.0, "4"), (8.0, "8"), (16.0, "16")];

/// How many lines of the story are shown at most.
const STORY: usize = 5;

/// How many kinds of facts stand on a page.
const KINDS_SHOWN: usize = 12;

/// The keys, for the page that tells them.
const KEYS: [(&str, &str); 14] = [
    ("space", "play, pause"),
    ("b", "play backwards, forwards"),
    ("[ ]", "slower, faster: 1/4 to 16"),
    (", .", "a tick back, on"),
    ("left right", "a second back, on"),
    ("PgUp PgDn", "ten seconds back, on"),
    ("Home End", "to the beginning, the end"),
    ("n p", "to the next fact, the one before"),
    ("k", "choose the kind of fact for n and p"),
    ("g", "go to a tick, or a time"),
    ("tab, wasd, 0", "follow another, pan, back"),
    ("+ -", "zoom"),
    ("?", "close this"),
    ("q, Esc, Ctrl-C", "leave"),
];

/// What stands over the map.
enum Over {
    Nothing,
    Help,
    /// The kinds of facts; the place that is chosen, 0 for all that are told.
    Kinds(usize),
    /// A tick, as far as it is written, and what is wrong with it.
    GoTo(String, String),
}

struct Scrub<'a> {
    game: &'a Game,
    view: View,
    room: String,
    cursor: Cursor<'a>,
    app: App,
    record: Record,
    /// The first tick and the last that there are.
    ends: (u32, u32),
    /// Where it is, with a part of a tick.
    at: f64,
    /// The tick that the world shows.
    shown: Option<u32>,
    /// 1 forwards, -1 backwards, 0 while it rests.
    going: f64,
    backwards: bool,
    speed: usize,
    follow: EntityId,
    camera: Camera,
    over: Over,
    picture: Picture,
}

/// Looks at a recorded room. One archive for its states, one for its facts.
pub(in crate::cli) fn scrub(
    game: &Game,
    (states, facts): (&mut Archive, &mut Archive),
    room: &str,
    from: Option<RoomTick>,
) -> Result<(), CliError> {
    let view = game.view.ok_or(CliError::NoView)?;
    require_terminal("ledger view")?;
    let stop = stop_flag();
    let (first, last) = ends(facts, room)?;
    let at = from.map_or(first, |from| from.0);
    let mut scrub = Scrub {
        game,
        view,
        room: room.to_owned(),
        cursor: states.cursor(room, RoomTick(at))?,
        app: game.client_app(),
        record: Record::default(),
        ends: (first, last),
        at: f64::from(at),
        shown: None,
        going: 0.0,
        backwards: false,
        speed: 2,
        follow: EntityId::NIL,
        camera: Camera::new(2),
        over: Over::Nothing,
        picture: Picture::default(),
    };
    scrub.record.read(game, facts, room)?;
    scrub.show()?;
    let mut screen = Screen::enter()?;
    let mut keyboard = Keyboard::default();
    let (mut then, mut refreshed) = (instant(), instant());
    while !stop.load(Ordering::Relaxed) {
        for event in screen.events(DRAW.saturating_sub(then.elapsed()))? {
            if scrub.take(&event, &mut keyboard)? {
                return Ok(());
            }
        }
        let now = instant();
        if now.saturating_duration_since(then) < DRAW {
            continue;
        }
        scrub.pass(now.saturating_duration_since(then));
        then = now;
        let is_time = now.saturating_duration_since(refreshed) >= REFRESH;
        if is_time {
            refreshed = now;
            scrub.ends = ends(facts, room)?;
        }
        if is_time || !scrub.record.is_read {
            scrub.record.read(game, facts, room)?;
        }
        scrub.show()?;
        screen.draw(|area, buffer| scrub.paint(area, buffer))?;
    }
    Ok(())
}

/// The first tick that can be told, and the last.
fn ends(archive: &mut Archive, room: &str) -> Result<(u32, u32), CliError> {
    let last = archive.head(room)?.map_or(0, |head| head.tick.0);
    Ok((archive.first_kept(room)?.0.min(last), last))
}

impl Scrub<'_> {
    fn tick(&self) -> u32 {
        // It is kept between the ends.
        self.at as u32
    }

    fn go(&mut self, to: f64) {
        self.at = to.clamp(f64::from(self.ends.0), f64::from(self.ends.1));
    }

    /// Lets time pass.
    fn pass(&mut self, time: Duration) {
        if self.going != 0.0 {
            let speed = SPEEDS.get(self.speed).map_or(1.0, |(speed, _)| *speed);
            self.go(self.at + time.as_secs_f64() * TICKS * speed * self.going);
        }
    }

    /// Puts the world to where it is, and draws it.
    fn show(&mut self) -> Result<(), CliError> {
        let tick = self.tick();
        if self.shown != Some(tick) {
            match self.cursor.seek(RoomTick(tick)) {
                // What was at the beginning is not kept any more.
                Err(StoreError::NoTick { first, last, .. }) => {
                    self.ends = (first.0, last.0);
                    self.go(self.at);
                    return Ok(());
                }
                sought => sought?,
            }
            let shown = show_state(self.app.world_mut(), self.cursor.state(), RoomTick(tick));
            shown.map_err(|error| CliError::Connection(error.to_string()))?;
            self.app.world_mut().clear_trackers();
            self.shown = Some(tick);
        }
        self.picture = (self.view.draw)(self.app.world_mut(), &Eyes { of: self.follow, tick });
        if self.picture.focus.is_none() {
            self.follow = self.picture.actors.first().map_or(EntityId::NIL, |actor| actor.id);
            self.picture = (self.view.draw)(self.app.world_mut(), &Eyes { of: self.follow, tick });
        }
        self.camera.follow(self.picture.focus);
        Ok(())
    }

    /// Takes in what happened at the terminal. True if it is to end.
    fn take(&mut self, event: &Event, keyboard: &mut Keyboard) -> Result<bool, CliError> {
        match event {
            Event::Key(key) if leaves(key) => return Ok(true),
            Event::Key(key) => {
                let Some(key) = keyboard.take(key, Duration::ZERO) else { return Ok(false) };
                match &mut self.over {
                    Over::Nothing | Over::Help => return Ok(self.press(key)),
                    Over::Kinds(chosen) => {
                        let chosen = *chosen;
                        self.choose(key, chosen);
                    }
                    Over::GoTo(..) => self.write(key),
                }
            }
            Event::Mouse(mouse) if mouse.kind == MouseEventKind::ScrollUp => self.camera.zoom_by(1),
            Event::Mouse(mouse) if mouse.kind == MouseEventKind::ScrollDown => self.camera.zoom_by(-1),
            _ => {}
        }
        Ok(false)
    }

    /// A key, where no page wants it. True if it is to end.
    fn press(&mut self, key: Key) -> bool {
        let direction = if self.backwards { -1.0 } else { 1.0 };
        match key {
            Key::Escape if matches!(self.over, Over::Help) => self.over = Over::Nothing,
            Key::Char('q') | Key::Escape => return true,
            Key::Char('?') => self.over = if matches!(self.over, Over::Help) { Over::Nothing } else { Over::Help },
            Key::Char(' ') if self.going == 0.0 => {
                if self.tick() == self.ends.1 && !self.backwards {
                    self.at = f64::from(self.ends.0);
                }
                self.going = direction;
            }
            Key::Char(' ') => self.going = 0.0,
            Key::Char('b') => {
                self.backwards = !self.backwards;
                self.going = -direction;
            }
            Key::Char('[') => self.speed = self.speed.saturating_sub(1),
            Key::Char(']') => self.speed = (self.speed + 1).min(SPEEDS.len() - 1),
            Key::Char('.') => self.step(1.0),
            Key::Char(',') => self.step(-1.0),
            Key::Right => self.step(TICKS),
            Key::Left => self.step(-TICKS),
            Key::PageDown => self.step(TICKS * 10.0),
            Key::PageUp => self.step(-TICKS * 10.0),
            Key::Home => self.go(0.0),
            Key::End => self.go(f64::from(self.ends.1)),
            Key::Char('n' | 'p') => {
                let to = self.record.jump(self.tick(), key == Key::Char('n'));
                to.into_iter().for_each(|to| self.go(f64::from(to)));
                self.going = 0.0;
            }
            Key::Char('k') => self.over = Over::Kinds(self.record.wanted.map_or(0, |kind| kind + 1)),
            Key::Char('g') => self.over = Over::GoTo(String::new(), String::new()),
            Key::Tab | Key::BackTab => {
                self.follow = next_actor(&self.picture, self.follow, key == Key::Tab);
                self.camera.come_back();
            }
            Key::Char('0') => self.camera.come_back(),
            Key::Char('+' | '=') => self.camera.zoom_by(1),
            Key::Char('-') => self.camera.zoom_by(-1),
            Key::Char('a') => self.camera.pan_by(-1.0, 0.0),
            Key::Char('d') => self.camera.pan_by(1.0, 0.0),
            Key::Char('s') => self.camera.pan_by(0.0, -1.0),
            Key::Char('w') => self.camera.pan_by(0.0, 1.0),
            _ => {}
        }
        false
    }

    /// Goes so many ticks on, or back, from a whole one.
    fn step(&mut self, by: f64) {
        self.go(self.at.floor() + by);
    }

    /// A key for the list of kinds.
    fn choose(&mut self, key: Key, chosen: usize) {
        let last = self.record.kinds.len();
        match key {
            Key::Up | Key::Char('w') => self.over = Over::Kinds(chosen.saturating_sub(1)),
            Key::Down | Key::Char('s' | 'k') => self.over = Over::Kinds((chosen + 1).min(last)),
            Key::Enter | Key::Char(' ') => {
                self.record.wanted = chosen.checked_sub(1);
                self.over = Over::Nothing;
            }
            Key::Escape | Key::Char('q') => self.over = Over::Nothing,
            _ => {}
        }
    }

    /// A key for the line in which a tick is written.
    fn write(&mut self, key: Key) {
        let Over::GoTo(text, wrong) = &mut self.over else { return };
        match key {
            Key::Char(symbol) if text.len() < 16 => text.push(symbol),
            Key::Backspace => drop(text.pop()),
            Key::Escape => self.over = Over::Nothing,
            Key::Enter => match text.parse::<Tick>() {
                Ok(tick) => {
                    self.over = Over::Nothing;
                    self.going = 0.0;
                    self.go(f64::from(tick.tick().0));
                }
                Err(why) => *wrong = why,
            },
            _ => {}
        }
    }

    fn paint(&mut self, area: Rect, buffer: &mut Buffer) {
        let (first, last) = self.ends;
        let length = last.saturating_sub(first).max(1);
        let bar = Bar {
            ends: [room_time(self.tick()), room_time(last)],
            share: self.tick().saturating_sub(first) as f32 / length as f32,
            marks: self.record.marks(self.ends, &self.game.ends),
        };
        let frame = Frame {
            picture: &self.picture,
            camera: self.camera,
            story: &self.record.story(self.tick(), STORY),
            figures: self.figures(),
            footer: " ? keys   q leave   space play   b back   [ ] speed   , . tick   n p fact   k kinds   g go to".to_owned(),
            bar: Some(bar),
            page: self.page(),
        };
        frame.paint(area, buffer);
    }

    fn page(&self) -> Option<Page> {
        let page = |title: &str, lines| Some(Page { title: title.to_owned(), lines, tint: Tint::Cyan });
        match &self.over {
            Over::Nothing => None,
            Over::Help => page("keys", KEYS.iter().map(|(key, what)| format!("{key:<16} {what}")).collect()),
            Over::GoTo(text, wrong) => {
                let lines = vec![format!("> {text}_"), wrong.clone(), "such as 1830, or 01:31.5".to_owned()];
                page("go to which tick, or time?", lines)
            }
            Over::Kinds(chosen) => {
                let all = std::iter::once("all that is told".to_owned());
                let kinds = all.chain(self.record.kinds.iter().map(|(kind, count)| format!("{kind}, {count}")));
                let lines = kinds.enumerate().map(|(nth, kind)| format!("{} {kind}", if nth == *chosen { '>' } else { ' ' }));
                let first = chosen.saturating_sub(KINDS_SHOWN - 1);
                page("n and p jump to", lines.skip(first).take(KINDS_SHOWN).collect())
            }
        }
    }

    fn figures(&self) -> Vec<(&'static str, String)> {
        let speed = SPEEDS.get(self.speed).map_or("1", |(_, name)| *name);
        let how = match (self.going == 0.0, self.backwards) {
            (true, _) => "paused",
            (false, false) => "forwards",
            (false, true) => "backwards",
        };
        vec![
            ("room", self.room.clone()),
            ("tick", format!("{} of {}", self.tick(), self.ends.1)),
            ("speed", format!("{speed}, {how}")),
            ("facts", self.record.count()),
            ("n p", self.record.wanted_name().to_owned()),
        ]
    }
}
