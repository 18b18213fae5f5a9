//! The starter works with this version: its own modules and its own tests, compiled here without a build of their own.

// What the starter's tests know as their package.
extern crate self as orchard;

#[path = "../starter/src/protocol.rs"]
mod protocol;
#[path = "../starter/src/rules.rs"]
mod rules;
#[path = "../starter/tests/orchard.rs"]
mod tests;
#[path = "../starter/src/view.rs"]
mod view;
