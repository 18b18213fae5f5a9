//! The page of the admin server, in a real browser, beside a match that bots play.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use roomkeeper::admin::{Admin, AdminOptions};
use roomkeeper::cli::Game;
use roomkeeper::host::gateway::{Access, GatewayLimits, ShardConfig};
use roomkeeper::host::{Host, HostOptions, Keeper};
use roomkeeper::protocol::{FactSeq, Protocol, RoomTick};
use roomkeeper::room::{Blueprint, Level, RoomOptions};
use roomkeeper::store::{Archive, MemoryStore, Store, WriterOptions};
use serde_json::Value;

use crate::browser::{Browser, program};
use crate::installed::if_there;
use crate::{bot, protocol, rules, story, view};

/// A host of a match and of a room in which nobody is, its admin server, and the bots, which are a process of their own.
struct Match {
    admin: Option<Admin>,
    store: MemoryStore,
    known: Arc<Protocol>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    bots: Child,
}

impl Match {
    fn start() -> Self {
        let bind = ([127, 0, 0, 1], 0).into();
        let config = ShardConfig { bind, public_addresses: Vec::new(), access: Access::Loopback, limits: GatewayLimits::default() };
        let mut host = Host::bind(&config, HostOptions::default()).unwrap();
        let store = MemoryStore::default();
        host.keep_by(Keeper::start(Box::new(store.clone()), WriterOptions::default()).unwrap());
        let blueprint = Blueprint::new(protocol::add, rules::add);
        let level = Level::open(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/levels/e1m1.json")).unwrap();
        for room in ["main", "second"] {
            host.open_room(&blueprint, RoomOptions { level: Some(level.clone()), notes: true, ..RoomOptions::named(room) }).unwrap();
        }
        let kinds = ["monster", "avatar", "item", "door", "fireball", "bullet", "wall"];
        let game =
            Game::new("inferno", protocol::add, rules::add).bot(bot::brain).narrator(story::narrate).view(view::view()).kinds(&kinds);
        let reader = host.keeper().unwrap().reader().unwrap();
        let admin = Admin::start(AdminOptions::at(bind), game.admin(), host.handle(), Some(reader)).unwrap();
        let address = host.local_address().unwrap().to_string();
        let stop = Arc::new(AtomicBool::new(false));
        let stops = stop.clone();
        let thread = std::thread::spawn(move || {
            host.run(&stops, Duration::from_secs(5));
            host.stop_keeping();
        });
        let bots = Command::new(env!("CARGO_BIN_EXE_inferno"))
            .args(["bot", "--bots", "3", "--server", &address])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { admin: Some(admin), store, known: blueprint.protocol(), stop, thread: Some(thread), bots }
    }

    fn url(&self) -> String {
        format!("http://{}/", self.admin.as_ref().unwrap().address())
    }

    fn archive(&self) -> Archive {
        Archive::new(self.store.reader().unwrap(), self.known.clone())
    }

    fn state(&self, tick: u32) -> Value {
        self.archive().state_at("main", RoomTick(tick)).unwrap().to_json(&self.known).unwrap()
    }

    /// Waits for something that the ledger is to have.
    fn until<T>(&self, what: &str, find: impl Fn(&mut Archive) -> Option<T>) -> T {
        for _ in 0..600 {
            if let Some(found) = find(&mut self.archive()) {
                return found;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("{what}: not in a minute");
    }

    /// How often the admin server was asked for anything, before this.
    fn requests(&self) -> f64 {
        let mut stream = std::net::TcpStream::connect(self.admin.as_ref().unwrap().address()).unwrap();
        std::io::Write::write_all(&mut stream, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let text = std::io::read_to_string(stream).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("roomkeeper_admin_requests_total "));
        line.unwrap().parse().unwrap()
    }
}

impl Drop for Match {
    fn drop(&mut self) {
        let _ = self.bots.kill();
        let _ = self.bots.wait();
        drop(self.admin.take());
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "the host panicked");
    }
}

/// What the page shows of each entity, read from its text.
fn shown(browser: &mut Browser) -> BTreeMap<String, BTreeMap<String, Value>> {
    let said = browser.ask(
        "(async () => { const all = [...document.querySelectorAll('details.entity')]; all.forEach((item) => { item.open = true; }); \
         await new Promise((done) => setTimeout(done, 300)); \
         return all.map((item) => [item.dataset.entity, [...item.querySelectorAll('button.component')].map((row) => \
         [row.dataset.component, row.querySelector('code').textContent])]); })()",
    );
    let said: Vec<(String, Vec<(String, String)>)> = serde_json::from_value(said).unwrap();
    let components =
        |all: Vec<(String, String)>| all.into_iter().map(|(name, text)| (name, serde_json::from_str(&text).unwrap())).collect();
    said.into_iter().map(|(entity, all)| (entity, components(all))).collect()
}

/// The same but for how fractions are written: to a browser 1.0 is 1.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() || b.is_f64() => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b)),
        (Value::Object(a), Value::Object(b)) => a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| is_same(a, b))),
        (a, b) => a == b,
    }
}

