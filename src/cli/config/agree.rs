//! What values must have to do with each other.

use super::keys::nearest;
use super::load::{ConfigError, Loaded, Origin};
use super::settings::Config;
use crate::host::gateway::{CLIENTS_MAX, threads_for};
use crate::room::Level;
use crate::store::names_postgres;

/// Finds what does not go together, and lets follow what follows. Of values that could not be read nothing is said.
pub(super) fn agree(loaded: &mut Loaded, unread: &[String], wrong: &mut Vec<ConfigError>) {
    let unread = |path: &str| unread.iter().any(|unread| unread == path);
    access(loaded, &unread, wrong);
    reach(loaded, &unread, wrong);
    gateway(loaded, &unread, wrong);
    looking(loaded, &unread, wrong);
    keeping(loaded, &unread, wrong);
    sharing(loaded, &unread, wrong);
    publishing(loaded, &unread, wrong);
    rooms(loaded, wrong);
    templates(loaded, &unread, wrong);
}

/// What templates say has to do with what holds for all rooms.
fn templates(loaded: &Loaded, unread: &impl Fn(&str) -> bool, wrong: &mut Vec<ConfigError>) {
    for (name, template) in &loaded.config.templates {
        let path = format!("templates.{name}.delete_after");
        if template.delete_after.is_some() && loaded.config.store.data.is_none() && !unread("store.data") {
            let what = format!("{path}: rooms are not kept, so there is nothing to delete: store.data is wanted");
            wrong.push(ConfigError { origin: loaded.origin(&path), what });
        }
        let path = format!("templates.{name}.capacity");
        let most = loaded.config.limits.members_per_room_max;
        if let Some(capacity) = template.capacity.filter(|capacity| *capacity > most && !unread("limits.members_per_room_max")) {
            let what = format!(
                "{path} = {capacity}: at most limits.members_per_room_max is wanted, {most}, from {}",
                loaded.origin("limits.members_per_room_max")
            );
            wrong.push(ConfigError { origin: loaded.origin(&path), what });
        }
    }
}

/// Nobody is let in by mistake.
fn access(loaded: &Loaded, unread: &impl Fn(&str) -> bool, wrong: &mut Vec<ConfigError>) {
    let listen = &loaded.config.listen;
    if ["listen.bind", "listen.websocket", "listen.key", "listen.allow_unauthenticated"].into_iter().any(unread) {
        return;
    }
    match (&listen.key, listen.allow_unauthenticated) {
        (Some(_), true) => {
            let what = format!(
                "listen.allow_unauthenticated = true, but there is a listen.key, from {}: one of them is wanted",
                loaded.origin("listen.key")
            );
            wrong.push(ConfigError { origin: loaded.origin("listen.allow_unauthenticated"), what });
        }
        (None, false) => {
            let listens = [("listen.bind", Some(listen.bind)), ("listen.websocket", listen.websocket)];
            for (path, address) in listens.into_iter().filter_map(|(path, address)| Some((path, address?))) {
                if !address.ip().is_loopback() {
                    let what = format!(
                        "{path} = \"{address}\": it can be reached from outside, so listen.key is wanted, or listen.allow_unauthenticated = true"
                    );
                    wrong.push(ConfigError { origin: loaded.origin(path), what });
                }
            }
        }
        _ => {}
    }
}

/// True if the fleet tells where players reach this server, before it listens.
#[cfg(feature = "agones")]
fn is_told_by_a_fleet(config: &Config) -> bool {
    config.agones.port.or_else(crate::host::agones::sidecar_port).is_some()
}

#[cfg(not(feature = "agones"))]
fn is_told_by_a_fleet(_: &Config) -> bool {
    false
}

