//! A client that predicts: its player answers at once, and what is shown is what the room says later, unless somebody else had a hand in it.

use std::collections::BTreeMap;

use crate::foreseen::{assert_clean, bad_link, id, predicted};
use crate::seen::{rooms, shown};
use bevy_app::prelude::*;
use bevy_ecs::prelude::*;
use roomkeeper::client::{Issue, Replica};
use roomkeeper::predict::PredictAppExt;
use roomkeeper::prelude::*;
use roomkeeper::room::{PredictedUpdate, RoomInfo, RoomRng};
use roomkeeper::sim::{LinkConditions, Sim};
use serde::{Deserialize, Serialize};

#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
struct Place(f32);
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
struct Steps(u32);
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
struct Wall(f32);
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
struct Rounds(i32);
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
struct Arrow(EntityId);
#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
struct Speed(f32);

impl Quantity for Rounds {
    type Amount = i32;
    fn amount(&self) -> i32 {
        self.0
    }
    fn set_amount(&mut self, amount: i32) {
        self.0 = amount;
    }
}

#[derive(Serialize, Deserialize)]
struct Step(f32);
#[derive(Serialize, Deserialize)]
struct Shoot {
    ttl: u32,
}
#[derive(Serialize, Deserialize)]
struct Shove {
    who: EntityId,
    by: f32,
}
#[derive(Serialize, Deserialize)]
struct Stumble;

#[derive(Clone, Serialize, Deserialize)]
struct Stepped {
    who: EntityId,
    to: f32,
}
#[derive(Clone, Serialize, Deserialize)]
struct Shot {
    who: EntityId,
    arrow: EntityId,
    ttl: u32,
}
#[derive(Clone, Serialize, Deserialize)]
struct Shoved {
    who: EntityId,
    by: f32,
}
#[derive(Clone, Serialize, Deserialize)]
struct Stumbled;

fn yard_protocol(app: &mut App) {
    app.sync::<Place>("place").latest();
    app.sync::<Rounds>("rounds").quantity();
    app.sync::<Steps>("steps");
    app.sync::<Wall>("wall");
    app.sync::<Arrow>("arrow");
    app.sync::<Speed>("speed");
    app.sync::<Ttl>("ttl");
    app.command::<Step>("step").command::<Shoot>("shoot").command::<Shove>("shove").command::<Stumble>("stumble");
    app.fact::<Stepped>("stepped").fact::<Shot>("shot").fact::<Shoved>("shoved").fact::<Stumbled>("stumbled");
}

fn yard_rules(app: &mut App) {
    app.apply(|joined: On<Happened<UserJoined>>, mut commands: Commands| {
        commands.spawn((joined.user, Place(0.0), Steps(0), Rounds(10)));
    });
    app.decide(|step: In<Issued<Step>>, places: Query<&Place, With<Steps>>, walls: Query<&Wall>| -> Decision {
        let to = places.get(step.author)?.0 + step.command.0;
        if walls.iter().any(|wall| to > wall.0) {
            return reject("wall");
        }
        accept(Stepped { who: step.author_id, to })
    });
    app.apply(|stepped: On<Happened<Stepped>>, index: Res<EntityIndex>, mut walkers: Query<(&mut Place, &mut Steps)>| {
        let Some((mut place, mut steps)) = index.entity(stepped.who).and_then(|who| walkers.get_mut(who).ok()) else { return };
        place.0 = stepped.to;
        steps.0 += 1;
    });
    app.decide(|shoot: In<Issued<Shoot>>, rounds: Query<&Rounds>| -> Decision {
        if rounds.get(shoot.author)?.0 == 0 {
            return reject("empty");
        }
        accept(Shot { who: shoot.author_id, arrow: shoot.new_id(0), ttl: shoot.ttl })
    });
    app.apply(
        |shot: On<Happened<Shot>>, index: Res<EntityIndex>, places: Query<&Place>, mut rounds: Patch<Rounds>, mut commands: Commands| {
            let Some(who) = index.entity(shot.who) else { return };
            rounds.dec_min(who, 1, 0);
            let from = places.get(who).map_or(0.0, |place| place.0);
            commands.spawn((shot.arrow, Place(from), Arrow(shot.who), Speed(1.0), Ttl::millis(shot.ttl)));
        },
    );
    app.may_name_others::<Shove>();
    app.decide(|shove: In<Issued<Shove>>| -> Decision { accept(Shoved { who: shove.who, by: shove.by }) });
    app.apply(|shoved: On<Happened<Shoved>>, index: Res<EntityIndex>, mut places: Query<&mut Place>| {
        if let Some(mut place) = index.entity(shoved.who).and_then(|who| places.get_mut(who).ok()) {
            place.0 += shoved.by;
        }
    });
    app.decide(|_: In<Issued<Stumble>>| -> Decision { accept(Stumbled) });
    app.apply(|_: On<Happened<Stumbled>>, info: Res<RoomInfo>| assert!(info.seed != 0, "only the room's seed is known here"));
    app.add_systems(FixedUpdate, fly).add_systems(PredictedUpdate, fly);
}