/// Goes to a tick by the keyboard, and waits until the page is there with all that it shows.
fn go_to(browser: &mut Browser, tick: u32) {
    browser.ask("document.activeElement?.blur()");
    browser.strike("g");
    browser.ask("document.getElementById('go').select()");
    browser.write(&tick.to_string());
    browser.strike("Enter");
    browser.ask("document.activeElement?.blur()");
    browser.until(&format!("document.getElementById('stage').dataset.tick === '{tick}'"));
    browser.until(&format!("document.getElementById('entities').dataset.tick === '{tick}'"));
}

fn check_shown(browser: &mut Browser, played: &Match, tick: u32) {
    let (shown, stored) = (shown(browser), played.state(tick));
    let stored = stored.as_object().unwrap();
    assert_eq!(shown.keys().collect::<Vec<_>>(), stored.keys().collect::<Vec<_>>(), "the entities of tick {tick}");
    for (entity, components) in stored {
        for (component, value) in components.as_object().unwrap() {
            let there = &shown[entity][component];
            assert!(is_same(there, value), "tick {tick}, {entity}.{component}: the page shows {there}, the ledger has {value}");
        }
        assert_eq!(shown[entity].len(), components.as_object().unwrap().len());
    }
}

/// Plays on a screen that misses no picture, 60 of them a second: time stands only until pictures are here.
fn play_fast_on_an_even_screen(browser: &mut Browser, played: &Match) {
    played.until("there is something to play", |archive| archive.head("main").ok()?.filter(|head| head.tick.0 > 200));
    browser.ask("document.activeElement?.blur()");
    browser.ask(
        "(() => { window.paint = window.requestAnimationFrame.bind(window); let [seen, at] = [null, performance.now()]; \
         window.requestAnimationFrame = (then) => window.paint((now) => { if (now !== seen) [seen, at] = [now, at + 1000 / 60]; then(at); }); })()",
    );
    let choose = |browser: &mut Browser, speed: &str| {
        let set = "document.getElementById('speed')";
        browser.ask(&format!("{set}.value = '{speed}'; {set}.dispatchEvent(new Event('change'))"));
    };
    for speed in ["4", "16"] {
        go_to(browser, 20);
        choose(browser, speed);
        browser.strike(" ");
        browser.until("Number(document.getElementById('stage').dataset.tick) > 120");
    }
    go_to(browser, 20);
    browser.ask("window.requestAnimationFrame = window.paint");
    choose(browser, "1");
}