/// Where players reach it is known, if somebody is told so: tokens name the addresses for which they are good, and other servers send players on. An
/// address that stands for all of a machine's own is none that anybody can go to.
fn reach(loaded: &Loaded, unread: &impl Fn(&str) -> bool, wrong: &mut Vec<ConfigError>) {
    let (listen, share) = (&loaded.config.listen, &loaded.config.share);
    let is_known = !listen.bind.ip().is_unspecified() || !listen.public_addresses.is_empty() || is_told_by_a_fleet(&loaded.config);
    if is_known || ["listen.bind", "listen.public_addresses", "share.address"].into_iter().any(unread) {
        return;
    }
    let bind = format!("listen.bind = \"{}\"", listen.bind);
    if listen.key.is_some() {
        let what = format!(
            "{bind}: no token could name it, so listen.public_addresses is wanted, the addresses at which players reach this server, \
            since there is a listen.key, from {}",
            loaded.origin("listen.key")
        );
        wrong.push(ConfigError { origin: loaded.origin("listen.bind"), what });
    }
    if share.host.is_some() && share.address.is_none() {
        let what = format!(
            "{bind}: nobody could be sent to it by other servers, so share.address or listen.public_addresses is wanted, \
            since there is a share.host, from {}",
            loaded.origin("share.host")
        );
        wrong.push(ConfigError { origin: loaded.origin("listen.bind"), what });
    }
}

/// The gateway's threads can hold as many as may come. What nobody said of that follows from how many threads there are, and how many each may have.
fn gateway(loaded: &mut Loaded, unread: &impl Fn(&str) -> bool, wrong: &mut Vec<ConfigError>) {
    if ["listen.gateway_threads", "limits.sessions_max", "limits.clients_max"].into_iter().any(unread) {
        return;
    }
    let (sessions, each) = (loaded.config.limits.sessions_max, loaded.config.gateway.clients_max.min(CLIENTS_MAX));
    let threads_of = |sessions| match loaded.config.listen.gateway_threads {
        0 => threads_for(sessions),
        threads => threads.into(),
    };
    let mut most = sessions;
    // Where fewer sessions get fewer threads, those have to hold them in turn.
    while most > threads_of(most) * each {
        most = threads_of(most) * each;
    }
    if sessions <= most {
        return;
    }
    let (origin, threads) = (loaded.origin("limits.sessions_max"), threads_of(most));
    let because = ["limits.clients_max", "listen.gateway_threads"].map(|path| loaded.origin(path));
    let because: Vec<Origin> = because.into_iter().filter(|origin| *origin != Origin::Default).collect();
    if origin == Origin::Default {
        loaded.config.limits.sessions_max = most;
        loaded.origins.extend(because.into_iter().next().map(|because| ("limits.sessions_max".to_owned(), because)));
        return;
    }
    let because: Vec<String> = because.iter().map(Origin::to_string).collect();
    let because = if because.is_empty() { String::new() } else { format!(", from {}", because.join(" and ")) };
    let what = format!(
        "limits.sessions_max = {sessions}: at most {most} is wanted, limits.clients_max, {each}, for each of {threads} threads of the gateway{because}"
    );
    wrong.push(ConfigError { origin, what });
}

/// Nobody looks in by mistake, and no key is for nothing.
fn looking(loaded: &Loaded, unread: &impl Fn(&str) -> bool, wrong: &mut Vec<ConfigError>) {
    if ["admin.bind", "admin.key", "admin.token_key", "listen.key"].into_iter().any(unread) {
        return;
    }
    let (admin, key) = (&loaded.config.admin, &loaded.config.listen.key);
    let mut say = |path: &str, what: String| wrong.push(ConfigError { origin: loaded.origin(path), what });
    let Some(bind) = admin.bind else {
        for (path, _) in [("admin.key", &admin.key), ("admin.token_key", &admin.token_key)].iter().filter(|(_, key)| key.is_some()) {
            say(path, format!("{path}: there is no admin server that it could let in to, so admin.bind is wanted"));
        }
        return;
    };
    if admin.key.is_none() && !bind.ip().is_loopback() {
        say("admin.bind", format!("admin.bind = \"{bind}\": it can be reached from outside, so admin.key is wanted"));
    }
    if admin.token_key.is_some() && key.is_none() {
        say("admin.token_key", "admin.token_key: there is no key to make tokens with, so listen.key is wanted".to_owned());
    }
}