fn fly(mut arrows: Query<(&mut Place, &Speed), With<Arrow>>) {
    for (mut place, speed) in &mut arrows {
        place.0 += speed.0;
    }
}

fn sim(seed: u64, link: LinkConditions) -> Sim {
    Sim::new(yard_protocol, yard_rules).seed(seed).link(link).predicting()
}

#[test]
fn the_own_player_answers_in_the_same_tick_of_the_client_and_never_jumps_back_whatever_the_link_loses() {
    for (seed, loss) in [(1, 0.02), (2, 0.02), (3, 0.1), (4, 0.2), (5, 0.2)] {
        let mut sim = sim(seed, LinkConditions { loss, ..bad_link() }).client("ann");
        for n in 1..=300_u32 {
            sim.issue("ann", &Step(1.0)).tick();
            assert_eq!(shown::<Place>(&sim, "ann", id("ann")), Some(Place(n as f32)), "seed {seed}, after step {n}");
            assert_eq!(shown::<Steps>(&sim, "ann", id("ann")), Some(Steps(n)), "seed {seed}, after step {n}");
        }
        sim.settle();
        let prediction = sim.client_of("ann").prediction().clone();
        assert_eq!((prediction.confirmed, prediction.corrected, prediction.pending), (300, 0, 0), "seed {seed}: {prediction:?}");
        assert_clean(&mut sim, 1);
        assert_eq!(shown::<Place>(&sim, "ann", id("ann")), Some(Place(300.0)));
    }
}

#[test]
fn a_command_that_is_issued_in_update_shows_at_the_end_of_the_same_update() {
    let mut sim = sim(1, bad_link()).client("ann");
    sim.client_mut("ann").app_mut().add_systems(Update, |mut issue: Issue| -> Result { Ok(issue.send(&Step(1.0)).map(drop)?) });
    for n in 1..=60 {
        sim.tick();
        assert_eq!(shown::<Steps>(&sim, "ann", id("ann")), Some(Steps(n)));
    }
}

#[test]
fn over_a_link_without_delay_nothing_is_ever_corrected_or_shown_otherwise_than_the_room_has_it() {
    let mut sim = sim(3, LinkConditions::PERFECT).client("ann").client("bob");
    for n in 1..=100 {
        sim.issue("ann", &Step(1.0)).issue("bob", &Step(0.5)).tick();
        assert_eq!(shown::<Place>(&sim, "ann", id("ann")), rooms(&sim, id("ann")), "{n}");
        assert_eq!(shown::<Place>(&sim, "ann", id("bob")), rooms(&sim, id("bob")), "{n}");
    }
    assert_eq!(sim.client_of("ann").prediction().corrected + sim.client_of("bob").prediction().corrected, 0);
    assert_clean(&mut sim, 2);
}