#[test]
fn an_operator_sees_a_live_match_goes_back_asks_why_and_resets_it_in_a_browser() {
    let Some(program) = if_there(program(), "Chromium", "chromium") else { return };
    let played = Match::start();
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("inspector");
    let _ = std::fs::create_dir_all(&folder);
    let mut browser = Browser::start(&program, &folder.join("browser"));
    browser.screen(1_440, 900, false, false);
    browser.open(&played.url());

    // Live: it is drawn, and goes on by itself.
    browser.until("Number(document.getElementById('map')?.dataset.shapes ?? 0) > 30");
    browser.until("document.querySelectorAll('details.entity').length > 30");
    browser.until("[...document.querySelectorAll('#follow option')].length === 4");
    let tick = browser.ask("Number(document.getElementById('stage').dataset.tick)").as_u64().unwrap();
    browser.until(&format!("Number(document.getElementById('stage').dataset.tick) > {}", tick + 20));
    browser.picture(&folder.join("live-light.png"));
    go_on_after_an_answer_that_broke_off(&mut browser);
    hold_what_is_live_by_space(&mut browser);
    stay_at_a_button_while_its_panel_is_looked_at_again(&mut browser);

    // Something that a player asked for, and what it changed.
    let (fact, change) = played.until("a command that changed something", |archive| {
        let facts = archive.facts("main", FactSeq(1), 10_000).ok()?;
        facts.into_iter().filter(|fact| fact.producer == "user" && fact.tick.0 > 60).find_map(|fact| {
            let change = archive.changes_of("main", fact.seq).ok()?.into_iter().find(|change| change.component != "position");
            Some((fact, change?))
        })
    });
    let then = fact.tick.0;
    go_to(&mut browser, then);
    check_shown(&mut browser, &played, then);
    browser.picture(&folder.join("past-light.png"));
    play_fast_on_an_even_screen(&mut browser, &played);
    go_to(&mut browser, then);

    // Why it has that value.
    let of = |attribute: &str, value: &str| format!("[data-{attribute}={}]", Value::from(value));
    let (entity, component) = (of("entity", &change.entity), of("component", &change.component));
    // What did not live yet at the ticks that were played is listed anew, closed.
    browser.ask(&format!("document.querySelector('details{entity}').open = true"));
    browser.until(&format!("document.querySelector('{entity} {component}') !== null"));
    browser.click(&format!("{entity} {component}"));
    browser.until("document.querySelector('#why ol.chain') !== null");
    let why = played.archive().why("main", &change.entity, &change.component, RoomTick(then)).unwrap().unwrap();
    assert_eq!(why.link.fact, Some(fact.seq));
    assert_eq!(browser.ask("document.querySelector('#why ol.chain').dataset.tick"), Value::from(why.link.tick.to_string()));
    let told = browser.ask("document.getElementById('why').textContent");
    let (command, author) = (&why.command.as_ref().unwrap().0, "bot");
    for word in [command.as_str(), author, fact.kind.as_str(), "asked for by a command"] {
        assert!(told.as_str().unwrap().contains(word), "{word} is not in {told}");
    }
    browser.picture(&folder.join("why-light.png"));

    // A tick on by a key, and the story of it.
    browser.ask("document.activeElement?.blur()");
    browser.strike("2");
    browser.strike(".");
    browser.until(&format!("document.getElementById('stage').dataset.tick === '{}'", then + 1));
    browser.until("document.querySelectorAll('#story li button').length > 2");
    assert!(browser.ask("document.getElementById('story').textContent").as_str().unwrap().contains("bot"));
    // By whom: what monsters and doors did, then all of it again.
    for (by, all) in [("system", "by system:"), ("user", "by user"), ("", "by ")] {
        browser.ask(&format!("by.value = '{by}'; by.dispatchEvent(new Event('change'))"));
        browser.until(&format!(
            "((all) => all.length > 1 && all.every((line) => line.title.includes('{all}')))([...document.querySelectorAll('#story li button')])"
        ));
        if by == "system" {
            browser.picture(&folder.join("story-by-systems.png"));
        }
    }

    // What is said no to is not done, and what is no number is not sent.
    go_to(&mut browser, then);
    say_no(&mut browser, then);

    // This moment is saved, and the scene is reset to it while the match goes on. Both ask first.
    go_back_and_save(&mut browser, &played, then);
    let reset = played.until("the reset", |archive| {
        let facts = archive.facts("main", FactSeq(1), 100_000).ok()?;
        facts.into_iter().find(|fact| fact.kind.contains("reset")).map(|fact| fact.tick.0)
    });
    browser.strike("1");
    played.until("the tick of the reset", |archive| archive.head("main").ok()?.filter(|head| head.tick.0 > reset));
    browser.until(&format!("Number(document.getElementById('stage').dataset.tick) > {reset}"));
    go_to(&mut browser, reset);
    check_shown(&mut browser, &played, reset);
    let (saved, now) = (played.state(then), shown(&mut browser));
    // A door on a timer goes by the tick alone, also in that of the reset.
    let is_open = |timer: &Value| {
        let ticks = |name: &str| (timer[name].as_f64().unwrap() * 20.0).round() as u32;
        reset >= ticks("open_every_s") && reset % ticks("open_every_s") < ticks("open_for_s")
    };
    for (entity, components) in saved.as_object().unwrap() {
        for component in ["door_state", "visibility", "wall", "item"].iter().filter(|name| components.get(**name).is_some()) {
            let wanted = match components.get("door_timer").filter(|_| *component == "door_state") {
                Some(timer) => Value::from(if is_open(timer) { "opened" } else { "closed" }),
                None => components[*component].clone(),
            };
            assert!(is_same(&now[entity][*component], &wanted), "{entity}.{component} is as it was saved");
        }
    }

    // By night, and on a phone.
    browser.strike("l");
    browser.screen(1_440, 900, false, true);
    browser
        .ask("document.getElementById('follow').selectedIndex = 1; document.getElementById('follow').dispatchEvent(new Event('change'))");
    browser.until("document.querySelectorAll('#eyes meter').length > 0");
    std::thread::sleep(Duration::from_millis(500));
    browser.picture(&folder.join("live-dark.png"));
    for (dark, name) in [(false, "phone-light.png"), (true, "phone-dark.png")] {
        browser.screen(390, 844, true, dark);
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(browser.ask("document.documentElement.scrollWidth <= innerWidth"), Value::from(true), "nothing sticks out");
        browser.picture(&folder.join(name));
    }
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);

    // What is answered of a room that was left meanwhile is not shown.
    go_before_it_is_answered(&mut browser);

    // A page that is closed asks for nothing.
    browser.leave();
    // It takes the browser a while to close it.
    let mut before = played.requests();
    for _ in 0..60 {
        std::thread::sleep(Duration::from_millis(500));
        let now = played.requests();
        if now - std::mem::replace(&mut before, now) == 1.0 {
            break;
        }
    }
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(played.requests(), before + 1.0);
}

