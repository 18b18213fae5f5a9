//! The verbs `play` and `watch --view`.

use super::super::game::Game;
use super::super::options::{CliError, WatchOptions};
use super::super::output::say;
use super::super::signals::stop_flag;
use super::live::{Live, Next};
use super::options::PlayOptions;
use super::own::Own;
use super::screen::{Screen, require_terminal};
use crate::store::place_for_people;

/// Plays in a terminal.
pub(in crate::cli) fn play(game: &Game, options: &PlayOptions) -> Result<(), CliError> {
    let view = game.view.ok_or(CliError::NoView)?;
    if options.bots > 0 && game.bot.is_none() {
        return Err(CliError::NoBot);
    }
    require_terminal("play")?;
    let stop = stop_flag();
    let (mut nth, mut left_over) = (0, Vec::new());
    let mut slot = None;
    loop {
        let own = match &options.address {
            Some(_) => None,
            None => Some(Own::start(game, options, nth)?),
        };
        let (server, room, place) = match (&own, &options.address) {
            (Some(own), _) => (own.address.to_string(), own.room.clone(), format!("own, :{}", own.address.port())),
            (None, address) => {
                let address = address.clone().unwrap_or_default();
                (address.clone(), options.room.room.clone(), address)
            }
        };
        // The screen stays from match to match; it comes after all that may be refused for a reason that is to be read.
        let screen = match &mut slot {
            Some(screen) => screen,
            none => none.insert(Screen::enter()?),
        };
        let client = options.client(server, room.clone());
        let mut live = Live::connect(game, (&client, &options.name), Some((view.pilot)()), (place, own.is_some()))?;
        let next = live.run(screen, &stop);
        if !matches!(next, Ok(Next::Again)) {
            // First of all: a room that does not return from its game's code is waited for, and Ctrl-C is to be a signal again meanwhile.
            drop(slot.take());
        }
        live.hang_up();
        own.map_or(Ok(()), Own::stop)?;
        if let Some(folder) = &options.data {
            left_over.push(format!("{} ledger --data {} view {room}", game.name, place_for_people(folder)));
        }
        if next? == Next::Leave {
            break;
        }
        nth += 1;
    }
    left_over.iter().for_each(|line| say(&format!("look at it again: {line}")));
    Ok(())
}

/// Watches in a terminal.
pub(in crate::cli) fn watch(game: &Game, options: &WatchOptions) -> Result<(), CliError> {
    game.view.ok_or(CliError::NoView)?;
    require_terminal("watch --view")?;
    let stop = stop_flag();
    let client = options.client();
    let mut screen = Screen::enter()?;
    loop {
        let mut live = Live::connect(game, (&client, "spectator"), None, (client.server.clone(), false))?;
        let next = live.run(&mut screen, &stop);
        live.hang_up();
        if next? == Next::Leave {
            return Ok(());
        }
    }
}
