// The page as a whole: which room, which moment, which panel; keys; and what is asked of the host how often.

import { Failure, TICKS_PER_SECOND, find, host, make, readTick, roomTime, say } from "./host.js";
import { Map2d } from "./map.js";
import * as orders from "./orders.js";
import { Entities, showBytes, showDifference, showFigures, showMembers, showSnippets, showStory, showWhy } from "./panels.js";
import { Timeline } from "./timeline.js";

const ROOMS_EVERY = 2_000;
const PANEL_EVERY = 1_000;
const PANEL_AFTER = 120;
const STORY_LINES = 120;

const KEYS = [
  ["space", "play, pause"], ["b", "play backwards"], ["[ ]", "slower, faster"], [", .", "a tick back, on"],
  ["← →", "a second back, on"], ["PgUp PgDn", "ten seconds back, on"], ["Home End", "to the beginning, the end"],
  ["p n", "to the fact before, the next one"], ["g", "go to a tick, or a time"], ["l", "to the present"],
  ["f", "follow the next player, at last nobody"], ["wasd, + −, 0", "move the map, zoom, all of it"], ["c", "compare: from this tick"],
  ["1 to 6", "the panels"], ["/", "filter the entities"], ["?", "these keys"],
];

const page = { whole: null, rooms: [], room: null, tab: "entities", actors: [], panelAt: 0, reads: 0, waiting: 0, asked: { rooms: 0, why: 0, compare: 0, jump: 0 } };

const map = new Map2d(find("map"));
const entities = new Entities((entity, component) => why(entity, component, timeline.tick));
const timeline = new Timeline({ shown: seen, changed: showTime, failed });

function failed(error) {
  if (!(error instanceof Failure)) throw error;
  say(error.message, true);
}

// The rooms.

async function readRooms() {
  if (document.hidden) return;
  const isNow = asks("rooms");
  page.waiting += 1;
  try {
    const told = await Promise.all([host.whole(), host.rooms()]);
    // What was asked for later is newer.
    if (!isNow()) return;
    [page.whole, page.rooms] = told;
  } catch (error) {
    failed(error);
    return;
  } finally {
    page.waiting -= 1;
  }
  const { whole } = page;
  find("game").textContent = whole.game;
  document.title = page.room ? `${page.room}, ${whole.game}` : whole.game;
  const store = whole.store ? `, store ${whole.store.failing ? "failing" : whole.store.pressure}` : ", nothing is kept";
  find("host-line").textContent = `${whole.connections} connected${store}${whole.is_draining ? ", draining" : ""}`;
  entities.kinds = whole.kinds;
  find("no-map").hidden = whole.can_draw;
  find("open-button").disabled = whole.templates.length === 0;
  listRooms();
  const known = page.rooms.some((room) => room.room === page.room);
  if (page.room === null || !known) {
    const first = page.rooms.find((room) => room.room === fromHash()) ?? page.rooms.find((room) => room.is_open) ?? page.rooms[0];
    if (first) enter(first.room);
  }
  showRoom();
  if (now()?.is_open) timeline.reach(now().durable ?? 0);
}

function listRooms() {
  const list = find("rooms");
  const known = new Map([...list.children].map((item) => [item.dataset.room, item]));
  const items = page.rooms.map((room) => {
    const item = known.get(room.room) ?? make("li", { data: { room: room.room } },
      make("button.room", { type: "button", onclick: () => enter(room.room) }, make("b", {}, room.room), make("span")));
    const state = room.is_open ? `${room.members} in it, ${roomTime(room.tick)}${room.is_paused ? ", stands still" : ""}` : room.is_resting ? "at rest" : "stored";
    const line = item.querySelector("span");
    if (line.textContent !== state) line.textContent = state;
    item.querySelector("button").setAttribute("aria-current", String(room.room === page.room));
    return item;
  });
  if (items.length !== list.children.length || items.some((item, nth) => list.children[nth] !== item)) list.replaceChildren(...items);
}

const fromHash = () => new URLSearchParams(location.hash.slice(1)).get("room");

/** Asks something for a panel, for the rooms, or for a jump. Gives whether its answer is still wanted there: nothing else was asked since, and no other room was gone to. */
function asks(panel) {
  page.asked[panel] += 1;
  const asked = page.asked[panel];
  return () => asked === page.asked[panel];
}

