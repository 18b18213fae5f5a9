//! The README and the guide's pages, read by the doc tests alone: what they show compiles, and runs where it needs no network. The README's fragments compile in
//! `tests/commands/fragments.rs`.

#[doc = include_str!("../README.md")]
struct Readme;

#[doc = include_str!("../docs/guide/1-first-room.md")]
struct FirstRoom;

#[doc = include_str!("../docs/guide/2-commands-and-facts.md")]
struct CommandsAndFacts;

#[doc = include_str!("../docs/guide/3-sync-and-delivery.md")]
struct SyncAndDelivery;

#[doc = include_str!("../docs/guide/4-who-sees-what.md")]
struct WhoSeesWhat;

#[doc = include_str!("../docs/guide/5-between-two-ticks.md")]
struct BetweenTwoTicks;

#[doc = include_str!("../docs/guide/6-ledger-and-time.md")]
struct LedgerAndTime;

#[doc = include_str!("../docs/guide/7-hosting.md")]
struct Hosting;

#[doc = include_str!("../docs/guide/8-scaling.md")]
struct Scaling;

#[doc = include_str!("../docs/from-bevy-replicon.md")]
struct FromBevyReplicon;

#[doc = include_str!("../docs/from-lightyear.md")]
struct FromLightyear;

#[doc = include_str!("../docs/from-colyseus.md")]
struct FromColyseus;
