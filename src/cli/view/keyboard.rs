//! What the terminal tells of keys, as keys that are held.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::client::picture::Key;

/// How long a key counts as held that the terminal does not tell the end of: after the first press, and after each that the keyboard
/// repeats. Short, or a tap would be a walk; the keyboard's own pause before it repeats is longer and shows.
const AFTER_PRESS: Duration = Duration::from_millis(180);
const AFTER_REPEAT: Duration = Duration::from_millis(120);

/// The keys that are down.
#[derive(Debug, Default)]
pub(super) struct Keyboard {
    /// The terminal tells when a key comes up, or that it is repeated: it has done so. Some that say they will do not.
    exact: bool,
    /// For each key that is down until when, if its end is not told.
    down: BTreeMap<Key, Duration>,
    struck: BTreeSet<Key>,
}

impl Keyboard {
    /// Takes note of what happened to a key. Returns it if it went down, or was repeated.
    pub(super) fn take(&mut self, event: &KeyEvent, now: Duration) -> Option<Key> {
        self.exact |= event.kind != KeyEventKind::Press;
        if event.kind == KeyEventKind::Release {
            // Whatever is held beside it. What goes down as one symbol may come up as another, if Shift came up before.
            let is_known = key_of(event.code).is_some_and(|key| self.down.remove(&key).is_some());
            if !is_known && matches!(event.code, KeyCode::Char(_)) {
                self.down.retain(|key, _| !matches!(key, Key::Char(_)));
            }
            return None;
        }
        if event.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT | KeyModifiers::SUPER) {
            return None;
        }
        let key = key_of(event.code)?;
        let memory = match self.down.get(&key).is_some_and(|until| *until > now) {
            true => AFTER_REPEAT,
            false => AFTER_PRESS,
        };
        let until = if self.exact { Duration::MAX } else { now + memory };
        let was_down = self.down.insert(key, until).is_some_and(|until| until > now);
        if !was_down || (self.exact && event.kind == KeyEventKind::Press) {
            self.struck.insert(key);
        }
        Some(key)
    }

    /// The keys that are down at a time.
    pub(super) fn held(&mut self, now: Duration) -> BTreeSet<Key> {
        self.down.retain(|_, until| *until > now);
        self.down.keys().copied().collect()
    }

    /// The keys that went down since this was last asked.
    pub(super) fn take_struck(&mut self) -> BTreeSet<Key> {
        std::mem::take(&mut self.struck)
    }

    /// Lets go of all keys: what happens to them is told to somebody else now.
    pub(super) fn release(&mut self) {
        self.down.clear();
    }
}

/// True for Ctrl-C, which leaves whatever is on the screen.
pub(super) fn leaves(event: &KeyEvent) -> bool {
    let is_control = event.modifiers.contains(KeyModifiers::CONTROL) && event.kind == KeyEventKind::Press;
    is_control && matches!(event.code, KeyCode::Char('c' | 'C'))
}

fn key_of(code: KeyCode) -> Option<Key> {
    Some(match code {
        KeyCode::Char(symbol) => Key::Char(symbol.to_lowercase().next().unwrap_or(symbol)),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::Enter => Key::Enter,
        KeyCode::Tab => Key::Tab,
        KeyCode::BackTab => Key::BackTab,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Esc => Key::Escape,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(symbol: char, kind: KeyEventKind) -> KeyEvent {
        KeyEvent::new_with_kind(KeyCode::Char(symbol), KeyModifiers::NONE, kind)
    }

    #[test]
    fn a_terminal_that_tells_the_end_is_believed() {
        let (mut keyboard, d) = (Keyboard::default(), Key::Char('d'));
        keyboard.take(&event('d', KeyEventKind::Press), Duration::ZERO);
        keyboard.take(&event('d', KeyEventKind::Release), Duration::ZERO);
        assert!(keyboard.held(Duration::ZERO).is_empty() && keyboard.take_struck().contains(&d));
        keyboard.take(&event('D', KeyEventKind::Press), Duration::ZERO);
        assert!(keyboard.held(Duration::from_secs(9)).contains(&d));
        // Whatever is held beside it.
        let release = KeyEvent::new_with_kind(KeyCode::Char('d'), KeyModifiers::CONTROL, KeyEventKind::Release);
        keyboard.take(&release, Duration::from_secs(9));
        assert!(keyboard.held(Duration::from_secs(9)).is_empty());
        assert!(keyboard.take_struck().contains(&d) && keyboard.take_struck().is_empty());
    }

    #[test]
    fn a_key_that_comes_up_as_another_symbol_is_up_and_strikes_again() {
        let (mut keyboard, one) = (Keyboard::default(), Key::Char('1'));
        keyboard.take(&event('x', KeyEventKind::Release), Duration::ZERO);
        for _ in 0..2 {
            keyboard.take(&event('1', KeyEventKind::Press), Duration::ZERO);
            assert!(keyboard.take_struck().contains(&one));
            keyboard.take(&event('&', KeyEventKind::Release), Duration::ZERO);
            assert!(keyboard.held(Duration::ZERO).is_empty());
        }
    }

    #[test]
    fn a_terminal_that_says_it_tells_and_does_not_is_treated_as_one_that_does_not() {
        let mut keyboard = Keyboard::default();
        keyboard.take(&event('d', KeyEventKind::Press), Duration::ZERO);
        assert!(keyboard.held(Duration::from_secs(1)).is_empty());
    }

    #[test]
    fn without_it_a_key_is_held_for_a_moment_and_as_long_as_it_is_repeated() {
        let (mut keyboard, d, millis) = (Keyboard::default(), Key::Char('d'), Duration::from_millis);
        for at in [0, 100, 200, 300] {
            keyboard.take(&event('d', KeyEventKind::Press), millis(at));
            assert!(keyboard.held(millis(at + 99)).contains(&d));
        }
        assert_eq!(keyboard.take_struck().len(), 1);
        assert!(keyboard.held(millis(420)).is_empty());
        keyboard.take(&event('d', KeyEventKind::Press), millis(500));
        assert_eq!(keyboard.take_struck().len(), 1, "it went down again");
        keyboard.take(&KeyEvent::new(KeyCode::Char('d'), KeyModifiers::CONTROL), millis(510));
        assert!(keyboard.take_struck().is_empty(), "Ctrl-D is no d");
    }
}