#[test]
fn an_arrow_flies_at_once_and_goes_on_as_the_same_entity_told_once() {
    for seed in 1..=4 {
        let mut sim = sim(seed, bad_link()).client("ann").client("bob");
        sim.issue("ann", &Step(1.0)).run_ticks(20);
        let (mut entities, mut places) = (BTreeMap::new(), BTreeMap::new());
        for n in 0..120 {
            if n % 24 == 0 {
                sim.issue("ann", &Shoot { ttl: if n == 24 { 100 } else { 900 } });
            }
            sim.tick();
            if n % 24 == 0 {
                assert_eq!(predicted(&mut sim, "ann"), 1, "it is there at once");
                assert_eq!(shown::<Rounds>(&sim, "ann", id("ann")), Some(Rounds(10 - 1 - n / 24)), "and paid for");
            }
            let world = sim.client_mut("ann").world_mut();
            for (entity, id, place) in world.query_filtered::<(Entity, &EntityId, &Place), With<Arrow>>().iter(world) {
                assert_eq!(*entities.entry(*id).or_insert(entity), entity, "the same entity all the way");
                let last = places.insert(*id, place.0).unwrap_or(f32::MIN);
                assert!(place.0 >= last, "seed {seed}: it flew back from {last} to {}", place.0);
            }
        }
        assert_eq!(entities.len(), 5);
        let told = sim.client_of("ann").told();
        assert!(entities.keys().all(|arrow| told.added.iter().filter(|added| *added == arrow).count() == 1));
        assert!(entities.keys().all(|arrow| told.removed.iter().filter(|removed| *removed == arrow).count() == 1));
        assert_eq!(sim.client_of("ann").prediction().corrected, 0, "seed {seed}: {:?}", sim.client_of("ann").told().mispredicted);
        assert_clean(&mut sim, 2);
    }
}

#[test]
fn what_the_room_rejects_leaves_nothing_and_what_the_prediction_rejects_shows_nothing_but_is_sent() {
    let mut sim = sim(5, bad_link()).client("ann");
    sim.issue("ann", &Step(1.0)).run_ticks(20);
    // The client can't know yet that the gun is empty.
    sim.give("ann", Rounds(0)).issue("ann", &Shoot { ttl: 900 }).tick();
    assert_eq!(predicted(&mut sim, "ann"), 1);
    let arrow = *sim.client_of("ann").told().added.last().unwrap();
    sim.run_ticks(20);
    assert_eq!(sim.rejections("ann"), ["empty"]);
    assert_eq!(sim.client_of("ann").told().removed, [arrow]);
    // That the gun was empty came before the answer: the command was predicted again, and rejected.
    assert_eq!((sim.client_of("ann").prediction().rejected, sim.client_of("ann").prediction().revised), ((1, 1), 1));
    assert_eq!(shown::<Rounds>(&sim, "ann", id("ann")), Some(Rounds(0)));
    // Now it does; meanwhile the room has filled it again.
    sim.give("ann", Rounds(3)).issue("ann", &Shoot { ttl: 300 }).tick();
    assert_eq!(predicted(&mut sim, "ann"), 0);
    sim.run_ticks(20);
    assert_eq!((sim.rejections("ann").len(), sim.facts_of::<Shot>().len()), (1, 1), "the room decides");
    assert_eq!(sim.client_of("ann").told().added.last(), Some(&sim.facts_of::<Shot>()[0].arrow));
    assert_clean(&mut sim, 1);
}

#[test]
fn what_another_player_does_is_the_only_cause_of_corrections() {
    let mut corrections = 0;
    for seed in 1..=4 {
        let mut sim = sim(seed, bad_link()).client("ann").client("bob");
        let mut chance = RoomRng::new(seed);
        for n in 0..800 {
            match chance.range(0..10) {
                0..7 => {
                    sim.issue("ann", &Step(chance.unit_f32() - 0.5));
                }
                7 => {
                    sim.issue("ann", &Shoot { ttl: 500 });
                }
                _ => {}
            }
            if n % 100 == 50 {
                sim.issue("bob", &Shove { who: id("ann"), by: 3.0 });
            }
            sim.tick();
        }
        sim.settle();
        let acts: Vec<u32> = sim.ledger().iter().filter(|fact| &*fact.name == "shoved").map(|fact| fact.tick.0).collect();
        assert_eq!(acts.len(), 8);
        let ann = sim.client_of("ann");
        for wrong in &ann.told().mispredicted {
            // From the act to the client and, for what was sent meanwhile, back again, each with what is lost on the way.
            let caused = acts.iter().any(|act| (*act..act + 20).contains(&wrong.tick.0));
            assert!(caused, "seed {seed}: {wrong:?}, but {acts:?}");
            assert_eq!(wrong.component.as_deref(), Some("place"));
        }
        let prediction = ann.prediction();
        assert_eq!(prediction.rejected.0, prediction.rejected.1, "seed {seed}: all rejections are foreseen");
        corrections += prediction.corrected;
        assert_clean(&mut sim, 2);
    }
    assert!(corrections > 0, "a shove is no surprise?");
}

