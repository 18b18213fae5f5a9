//! The apps of bevy_replicon, in memory and over UDP alike, and what they hold.

use std::collections::BTreeMap;

use bevy::prelude::*;
use bevy::state::app::StatesPlugin;
use bevy_replicon::prelude::*;
use bevy_replicon::shared::server_entity_map::ServerEntityMap;

use super::gaze::Gaze;
use crate::workload::{Bits, Health, Kind, Population, Position, Rotation, bits};

/// A client's app, or a server's, to be [finished](finish).
pub fn app(client: bool) -> App {
    let plugins = RepliconPlugins.set(RepliconSharedPlugin { auth_method: AuthMethod::None });
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, StatesPlugin));
    if client {
        app.add_plugins(plugins.disable::<ServerPlugin>().disable::<ServerMessagePlugin>());
    } else {
        app.add_plugins(plugins.set(ServerPlugin::new(PostUpdate)).disable::<ClientPlugin>().disable::<ClientMessagePlugin>());
    }
    app.replicate::<Position>().replicate::<Rotation>().replicate::<Health>().replicate::<Kind>();
    app
}

/// Ends the building of an app.
pub fn finish(mut app: App) -> App {
    app.finish();
    app.cleanup();
    app
}

/// The game without replication, with the plugins that replicon asks for.
pub fn bare_app() -> App {
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, StatesPlugin));
    let mut app = finish(app);
    app.update();
    app
}

/// What a member is to hold: everything, or what it sees. By the server's entities.
pub fn truth(server: &World, population: &Population, member: usize) -> BTreeMap<u64, Bits> {
    let gaze = server.get_resource::<Gaze>();
    let seen = |slot: &(usize, &Entity)| gaze.is_none_or(|gaze| gaze.sees(member, slot.0));
    let whole = |entity: Entity| (entity.to_bits(), bits(server.entity(entity)).expect("the server's entities are whole"));
    population.entities().iter().enumerate().filter(seen).map(|(_, &entity)| whole(entity)).collect()
}

/// What a client's app holds, by the server's entities.
pub fn held(client: &mut App) -> BTreeMap<u64, Bits> {
    let mut remote = client.world_mut().query_filtered::<Entity, With<Remote>>();
    let world = client.world();
    let to_server = world.resource::<ServerEntityMap>().to_server();
    let whole = |entity: Entity| bits(world.entity(entity)).expect("the client's entities are whole");
    remote.iter(world).map(|entity| (to_server[&entity].to_bits(), whole(entity))).collect()
}
