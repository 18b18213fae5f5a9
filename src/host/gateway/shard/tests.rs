use super::*;
use crate::net::MemoryNetwork;

#[test]
fn nothing_is_kept_of_those_who_came_and_left() {
    let bind = SocketAddr::from(([10, 0, 0, 1], 5_000));
    let (access, limits) = (Access::Anybody, GatewayLimits::default());
    let config = ShardConfig { bind, public_addresses: Vec::new(), access, limits };
    let mut shard = Shard::over(Box::new(MemoryNetwork::new().bind(bind).unwrap()), &config, Duration::ZERO).unwrap();
    for id in 0..9 {
        shard.renet.add_connection(id);
        shard.renet.remove_connection(id);
    }
    shard.receive(Duration::from_millis(50), 1);
    assert!(shard.renet.get_event().is_none());
}
