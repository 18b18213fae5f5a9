//! What a room holds of memory after hours of play: as much as after minutes.

use std::time::Duration;

use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::client::{Connection, Replica, ReplicaPlugin, issue};
use roomkeeper::host::{ConnectionId, HostLimits, Lobby, Visitor};
use roomkeeper::prelude::*;
use roomkeeper::protocol::{LeaveReason, Protocol};
use roomkeeper::room::{Blueprint, Level, RoomOptions, RoomRng};

use crate::commands::{Fire, Move};
use crate::components::Position;
use crate::held::held;
use crate::map::{Point, add, scale, unit};
use crate::{protocol, rules};

/// Somebody who walks about at chance and fires, and goes after a while.
struct Guest {
    id: ConnectionId,
    app: App,
    chance: RoomRng,
    heading: Point,
    left: u32,
}

impl Guest {
    fn join(blueprint: &Blueprint, number: u64, stays: u32) -> Self {
        let mut app = App::new();
        app.add_plugins(ReplicaPlugin);
        blueprint.add_protocol(&mut app);
        app.finish();
        app.cleanup();
        app.world_mut().resource_scope(|world, mut connection: Mut<Connection>| {
            connection.join(world.resource::<Protocol>(), "main", false);
        });
        Self { id: ConnectionId(number), app, chance: RoomRng::new(number), heading: [1.0, 0.0], left: stays }
    }

    fn act(&mut self) {
        let world = self.app.world_mut();
        let Some(me) = world.resource::<Replica>().user_entity() else { return };
        let Some(at) = world.get::<Position>(me).copied() else { return };
        let chance = &mut self.chance;
        if chance.chance(0.1) {
            self.heading = unit([chance.unit_f32() - 0.5, chance.unit_f32() - 0.5]).unwrap_or(self.heading);
        }
        let _ = issue(world, &Move { to: add(at.0, scale(self.heading, 0.25)) });
        if chance.chance(0.1) {
            let _ = issue(world, &Fire { aim: [chance.unit_f32() - 0.5, chance.unit_f32() - 0.5] });
        }
    }
}

/// A room, and those who come and go.
struct Match {
    lobby: Lobby,
    blueprint: Blueprint,
    guests: Vec<Guest>,
    chance: RoomRng,
    came: u64,
    now: Duration,
}

impl Match {
    /// A tick, in which nobody comes unless `open`; who is there goes then.
    fn pass(&mut self, open: bool) {
        self.now += Duration::from_millis(50);
        while open && self.guests.len() < 3 {
            self.came += 1;
            let name = format!("guest{}", self.chance.range(0..500));
            let guest = Guest::join(&self.blueprint, self.came, 100 + self.chance.range(0..400));
            self.lobby.connected(guest.id, Visitor { player: EntityId::named(&name), name, room: None });
            self.guests.push(guest);
        }
        self.lobby.advance(self.now);
        for guest in &mut self.guests {
            guest.act();
            guest.left = if open || guest.left <= 1 { guest.left.saturating_sub(1) } else { 1 };
            let mut connection = guest.app.world_mut().resource_mut::<Connection>();
            connection.set_now(self.now);
            if guest.left == 1 {
                connection.leave();
            }
            while let Some(message) = connection.next_outgoing().or_else(|| connection.next_report()) {
                self.lobby.message(guest.id, &message);
            }
        }
        assert!(self.lobby.tick_room("main").is_some_and(|report| report.fault.is_none()));
        self.lobby.pump(|connection, own, shared| {
            if let Some(guest) = self.guests.iter_mut().find(|guest| guest.id == connection) {
                guest.app.world_mut().resource_mut::<Connection>().deliver([own, shared].concat().into());
            }
        });
        self.guests.iter_mut().for_each(|guest| guest.app.update());
        for gone in self.guests.extract_if(.., |guest| guest.left == 0) {
            self.lobby.disconnected(gone.id, LeaveReason::Left);
        }
    }

    /// What is held once all have gone.
    fn held_after(&mut self, ticks: u32) -> isize {
        (0..ticks).for_each(|_| self.pass(true));
        (0..100).for_each(|_| self.pass(false));
        assert!(self.guests.is_empty());
        held()
    }
}

#[test]
fn a_room_holds_as_much_after_many_ticks_and_guests_as_after_few() {
    let level = Level::open(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/levels/e1m1.json")).unwrap();
    let (blueprint, mut lobby) = (Blueprint::new(protocol::add, rules::add), Lobby::new(HostLimits::default(), true));
    let options = RoomOptions { level: Some(level), seed: 7, notes: true, ..RoomOptions::named("main") };
    lobby.open_room(&blueprint, options).unwrap();
    let mut played = Match { lobby, blueprint, guests: Vec::new(), chance: RoomRng::new(5), came: 0, now: Duration::ZERO };
    // Until its tables are as large as they get.
    let first = played.held_after(6_000);
    let last = (0..3).map(|_| played.held_after(4_000)).last().unwrap();
    println!("{first} bytes, and {last} after 12,000 ticks more and {} guests in all", played.came);
    // A byte and a third a tick.
    assert!(last - first < 16_384, "{first} bytes at first, {last} in the end");
}