#[test]
fn small_corrections_fade_and_large_ones_snap() {
    for (by, fades) in [(1.5, true), (40.0, false)] {
        let mut sim = sim(2, LinkConditions { delay_millis: 75, ..LinkConditions::PERFECT }).client("ann").client("bob");
        sim.client_mut("ann").app_mut().predict_smoothly::<Place>(
            |at, from, to, share| Place(at.0 + (to.0 - from.0) * share),
            |a, b| (a.0 - b.0).abs(),
            10.0,
        );
        let (mut last, mut most) = (0.0, 0.0_f32);
        for n in 0..80 {
            if n == 40 {
                sim.issue("bob", &Shove { who: id("ann"), by });
            }
            sim.issue("ann", &Step(0.1)).tick();
            let Place(now) = shown(&sim, "ann", id("ann")).unwrap();
            most = most.max(now - last);
            assert!(now > last, "it never moves back");
            last = now;
        }
        assert_eq!(most < by * 0.6 + 0.2, fades, "{most} at once");
        for _ in 0..20 {
            sim.tick();
        }
        let (Place(there), Place(here)) = (rooms(&sim, id("ann")).unwrap(), shown(&sim, "ann", id("ann")).unwrap());
        assert_eq!(there, here);
        assert_clean(&mut sim, 2);
    }
}

#[test]
fn a_replica_is_put_right_in_the_middle_and_the_prediction_goes_on() {
    let mut sim = sim(6, bad_link()).client("ann").client("bob");
    for n in 1..=200_u32 {
        if n == 80 {
            // Something in the client spoils the replica: the next hash tells, and a snapshot comes.
            let bob = sim.client_of("ann").world().resource::<Replica>().entity(id("bob")).unwrap();
            sim.client_mut("ann").world_mut().get_mut::<Rounds>(bob).unwrap().0 = 77;
        }
        sim.issue("ann", &Step(1.0)).issue("bob", &Step(0.5)).tick();
        assert_eq!(shown::<Steps>(&sim, "ann", id("ann")), Some(Steps(n)), "after step {n}");
    }
    let told = sim.client_of("ann").told();
    assert!(told.diverged.iter().any(|diverged| diverged.id == id("bob") && diverged.ours == Some(77.into())));
    // The others have gone on since; nothing that was predicted is among what the replica had.
    let of = |value: &Option<serde_json::Value>| value.as_ref().and_then(serde_json::Value::as_f64).unwrap_or_default();
    assert!(told.diverged.iter().filter(|diverged| diverged.id == id("ann")).all(|diverged| of(&diverged.ours) <= of(&diverged.theirs)));
    sim.settle();
    let ann = sim.client_of("ann");
    assert_eq!((ann.prediction().corrected, ann.prediction().confirmed), (0, 200));
    assert_eq!(sim.client_state("ann").entities(), sim.room_state().entities());
}

#[test]
fn whoever_is_cut_off_and_comes_back_predicts_again() {
    let mut sim = sim(7, bad_link()).client("ann").client("bob");
    for away in [5, 130] {
        for _ in 0..40 {
            sim.issue("ann", &Step(1.0)).tick();
        }
        sim.issue("ann", &Shoot { ttl: 2_000 }).tick();
        sim.vanish("ann").run_ticks(away).reconnect("ann", false);
        sim.tick_while(|sim| !sim.client_of("ann").is_live());
        sim.settle();
        let Steps(steps) = shown(&sim, "ann", id("ann")).unwrap();
        assert_eq!(Some(Steps(steps)), rooms(&sim, id("ann")));
        for n in 1..=40 {
            sim.issue("ann", &Step(1.0)).tick();
            assert_eq!(shown::<Steps>(&sim, "ann", id("ann")), Some(Steps(steps + n)), "{n} after the return");
        }
        sim.run_ticks(60).settle();
        assert_eq!(predicted(&mut sim, "ann"), 0);
        assert_eq!(sim.assert_converged(), 2);
        let prediction = sim.client_of("ann").prediction();
        let told = sim.client_of("ann").told();
        assert_eq!(prediction.pending, 0, "{prediction:?}, {} accepted, {} rejected", told.accepted.len(), told.rejected.len());
    }
}

