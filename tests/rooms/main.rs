//! Rooms, their rules and what they give out, each by itself or with simulated clients.

#[path = "../arena/mod.rs"]
mod arena;
mod audience;
mod change_detection;
mod commands;
mod convergence;
mod events;
mod faults;
mod flow;
mod json_forms;
mod pasts;
mod quantised;
mod rewind;
mod snippets;