function enter(room) {
  if (room === page.room) return;
  page.room = room;
  for (const panel of ["why", "compare", "jump"]) asks(panel);
  history.replaceState(null, "", `#${new URLSearchParams({ room })}`);
  map.leave();
  entities.leave();
  for (const id of ["story", "members", "figures", "snippets", "bytes", "compare"]) find(id).replaceChildren();
  find("why").replaceChildren(make("p.empty", {}, "Choose a component of an entity to see why it has its value."));
  [page.actors] = [[]];
  listFollowed();
  timeline.leave(room);
  listRooms();
  showRoom();
  readPanel();
}

function now() {
  return page.rooms.find((room) => room.room === page.room) ?? null;
}

function showRoom() {
  const room = now();
  find("room-name").textContent = page.room ?? "No room";
  const badges = [];
  const badge = (text, kind = "") => badges.push(make("li", { class: kind }, text));
  if (room?.is_open) {
    badge(room.is_paused ? "stands still" : "runs", room.is_paused ? "warn" : "good");
    badge(`${room.members} in it`);
    badge(`tick ${room.pace.busy.p99_ms.toFixed(1)} ms`, room.is_slow ? "warn" : "");
    if (room.pace.skipped > 0) badge(`${room.pace.skipped} skipped`, "warn");
  } else if (room) {
    badge(room.is_resting ? "at rest" : "stored");
  }
  find("badges").replaceChildren(...badges);
  find("pause-button").textContent = room?.is_paused ? "Go on…" : "Pause…";
  find("pause-button").disabled = !room?.is_open;
  find("step-button").disabled = !(room?.is_open && room.is_paused);
  find("save-button").disabled = !room?.is_stored;
  find("reset-button").disabled = !(room?.is_open && room.is_stored);
  find("event-button").disabled = !room?.is_open;
  find("close-button").disabled = !room?.is_open;
}

// The moment.

function seen(tick, picture) {
  map.show(picture);
  if (picture) {
    page.actors = picture.actors;
    listFollowed();
    showEyes(picture);
  }
  const who = picture ? `${picture.actors.length} can be followed` : "it can't be drawn";
  find("map").setAttribute("aria-label", `The map of ${page.room} at tick ${tick}: ${who}`);
  find("stage").dataset.tick = tick;
  const wait = timeline.isLive || timeline.way !== 0 ? PANEL_EVERY : PANEL_AFTER;
  const due = Math.max(0, page.panelAt + wait - performance.now());
  page.panelTimer ??= setTimeout(() => readPanel(), timeline.isLive || timeline.way !== 0 ? due : PANEL_AFTER);
}

function listFollowed() {
  const list = find("follow");
  const wanted = [["", "nobody"], ...page.actors.map(({ id, name }) => [id, name])];
  const is = [...list.options].map((option) => `${option.value} ${option.textContent}`).join();
  if (is !== wanted.map(([id, name]) => `${id} ${name}`).join()) {
    list.replaceChildren(...wanted.map(([id, name]) => make("option", { value: id }, name)));
  }
  list.value = wanted.some(([id]) => id === timeline?.follow) ? timeline.follow : "";
}

function showEyes(picture) {
  const gauge = ({ name, value, max }) => make("div.gauge", {}, make("span", {}, name), make("meter", { min: 0, max, value, "aria-label": name }), make("span", {}, `${value}`));
  const parts = [
    picture.title ? make("b", {}, picture.title) : null,
    ...picture.gauges.map(gauge),
    ...picture.facts.map(([name, value]) => make("div", {}, make("span.quiet", {}, `${name} `), value)),
    picture.ending ? make("div.ending", {}, picture.ending.text) : null,
  ].filter((part) => part !== null);
  find("eyes").replaceChildren(...parts);
  find("eyes").hidden = parts.length === 0;
}

function showTime() {
  const tick = Math.floor(timeline.at);
  const slider = find("ticks");
  [slider.min, slider.max] = [timeline.first, timeline.last];
  slider.value = tick;
  slider.setAttribute("aria-valuetext", `${roomTime(tick)}, tick ${tick}`);
  find("clock").textContent = `${roomTime(tick)} · ${tick}`;
  find("end").textContent = `of ${timeline.last}`;
  find("live").setAttribute("aria-pressed", String(timeline.isLive));
  const goes = timeline.way !== 0;
  find("play").textContent = goes ? "❚❚" : timeline.speed < 0 ? "◀" : "▶";
  find("play").setAttribute("aria-label", goes ? "Pause" : "Play");
  find("speed").value = String(timeline.speed);
}