#[test]
fn rules_that_panic_in_the_prediction_end_it_and_not_the_client() {
    let mut sim = sim(8, bad_link()).client("ann");
    sim.issue("ann", &Step(1.0)).tick();
    sim.issue("ann", &Shoot { ttl: 2_000 }).tick();
    assert_eq!(predicted(&mut sim, "ann"), 1);
    sim.issue("ann", &Stumble).tick();
    let off = sim.client_of("ann").prediction().off.clone().unwrap();
    assert!(off.contains("only the room's seed is known here"), "{off}");
    assert_eq!((predicted(&mut sim, "ann"), shown::<Steps>(&sim, "ann", id("ann"))), (0, Some(Steps(0))), "what was shown is taken back");
    sim.issue("ann", &Step(1.0)).run_ticks(80).settle();
    assert_eq!(sim.assert_converged(), 1);
    assert_eq!(shown::<Steps>(&sim, "ann", id("ann")), Some(Steps(2)), "the room goes on, and so does the replica");
}

#[test]
fn after_a_panic_the_prediction_begins_anew_when_the_client_joins_again() {
    let mut sim = sim(8, bad_link()).client("ann");
    sim.issue("ann", &Stumble).issue("ann", &Step(1.0)).tick();
    assert!(sim.client_of("ann").prediction().off.is_some());
    sim.run_ticks(20).vanish("ann").run_ticks(5).reconnect("ann", false);
    sim.tick_while(|sim| !sim.client_of("ann").is_live());
    let Steps(steps) = shown(&sim, "ann", id("ann")).unwrap();
    for n in 1..=20 {
        sim.issue("ann", &Step(1.0)).tick();
        assert_eq!(shown(&sim, "ann", id("ann")), Some(Steps(steps + n)), "{n} after the return");
    }
    assert_clean(&mut sim, 1);
}

#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug)]
struct Aims {
    #[entities]
    at: Entity,
}
#[derive(Serialize, Deserialize)]
struct Post;
#[derive(Clone, Serialize, Deserialize)]
struct Posted {
    mark: EntityId,
    archer: EntityId,
}

fn archery_protocol(app: &mut App) {
    app.sync::<Place>("place");
    app.sync_mapped::<Aims>("aims");
    app.command::<Post>("post").fact::<Posted>("posted");
}

fn archery_rules(app: &mut App) {
    app.decide(|post: In<Issued<Post>>| -> Decision { accept(Posted { mark: post.new_id(0), archer: post.new_id(1) }) });
    app.apply(|posted: On<Happened<Posted>>, mut commands: Commands| {
        let at = commands.spawn((posted.mark, Place(1.0))).id();
        commands.spawn((posted.archer, Aims { at }));
    });
}

#[test]
fn what_a_command_creates_may_refer_to_what_it_creates_too() {
    for check in [false, true] {
        let link = LinkConditions { delay_millis: 75, ..LinkConditions::PERFECT };
        let sim = Sim::new(archery_protocol, archery_rules).link(link).predicting();
        let mut sim = sim.options(|options| options.check = check).client("ann");
        for nth in 0..10 {
            sim.issue("ann", &Post).tick();
            assert_eq!(sim.client_of("ann").prediction().off, None, "after command {nth}");
            let world = sim.client_mut("ann").world_mut();
            let aims: Vec<Entity> = world.query::<&Aims>().iter(world).map(|aims| aims.at).collect();
            assert_eq!(aims.len(), nth + 1, "they are there at once");
            assert!(aims.iter().all(|at| world.get::<Place>(*at).is_some()), "after command {nth}");
        }
        assert_clean(&mut sim, 1);
        let world = sim.client_mut("ann").world_mut();
        assert_eq!(world.query_filtered::<(), With<Aims>>().iter(world).count(), 10);
        assert_eq!(world.query_filtered::<(), With<Place>>().iter(world).count(), 10);
    }
}

