//! What is stored, and what is made of it again.

#[path = "../arena/mod.rs"]
mod arena;
mod audit;
mod backtest;
mod compaction;
mod damaged;
mod deleting;
mod disk;
mod events;
mod forks;
mod fresh;
mod hidden;
mod meanwhile;
mod old_ledgers;
mod promises;
mod recovery;
mod store;
mod thinning;
mod views;
mod writing;