async function jump(forward) {
  const from = Math.floor(timeline.at);
  const asked = forward ? { tick: from + 1 } : { until: from - 1 };
  if (!forward && from < 1) return;
  const { room } = page;
  const isNow = asks("jump");
  try {
    let told = await host.read(room, "facts", { ...asked, limit: 1, told: true });
    // A host goes through so many facts for one answer, and no more.
    while (isNow() && told.is_cut) {
      say("Looking further…");
      told = await host.read(room, "facts", { ...(forward ? { from: told.next } : { to: told.before }), limit: 1, told: true });
    }
    // Its ticks say nothing of another room.
    if (!isNow()) return;
    if (told.facts.length > 0) timeline.go(told.facts[0].tick);
    else say(forward ? "Nothing has happened since." : "Nothing happened before.");
  } catch (error) {
    if (isNow()) failed(error);
  }
}

function why(entity, component, tick) {
  choose("why");
  const { room } = page;
  const revert = (fact) => orders.revert(room, fact);
  const name = entities.nameOf(entity);
  showWhy(room, entity, component, tick ?? Math.floor(timeline.at), { name, go: (when) => timeline.go(when), revert, asks: () => asks("why") });
}

// The panels. Only the one that is seen is read.

async function readPanel() {
  clearTimeout(page.panelTimer);
  page.panelTimer = null;
  if (page.room === null || document.hidden) return;
  page.panelAt = performance.now();
  page.reads += 1;
  const [read, room, tick] = [page.reads, page.room, timeline.tick ?? undefined];
  const isNow = () => read === page.reads && room === page.room;
  const go = (when) => timeline.go(when);
  try {
    if (page.tab === "entities") {
      const state = await host.read(room, "state", { tick: now()?.is_stored ? tick : undefined });
      if (isNow()) entities.show(state, timeline.isLive || timeline.way !== 0);
    } else if (page.tab === "story") {
      const by = find("by").value;
      const told = await host.read(room, "facts", { until: tick ?? 0, limit: STORY_LINES, told: true, by: by === "" ? undefined : by });
      if (isNow()) showStory(told, tick, go);
    } else if (page.tab === "members") {
      const members = now()?.is_open ? await host.read(room, "members") : [];
      if (isNow()) showMembers(members, (member) => orders.kick(room, member));
    } else if (page.tab === "room") {
      const is = now();
      if (is) showFigures(is);
      const [snippets, sizes] = await Promise.all([host.read(room, "snippets"), host.read(room, "bytes", { tick: is?.is_stored ? tick : undefined })]);
      if (!isNow()) return;
      showSnippets(snippets, { go, reset: (label) => orders.reset(room, label) });
      showBytes(sizes);
    }
  } catch (error) {
    if (isNow()) failed(error);
  }
}

const TABS = ["entities", "story", "members", "why", "compare", "room"];

function choose(name) {
  page.tab = name;
  for (const tab of TABS) {
    const is = tab === name;
    const button = find(`tab-${tab}`);
    button.setAttribute("aria-selected", String(is));
    button.tabIndex = is ? 0 : -1;
    find(`panel-${tab}`).hidden = !is;
  }
  readPanel();
}

for (const [nth, tab] of TABS.entries()) {
  const button = find(`tab-${tab}`);
  button.addEventListener("click", () => choose(tab));
  button.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const next = TABS[(nth + by + TABS.length) % TABS.length];
    choose(next);
    find(`tab-${next}`).focus();
  });
}

function markForCompare() {
  choose("compare");
  find("compare-from").value = String(Math.floor(timeline.at));
  if (find("compare-to").value === "") find("compare-to").value = String(timeline.last);
}

find("compare-mark").addEventListener("click", markForCompare);
find("compare-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const [from, to] = ["compare-from", "compare-to"].map((id) => readTick(find(id).value));
  if (from === null || to === null) say("A tick is a number, or a time such as 01:31.5", true);
  else showDifference(page.room, from, to, { why, isNow: asks("compare") });
});

// The controls.