#[derive(Component, Serialize, Deserialize, Clone, Copy, Debug)]
struct Lever(bool);
#[derive(Serialize, Deserialize)]
struct Pull;
#[derive(Clone, Serialize, Deserialize)]
struct Pulled(EntityId);
/// What the room alone knows: what is pulled goes twice as far.
#[derive(Resource)]
struct Oil;

fn lever_protocol(app: &mut App) {
    app.sync::<Steps>("steps");
    app.sync::<Lever>("lever");
    app.command::<Pull>("pull").fact::<Pulled>("pulled");
}

fn lever_rules(app: &mut App) {
    app.decide(|_: In<Issued<Pull>>, levers: Query<&Lever>| -> Decision {
        accept(Pulled(id(if levers.iter().any(|lever| lever.0) { "upper" } else { "lower" })))
    });
    app.apply(|pulled: On<Happened<Pulled>>, index: Res<EntityIndex>, oil: Option<Res<Oil>>, mut steps: Query<&mut Steps>| {
        if let Some(mut steps) = index.entity(pulled.0).and_then(|what| steps.get_mut(what).ok()) {
            steps.0 += if oil.is_some() { 2 } else { 1 };
        }
    });
}

#[test]
fn a_command_that_does_something_else_when_it_is_predicted_again_is_compared_by_that() {
    let link = LinkConditions { delay_millis: 100, ..LinkConditions::PERFECT };
    let mut sim = Sim::new(lever_protocol, lever_rules).link(link).predicting();
    let world = sim.room_mut().world_mut();
    world.spawn((id("upper"), Steps(0)));
    world.spawn((id("lower"), Steps(0)));
    let lever = world.spawn((id("lever"), Lever(false))).id();
    world.insert_resource(Oil);
    let mut sim = sim.client("ann");
    sim.run_ticks(20);
    // The lever goes up, of which the client does not know yet when it pulls.
    sim.room_mut().world_mut().get_mut::<Lever>(lever).unwrap().0 = true;
    sim.tick();
    sim.issue("ann", &Pull).tick();
    let both = |sim: &Sim| (shown::<Steps>(sim, "ann", id("upper")), shown::<Steps>(sim, "ann", id("lower")));
    assert_eq!(both(&sim), (Some(Steps(0)), Some(Steps(1))));
    sim.tick();
    assert_eq!(both(&sim), (Some(Steps(1)), Some(Steps(0))), "it knows now");
    assert_clean(&mut sim, 1);
    assert_eq!((rooms::<Steps>(&sim, id("upper")), rooms::<Steps>(&sim, id("lower"))), (Some(Steps(2)), Some(Steps(0))));
    let told = sim.client_of("ann").told();
    let is_told = told.mispredicted.iter().any(|wrong| wrong.id == id("upper") && wrong.component.as_deref() == Some("steps"));
    assert!(is_told, "{:?}", told.mispredicted);
}

#[test]
fn at_most_so_many_commands_are_predicted_and_the_others_are_sent() {
    let mut sim = sim(9, LinkConditions { delay_millis: 225, ..LinkConditions::PERFECT }).client("ann");
    for _ in 0..9 {
        for _ in 0..32 {
            sim.issue("ann", &Step(1.0));
        }
        sim.tick();
    }
    let prediction = sim.client_of("ann").prediction();
    assert_eq!((prediction.pending, prediction.unpredicted), (256, 32));
    assert_eq!(shown::<Steps>(&sim, "ann", id("ann")), Some(Steps(256)));
    sim.run_ticks(120);
    assert_eq!(shown::<Steps>(&sim, "ann", id("ann")), Some(Steps(288)));
    let prediction = sim.client_of("ann").prediction();
    let told = sim.client_of("ann").told();
    assert_eq!(prediction.pending, 0, "{prediction:?}, {} accepted, {} rejected", told.accepted.len(), told.rejected.len());
    assert_eq!(sim.client_state("ann").entities(), sim.room_state().entities());
}