/// Clicks on an order, and waits until it has asked.
fn order(browser: &mut Browser, button: &str) {
    browser.until(&format!("!document.querySelector('{button}').disabled"));
    browser.click(button);
    browser.until("document.getElementById('ask').open");
}

fn answer(browser: &mut Browser, button: &str) {
    browser.click(button);
    browser.until("!document.getElementById('ask').open");
}

/// Asks for ticks that are no number, and for nothing in the end.
fn say_no(browser: &mut Browser, tick: u32) {
    order(browser, "#pause-button");
    answer(browser, "#ask-yes");
    order(browser, "#step-button");
    browser.ask("document.querySelector('#ask-fields input').value = 'ten'");
    browser.strike("Enter");
    let still_asks = "document.getElementById('ask').open && !document.querySelector('#ask-fields input').validity.valid";
    assert_eq!(browser.ask(still_asks), Value::from(true), "ten is no number");
    answer(browser, "#ask-no");
    browser.until("document.getElementById('pause-button').textContent.startsWith('Go on')");
    order(browser, "#pause-button");
    answer(browser, "#ask-yes");
    browser.until("document.getElementById('pause-button').textContent.startsWith('Pause')");
    order(browser, "#event-button");
    let facts = browser.ask("document.querySelectorAll('#ask-fields option').length");
    assert!(facts.as_f64() > Some(10.0), "the game's facts can be chosen from, not {facts}");
    answer(browser, "#ask-no");
    assert_eq!(browser.ask("document.getElementById('live').ariaPressed"), Value::from("false"));
    assert_eq!(browser.ask("document.getElementById('stage').dataset.tick"), Value::from(tick.to_string()));
}