find("ticks").addEventListener("input", (event) => timeline.go(Number(event.target.value)));
find("play").addEventListener("click", () => timeline.toggle());
find("live").addEventListener("click", () => timeline.goLive());
find("speed").addEventListener("change", (event) => timeline.setSpeed(Number(event.target.value)));
find("by").addEventListener("change", () => readPanel());
find("follow").addEventListener("change", (event) => timeline.setFollow(event.target.value));
find("go-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const tick = readTick(find("go").value);
  if (tick === null) say("A tick is a number, or a time such as 01:31.5", true);
  else timeline.go(tick);
});
find("zoom-in").addEventListener("click", () => map.zoomBy(1.4));
find("zoom-out").addEventListener("click", () => map.zoomBy(1 / 1.4));
find("zoom-all").addEventListener("click", () => map.reset());
find("help-button").addEventListener("click", () => find("help").showModal());
find("pause-button").addEventListener("click", () => orders.pause(page.room, !now()?.is_paused).then(readRooms));
find("step-button").addEventListener("click", () => orders.step(page.room).then(readRooms));
find("save-button").addEventListener("click", () => orders.save(page.room, timeline.isLive ? null : timeline.tick).then(readPanel));
find("reset-button").addEventListener("click", () => orders.reset(page.room).then((done) => done !== null && timeline.goLive()));
find("event-button").addEventListener("click", () => orders.event(page.room, page.whole.facts));
find("close-button").addEventListener("click", () => orders.close(page.room).then(readRooms));
find("open-button").addEventListener("click", () => orders.open(page.whole.templates).then(readRooms));
for (const button of document.querySelectorAll("[data-key]:not(#play)")) button.addEventListener("click", () => press(button.dataset.key));

function faster(by) {
  const speeds = [...find("speed").options].map((option) => Number(option.value));
  const next = speeds.indexOf(timeline.speed) + by;
  if (next > 0 && next < speeds.length) timeline.setSpeed(speeds[next]);
}

function backwards() {
  timeline.setSpeed(timeline.speed < 0 ? 1 : -1);
  if (timeline.way === 0) timeline.toggle();
}

function followNext() {
  const ids = ["", ...page.actors.map(({ id }) => id)];
  timeline.setFollow(ids[(ids.indexOf(timeline.follow) + 1) % ids.length]);
  listFollowed();
}

/** What a key does. False if it does nothing. */
function press(key) {
  const does = {
    " ": () => timeline.toggle(), b: backwards, "[": () => faster(-1), "]": () => faster(1),
    ",": () => timeline.step(-1), ".": () => timeline.step(1),
    ArrowLeft: () => timeline.step(-TICKS_PER_SECOND), ArrowRight: () => timeline.step(TICKS_PER_SECOND),
    PageUp: () => timeline.step(-10 * TICKS_PER_SECOND), PageDown: () => timeline.step(10 * TICKS_PER_SECOND),
    Home: () => timeline.go(timeline.first), End: () => timeline.go(timeline.last),
    n: () => jump(true), p: () => jump(false), l: () => timeline.goLive(), f: followNext, c: markForCompare,
    g: () => find("go").focus(), "/": () => { choose("entities"); find("filter").focus(); },
    w: () => map.panBy(0, 40), s: () => map.panBy(0, -40), a: () => map.panBy(40, 0), d: () => map.panBy(-40, 0),
    "+": () => map.zoomBy(1.4), "=": () => map.zoomBy(1.4), "-": () => map.zoomBy(1 / 1.4), 0: () => map.reset(),
    "?": () => find("help").showModal(),
  }[key] ?? (TABS[Number(key) - 1] ? () => choose(TABS[Number(key) - 1]) : null);
  does?.();
  return does !== null && does !== undefined;
}

document.addEventListener("keydown", (event) => {
  const { target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const isText = target instanceof HTMLInputElement && target.type !== "range";
  if (isText || target instanceof HTMLSelectElement) {
    if (event.key === "Escape") target.blur();
    return;
  }
  // These are what a button is pressed by, and what a list is gone through by.
  const isControl = target instanceof HTMLButtonElement || target.tagName === "SUMMARY";
  if (isControl && event.key === " ") return;
  const scrolls = target.closest?.("[role=tabpanel]") && ["PageUp", "PageDown", "Home", "End"].includes(event.key);
  if (!scrolls && press(event.key)) event.preventDefault();
});

find("keys").replaceChildren(...KEYS.flatMap(([key, what]) => [make("dt", {}, key), make("dd", {}, what)]));
document.addEventListener("visibilitychange", () => readRooms());
setInterval(() => {
  // Where the host is slow, they would pile up.
  if (page.waiting === 0) readRooms();
}, ROOMS_EVERY);
// What does not change with the moment is looked at again all the same.
setInterval(() => {
  if (["members", "room"].includes(page.tab) && !page.panelTimer) readPanel();
}, ROOMS_EVERY);
readRooms();
