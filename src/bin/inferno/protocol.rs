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
    app.sync::<Wall>("wall");
    app.sync::<Door>("door");
    app.sync::<DoorState>("door_state");
    app.sync::<DoorTimer>("door_timer");
    app.sync::<Lock>("lock");
    app.sync::<Key>("key");
    app.sync::<Item>("item");
    app.sync::<Visibility>("visibility");
    app.sync::<Exit>("exit");
    app.sync::<SpawnPoint>("spawn_point");
    app.sync::<Tag>("tag");
    app.sync::<Status>("status");
    app.sync_relationship::<OwnedBy>("owned_by");
}

fn creatures(app: &mut App) {
    app.sync::<Avatar>("avatar");
    // Who comes later, or looks at a moment of a match, is to know the names too.
    app.sync::<User>("user");
    app.sync::<Health>("health").quantity();
    app.sync::<Ammo>("ammo").quantity();
    app.sync::<Weapon>("weapon");
    app.sync::<Stride>("stride");
    app.sync::<Immunity>("immune_until");
    app.sync::<ReadyAt>("ready_at");
    app.sync::<Monster>("monster");
    app.sync::<MonsterState>("monster_state");
    app.sync::<Patrol>("patrol");
    app.sync::<Heading>("heading");
    app.sync::<PainUntil>("pain_until");
    app.sync::<Fireball>("fireball");
    app.sync::<FireballState>("fireball_state");
    app.sync::<Bullet>("bullet");
    app.sync::<Hindsight>("hindsight");
    app.sync::<BulletState>("bullet_state");
    app.sync::<Direction>("direction");
    app.sync::<Origin>("origin");
    app.sync::<roomkeeper::prelude::Ttl>("ttl");
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