/// The connection breaks in the middle of an answer: the page says so, and asks again.
fn go_on_after_an_answer_that_broke_off(browser: &mut Browser) {
    browser.ask(
        "(() => { const now = window.fetch.bind(window); window.fetch = async (...asked) => { const answer = await now(...asked); \
         if (!window.broken && String(asked[0]).includes('/picture')) { \
         answer.text = () => Promise.reject(new TypeError('network error')); \
         window.broken = Number(document.getElementById('stage').dataset.tick); } return answer; }; })()",
    );
    browser.until("document.getElementById('said').textContent.includes('does not answer')");
    browser.until("Number(document.getElementById('stage').dataset.tick) > window.broken + 20");
}

fn hold_what_is_live_by_space(browser: &mut Browser) {
    browser.ask("document.activeElement?.blur()");
    browser.strike(" ");
    browser.until("document.getElementById('live').ariaPressed === 'false'");
    let held = browser.ask("document.getElementById('stage').dataset.tick");
    std::thread::sleep(Duration::from_millis(1_000));
    let stands = (browser.ask("document.getElementById('live').ariaPressed"), browser.ask("document.getElementById('stage').dataset.tick"));
    assert_eq!(stands, (Value::from("false"), held), "it stands where it was held");
    browser.strike("l");
    browser.until("document.getElementById('live').ariaPressed === 'true'");
}

fn stay_at_a_button_while_its_panel_is_looked_at_again(browser: &mut Browser) {
    browser.strike("3");
    browser.until("document.querySelectorAll('#members button.danger').length === 3");
    browser.ask("(() => { window.held = document.querySelector('#members button.danger'); window.held.focus(); })()");
    std::thread::sleep(Duration::from_millis(3_000));
    assert_eq!(browser.ask("document.activeElement === window.held"), Value::from(true), "nobody could be put out by the keyboard");
    browser.ask("document.activeElement?.blur()");
    browser.strike("1");
}

/// Asks why something has its value, and goes to another room before that is answered.
fn go_before_it_is_answered(browser: &mut Browser) {
    browser.screen(1_440, 900, false, false);
    browser.ask("document.getElementById('tab-entities').click()");
    browser.until("document.querySelectorAll('details.entity').length > 30");
    browser.ask(
        "(() => { const now = window.fetch.bind(window); window.late = 0; window.fetch = async (...asked) => { \
         const isLate = String(asked[0]).includes('/why?'); if (isLate) await new Promise((done) => setTimeout(done, 1500)); \
         const answer = await now(...asked); window.late += Number(isLate); return answer; }; })()",
    );
    browser.ask(
        "(async () => { const item = document.querySelector('details.entity'); item.open = true; \
         await new Promise((done) => setTimeout(done, 300)); item.querySelector('button.component').click(); })()",
    );
    browser.until("document.getElementById('why').textContent.includes('Looking')");
    browser.ask("document.querySelector('#rooms [data-room=second] button').click()");
    browser.until("window.late === 1");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(browser.ask("document.getElementById('room-name').textContent"), Value::from("second"));
    let nothing = "document.querySelector('#why h2') === null && document.querySelector('#why ol.chain') === null";
    assert_eq!(browser.ask(nothing), Value::from(true), "the second room's page tells why something in the first has its value");
}

fn go_back_and_save(browser: &mut Browser, played: &Match, tick: u32) {
    browser.strike("1");
    go_to(browser, tick);
    browser.click("#save-button");
    browser.until("document.getElementById('ask').open");
    browser.write("then");
    browser.strike("Enter");
    browser.until("!document.getElementById('ask').open");
    let saved = played.until("the snippet", |archive| archive.snippet("main", "then").ok());
    assert_eq!(saved.tick, RoomTick(tick));
    // Who cancels stays where it is.
    order(browser, "#reset-button");
    answer(browser, "#ask-no");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(browser.ask("document.getElementById('live').ariaPressed"), Value::from("false"));
    order(browser, "#reset-button");
    assert!(!played.archive().facts("main", FactSeq(1), 100_000).unwrap().iter().any(|fact| fact.kind.contains("reset")), "it asks first");
    browser.click("#ask-yes");
}
