//! Orchard: walk to a tree, pick its apples, wait until they have grown again.

pub mod protocol;
pub mod rules;
pub mod view;