fn keeping(loaded: &mut Loaded, unread: &impl Fn(&str) -> bool, wrong: &mut Vec<ConfigError>) {
    let store = &loaded.config.store;
    if store.data.is_none() && !unread("store.data") {
        for name in ["survives", "seal_always", "buffer"] {
            // In a file it may stand ready; on a command line it was meant.
            if let origin @ Origin::Flag(_) = loaded.origin(&format!("store.{name}")) {
                wrong.push(ConfigError { origin, what: "nothing is kept: a folder is wanted, by --data or store.data".to_owned() });
            }
        }
    }
    if !store.seal_always {
        return;
    }
    let rows = [("store.seal_every_flushes", store.writer.seal_every), ("store.components_every_ticks", store.writer.components_every)];
    for (path, value) in rows {
        if let (origin, true) = (loaded.origin(path), value != 1)
            && origin != Origin::Default
        {
            wrong.push(ConfigError {
                origin,
                what: format!("{path} = {value}: 1 is wanted, since store.seal_always = true, from {}", loaded.origin("store.seal_always")),
            });
        }
    }
    for (path, _) in rows.into_iter().filter(|(_, value)| *value != 1) {
        loaded.origins.insert(path.to_owned(), loaded.origin("store.seal_always"));
    }
    let writer = &mut loaded.config.store.writer;
    (writer.seal_every, writer.components_every) = (1, 1);
}

/// Rooms are shared by a database that all have.
fn sharing(loaded: &Loaded, unread: &impl Fn(&str) -> bool, wrong: &mut Vec<ConfigError>) {
    let config = &loaded.config;
    let is_database = config.store.data.as_ref().is_some_and(|data| names_postgres(data));
    if config.share.host.is_some() && !is_database && !unread("store.data") {
        let what = "share.host: rooms are shared by a database, so store.data = \"postgres://...\" is wanted".to_owned();
        wrong.push(ConfigError { origin: loaded.origin("share.host"), what });
    }
}

/// What is published is what is kept.
fn publishing(loaded: &Loaded, unread: &impl Fn(&str) -> bool, wrong: &mut Vec<ConfigError>) {
    if loaded.config.nats.url.is_some() && loaded.config.store.data.is_none() && !unread("store.data") {
        let what = "nats.url: what is published is what is kept, so a folder is wanted, by --data or store.data".to_owned();
        wrong.push(ConfigError { origin: loaded.origin("nats.url"), what });
    }
}

fn rooms(loaded: &Loaded, wrong: &mut Vec<ConfigError>) {
    let rooms = &loaded.config.rooms;
    for (at, room) in rooms.iter().enumerate() {
        let origin = loaded.origin(&format!("rooms[{at}].name"));
        if let Some(first) = rooms.iter().take(at).position(|other| other.name == room.name && !room.name.is_empty()) {
            let there = loaded.origin(&format!("rooms[{first}].name"));
            wrong.push(ConfigError {
                origin,
                what: format!("rooms[{at}].name = {:?}: another name is wanted, there is such a room, from {there}", room.name),
            });
        }
        if !loaded.config.templates.contains_key(&room.template) {
            let known = loaded.config.templates.keys().map(String::as_str);
            let hint = match nearest(&room.template, known.clone()) {
                Some(meant) => format!("did you mean {meant:?}?"),
                None => format!("there are {}", known.collect::<Vec<_>>().join(", ")),
            };
            let what = format!("rooms[{at}].template = {:?}: there is no such template; {hint}", room.template);
            wrong.push(ConfigError { origin: loaded.origin(&format!("rooms[{at}].template")), what });
        }
    }
    let most = loaded.config.limits.rooms_max;
    if rooms.len() > most {
        let what = format!("limits.rooms_max = {most}: {} rooms are to be opened", rooms.len());
        wrong.push(ConfigError { origin: loaded.origin("limits.rooms_max"), what });
    }
}

/// Finds levels that can't be read.
pub(super) fn levels(loaded: &Loaded) -> Vec<ConfigError> {
    let mut wrong = Vec::new();
    for (name, template) in &loaded.config.templates {
        let path = format!("templates.{name}.level");
        if let Some(Err(error)) = template.level.as_ref().map(Level::open) {
            wrong.push(ConfigError { origin: loaded.origin(&path), what: format!("{path}: {error}") });
        }
    }
    wrong
}
