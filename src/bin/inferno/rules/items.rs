//! Items and what is in hand: `switch_weapon`, `player_switched_weapon` and the five `player_collected_...`.

use super::Actors;
use super::tuning::{AMMO_MAX, COLLECT_REACH, HEALTH_MAX, TICKS_PER_S, later};
use crate::commands::SwitchWeapon;
use crate::components::*;
use crate::facts::*;
use crate::map::distance;
use bevy_ecs::prelude::*;
use roomkeeper::prelude::{Decision, EntityId, EntityIndex, Happened, Issued, OwnedBy, Patch, Recorder, accept, reject};
use std::collections::BTreeSet;

/// Decides `switch_weapon`.
pub fn decide_switch_weapon(
    asked: In<Issued<SwitchWeapon>>,
    actors: Actors,
    in_hand: Query<&Weapon>,
    owned: Query<(&Weapon, &OwnedBy)>,
) -> Decision {
    actors.check(asked.author)?;
    let wanted = asked.weapon;
    let found = owned.iter().any(|(weapon, owner)| owner.0 == asked.author && weapon.0 == wanted);
    if in_hand.get(asked.author)?.0 == wanted {
        reject("already_in_hand")
    } else if matches!(wanted, WeaponKind::Fist | WeaponKind::Pistol) || found {
        accept(PlayerSwitchedWeapon { player: asked.author_id, weapon: wanted })
    } else {
        reject("not_owned")
    }
}

/// Hands each item that a player touches to the nearest one who has use for it. One item a player and tick, so that
/// the next is judged by what the first one did.
pub fn collect(
    items: Query<(&EntityId, &Position, &Item, Option<&Weapon>, Option<&Key>, Option<&Visibility>)>,
    players: Query<(Entity, &EntityId, &Position, &Health, &Ammo, &Status), With<Avatar>>,
    owned: Query<(&Weapon, &OwnedBy)>,
    mut record: Recorder,
) {
    let mut items: Vec<_> = items.iter().filter(|(.., seen)| seen.is_none_or(|seen| seen.0)).collect();
    items.sort_by_key(|(id, ..)| **id);
    let mut served = BTreeSet::new();
    for (item_id, at, item, weapon, key, _) in items {
        let has_use = |player: Entity, health: &Health, ammo: &Ammo| match item.kind {
            ItemKind::Health => health.0 < HEALTH_MAX,
            ItemKind::Ammo => ammo.0 < AMMO_MAX,
            ItemKind::Immunity => true,
            ItemKind::Key => key.is_some(),
            ItemKind::Weapon => weapon.is_some_and(|found| !owned.iter().any(|(has, owner)| owner.0 == player && has.0 == found.0)),
        };
        let near = players.iter().filter_map(|(player, id, stands, health, ammo, status)| {
            let far = distance(stands.0, at.0);
            let takes = far <= COLLECT_REACH && status.is(Status::ALIVE) && !served.contains(id);
            (takes && has_use(player, health, ammo)).then_some((far, *id))
        });
        let Some((_, player)) = near.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))) else { continue };
        served.insert(player);
        record_collected(&mut record, player, *item_id, item, weapon, key);
    }
}

fn record_collected(record: &mut Recorder, player: EntityId, item: EntityId, what: &Item, weapon: Option<&Weapon>, key: Option<&Key>) {
    let amount = what.amount.max(0);
    match (what.kind, weapon, key) {
        (ItemKind::Health, ..) => record.fact(PlayerCollectedHealth { player, item, amount }),
        (ItemKind::Ammo, ..) => record.fact(PlayerCollectedAmmo { player, item, amount }),
        (ItemKind::Immunity, ..) => {
            let for_ticks = (amount as f32 * TICKS_PER_S) as u32;
            record.fact(PlayerCollectedImmunity { player, item, for_ticks });
        }
        (ItemKind::Weapon, Some(weapon), _) => {
            record.fact(PlayerCollectedWeapon { player, item, weapon: weapon.0 });
        }
        (ItemKind::Key, _, Some(key)) => record.fact(PlayerCollectedKey { player, item, colour: key.0 }),
        // An item that lacks what it says it is; nobody can use it.
        (ItemKind::Weapon | ItemKind::Key, ..) => {}
    }
}

/// Applies `player_collected_weapon`: the weapon is hidden and owned.
pub fn own_weapon(got: On<Happened<PlayerCollectedWeapon>>, index: Res<EntityIndex>, items: Query<&mut Visibility>, commands: Commands) {
    own(got.player, got.item, &index, items, commands);
}

/// Applies `player_collected_key`: the key is hidden and owned.
pub fn own_key(got: On<Happened<PlayerCollectedKey>>, index: Res<EntityIndex>, items: Query<&mut Visibility>, commands: Commands) {
    own(got.player, got.item, &index, items, commands);
}

fn own(player: EntityId, item: EntityId, index: &EntityIndex, mut items: Query<&mut Visibility>, mut commands: Commands) {
    let (Some(player), Some(item)) = (index.entity(player), index.entity(item)) else { return };
    if let Ok(mut seen) = items.get_mut(item) {
        seen.set_if_neq(Visibility(false));
    }
    commands.entity(item).insert(OwnedBy(player));
}

/// Applies `player_collected_health`: the kit is gone, health grows up to its maximum.
pub fn heal(got: On<Happened<PlayerCollectedHealth>>, index: Res<EntityIndex>, mut health: Patch<Health>, mut commands: Commands) {
    let (Some(player), Some(item)) = (index.entity(got.player), index.entity(got.item)) else { return };
    health.inc_max(player, got.amount, HEALTH_MAX);
    commands.entity(item).despawn();
}

/// Applies `player_collected_ammo`: the box is gone, ammunition grows up to its maximum.
pub fn load(got: On<Happened<PlayerCollectedAmmo>>, index: Res<EntityIndex>, mut ammo: Patch<Ammo>, mut commands: Commands) {
    let (Some(player), Some(item)) = (index.entity(got.player), index.entity(got.item)) else { return };
    ammo.inc_max(player, got.amount, AMMO_MAX);
    commands.entity(item).despawn();
}

/// Applies `player_collected_immunity`: the item is gone, fireballs do no harm for a while from now.
pub fn shield(
    got: On<Happened<PlayerCollectedImmunity>>,
    index: Res<EntityIndex>,
    mut players: Query<&mut Immunity>,
    mut commands: Commands,
) {
    let (Some(player), Some(item)) = (index.entity(got.player), index.entity(got.item)) else { return };
    if let Ok(mut immunity) = players.get_mut(player) {
        // A weak one takes nothing from a strong one.
        immunity.until_tick = immunity.until_tick.max(later(got.tick, got.for_ticks));
    }
    commands.entity(item).despawn();
}

/// Applies `player_switched_weapon`.
pub fn take_in_hand(switched: On<Happened<PlayerSwitchedWeapon>>, index: Res<EntityIndex>, mut players: Query<&mut Weapon>) {
    if let Some(mut weapon) = index.entity(switched.player).and_then(|player| players.get_mut(player).ok()) {
        weapon.set_if_neq(Weapon(switched.weapon));
    }
}
