//! What both sides agree on: the wire names of components, commands and facts.
//!
//! May use: components, commands, facts. Never: rules.

use crate::commands::{Fire, Move, OpenDoor, SwitchWeapon};
use crate::components::*;
use crate::facts::*;
use bevy_app::App;
use roomkeeper::prelude::{OwnedBy, ProtocolAppExt};
use roomkeeper::protocol::User;

/// Adds the protocol. The server and every client do.
pub fn add(app: &mut App) {
    things(app);
    creatures(app);
    commands(app);
    facts(app);
}

fn things(app: &mut App) {
    app.sync::<Position>("position").latest();
    app.sync::<Rotation>("rotation").latest();
    let _ = app.sync::<Wall>("wall");
    let _ = app.sync::<Door>("door");
    let _ = app.sync::<DoorState>("door_state");
    let _ = app.sync::<DoorTimer>("door_timer");
    let _ = app.sync::<Lock>("lock");
    let _ = app.sync::<Key>("key");
    let _ = app.sync::<Item>("item");
    let _ = app.sync::<Visibility>("visibility");
    let _ = app.sync::<Exit>("exit");
    let _ = app.sync::<SpawnPoint>("spawn_point");
    let _ = app.sync::<Tag>("tag");
    let _ = app.sync::<Status>("status");
    app.sync_relationship::<OwnedBy>("owned_by");
}

fn creatures(app: &mut App) {
    let _ = app.sync::<Avatar>("avatar");
    // Who comes later, or looks at a moment of a match, is to know the names too.
    let _ = app.sync::<User>("user");
    app.sync::<Health>("health").quantity();
    app.sync::<Ammo>("ammo").quantity();
    let _ = app.sync::<Weapon>("weapon");
    let _ = app.sync::<Stride>("stride");
    let _ = app.sync::<Immunity>("immune_until");
    let _ = app.sync::<ReadyAt>("ready_at");
    let _ = app.sync::<Monster>("monster");
    let _ = app.sync::<MonsterState>("monster_state");
    let _ = app.sync::<Patrol>("patrol");
    let _ = app.sync::<Heading>("heading");
    let _ = app.sync::<PainUntil>("pain_until");
    let _ = app.sync::<Fireball>("fireball");
    let _ = app.sync::<FireballState>("fireball_state");
    let _ = app.sync::<Bullet>("bullet");
    let _ = app.sync::<Hindsight>("hindsight");
    let _ = app.sync::<BulletState>("bullet_state");
    let _ = app.sync::<Direction>("direction");
    let _ = app.sync::<Origin>("origin");
    let _ = app.sync::<roomkeeper::prelude::Ttl>("ttl");
}

fn commands(app: &mut App) {
    app.command::<Move>("move").command::<Fire>("fire");
    app.command::<OpenDoor>("open_door").command::<SwitchWeapon>("switch_weapon");
}

fn facts(app: &mut App) {
    app.fact::<PlayerMoved>("player_moved").fact::<PlayerKilled>("player_killed");
    app.fact::<BulletFired>("bullet_fired").fact::<MonsterHitByBullet>("monster_hit_by_bullet");
    app.fact::<DoorOpened>("door_opened").fact::<DoorClosed>("door_closed");
    app.fact::<PlayerHitByFireball>("player_hit_by_fireball").fact::<MonsterDied>("monster_died");
    app.fact::<PlayerCollectedWeapon>("player_collected_weapon").fact::<PlayerSwitchedWeapon>("player_switched_weapon");
    app.fact::<PlayerCollectedHealth>("player_collected_health").fact::<PlayerCollectedImmunity>("player_collected_immunity");
    app.fact::<PlayerCollectedAmmo>("player_collected_ammo").fact::<PlayerCollectedKey>("player_collected_key");
    app.fact::<MonsterMoved>("monster_moved").fact::<MonsterThrewFireball>("monster_threw_fireball");
    app.fact::<FireballMoved>("fireball_moved");
    app.fact::<LevelWon>("level_won").fact::<LevelLost>("level_lost");
}
