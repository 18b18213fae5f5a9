//! The rules, tried without a network and without a clock.

use orchard::protocol::{Apples, Basket, Head, Pick, Position, protocol};
use orchard::rules::rules;
use orchard::view::view;
use roomkeeper::cli::Eyes;
use roomkeeper::prelude::*;
use roomkeeper::sim::Sim;

#[test]
fn of_two_who_reach_for_the_last_apple_one_gets_it() {
    let mut sim = Sim::new(protocol, rules).client("ann").client("bob");
    sim.give("ann", Position([4.0, 0.0])).give("bob", Position([4.0, 2.0]));
    let tree = sim.room().entity(EntityId::named("tree0")).expect("a tree");
    sim.room_mut().world_mut().entity_mut(tree).insert(Apples(1));
    sim.issue("ann", &Pick).issue("bob", &Pick).run_ticks(3);
    assert_eq!(sim.facts(), ["picked"]);
    assert_eq!([sim.rejections("ann"), sim.rejections("bob")].concat(), ["none_ripe"]);
    assert_eq!(sim.assert_converged(), 2);
}

#[test]
fn who_walks_sees_it_at_once_however_far_the_server_is() {
    let mut sim = Sim::new(protocol, rules).link("rtt=150ms".parse().expect("a link")).predicting().client("ann");
    sim.issue("ann", &Head([1.0, 0.0])).run_ticks(2);
    let world = sim.client_mut("ann").world_mut();
    let (_, at) = world.query::<(&Basket, &Position)>().single(world).expect("ann sees herself");
    assert!(at.0[0] > 0.0, "{:?}", at.0);
    sim.run_ticks(20).issue("ann", &Head([0.0, 0.0])).run_ticks(5).settle();
    assert_eq!(sim.assert_converged(), 1);
}

#[test]
fn the_terminal_shows_who_carries_what() {
    let mut sim = Sim::new(protocol, rules).client("ann");
    sim.run_ticks(2);
    let eyes = Eyes { of: sim.client_of("ann").player(), tick: 2 };
    let picture = (view().draw)(sim.client_mut("ann").world_mut(), &eyes);
    assert_eq!(picture.focus, Some([0.0, 0.0]));
    assert_eq!(picture.facts, [("ann".to_owned(), "0 apples".to_owned())]);
}
