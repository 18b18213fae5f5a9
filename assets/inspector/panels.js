// What there is to know of a room, beside its map: a panel each.

import { Failure, bytes, find, host, make, millis, percent, roomTime } from "./host.js";

/** A value as one line of JSON. */
const text = (value) => JSON.stringify(value);

/** A value that may not be there. One that is null itself, as of a mark, is told as {"$value": null}. */
function side(value) {
  if (value === null || value === undefined) return "nothing";
  return text(typeof value === "object" && Object.keys(value).join() === "$value" ? value.$value : value);
}

/** The entities of a state, and their components, kept as they are where nothing changed. */
export class Entities {
  constructor(chosen) {
    this.chosen = chosen;
    this.list = find("entities");
    this.shown = new Map();
    this.kinds = [];
    this.tick = null;
    find("filter").addEventListener("input", () => this.filter());
  }

  leave() {
    this.shown.clear();
    this.list.replaceChildren();
    delete this.list.dataset.tick;
    this.tick = null;
  }

  /** How people call an entity, as far as is known. */
  nameOf(entity) {
    return this.shown.get(entity)?.title.textContent ?? entity;
  }

  kindOf(components) {
    return this.kinds.find((kind) => kind in components) ?? "other";
  }

  show({ tick, state }, flashes) {
    const gone = new Set(this.shown.keys());
    let moved = false;
    for (const [name, components] of Object.entries(state)) {
      gone.delete(name);
      const known = this.shown.get(name);
      const kind = this.kindOf(components);
      if (known && known.kind === kind) {
        this.update(known, components, flashes);
      } else {
        known?.item.remove();
        this.shown.set(name, this.add(name, kind, components));
        moved = true;
      }
    }
    for (const name of gone) {
      this.shown.get(name).item.remove();
      this.shown.delete(name);
      moved = true;
    }
    if (moved) this.arrange();
    this.filter();
    this.tick = tick;
    this.list.dataset.tick = tick;
  }

  add(name, kind, components) {
    const count = make("span");
    const title = make("b");
    const body = make("div");
    const item = make("details.entity", { data: { entity: name } }, make("summary", {}, title, count), body);
    const entity = { name, kind, item, title, count, body, components, rows: new Map() };
    item.addEventListener("toggle", () => this.fill(entity, false));
    this.entitle(entity);
    return entity;
  }

  entitle(entity) {
    const { components, name } = entity;
    entity.title.textContent = components.user?.name ? `${components.user.name}` : name;
    entity.title.title = name;
    entity.count.textContent = `${Object.keys(components).length}`;
  }

  update(entity, components, flashes) {
    entity.components = components;
    this.entitle(entity);
    if (entity.item.open) this.fill(entity, flashes);
  }

  /** Components are put in only where somebody looks. */
  fill(entity, flashes) {
    if (!entity.item.open) return;
    const gone = new Set(entity.rows.keys());
    for (const [name, value] of Object.entries(entity.components)) {
      gone.delete(name);
      const said = text(value);
      let row = entity.rows.get(name);
      if (!row) {
        const code = make("code");
        const button = make("button.component", {
          type: "button", title: `Why has ${name} this value?`, data: { component: name }, onclick: () => this.chosen(entity.name, name),
        }, make("span", {}, name), code);
        row = { button, code, said: null };
        entity.rows.set(name, row);
        entity.body.append(button);
      }
      if (row.said === said) continue;
      row.button.classList.remove("changed");
      if (row.said !== null && flashes) requestAnimationFrame(() => row.button.classList.add("changed"));
      row.said = said;
      row.code.textContent = said;
    }
    for (const name of gone) {
      entity.rows.get(name).button.remove();
      entity.rows.delete(name);
    }
  }

  arrange() {
    const groups = new Map([...this.kinds, "other"].map((kind) => [kind, []]));
    for (const entity of this.shown.values()) groups.get(entity.kind)?.push(entity);
    const parts = [];
    for (const [kind, entities] of groups) {
      if (entities.length === 0) continue;
      entities.sort((a, b) => a.title.textContent.localeCompare(b.title.textContent));
      parts.push(make("section", { data: { kind } }, make("h3.kind", {}, `${kind.replaceAll("_", " ")}, ${entities.length}`), ...entities.map((entity) => entity.item)));
    }
    const focus = document.activeElement;
    this.list.replaceChildren(...parts);
    // What was moved has lost it.
    if (focus instanceof HTMLElement && this.list.contains(focus)) focus.focus({ preventScroll: true });
  }

  filter() {
    const wanted = find("filter").value.trim().toLowerCase();
    for (const { item, name, title, components } of this.shown.values()) {
      const all = () => `${name} ${title.textContent} ${text(components)}`.toLowerCase();
      item.hidden = wanted !== "" && !all().includes(wanted);
    }
    for (const part of this.list.children) part.hidden = ![...part.querySelectorAll("details")].some((item) => !item.hidden);
  }
}

const rowsOf = new WeakMap();

/** Puts a row for each item into a list. One that is there stays the same element, at its place: else a press on it, and the focus, would be lost. */
function showRows(list, items, { key, build, update = () => {} }) {
  const known = rowsOf.get(list) ?? new Map();
  const rows = new Map();
  for (const item of items) {
    const old = known.get(key(item));
    // What was taken out belongs to another room.
    const row = old?.parentNode === list ? old : build(item);
    update(row, item);
    rows.set(key(item), row);
  }
  rowsOf.set(list, rows);
  const wanted = [...rows.values()];
  for (const child of [...list.children]) if (!wanted.includes(child)) child.remove();
  for (const [nth, row] of wanted.entries()) if (list.children[nth] !== row) list.insertBefore(row, list.children[nth] ?? null);
}

/** The rows of a table, which is made where there is none yet. */
function rowsIn(panel, head) {
  if (panel.querySelector("tbody") === null) panel.replaceChildren(make("table", {}, head ? make("thead", {}, head) : null, make("tbody")));
  return panel.querySelector("tbody");
}

/** The story up to the moment that is shown. */
export function showStory({ facts, is_cut: isCut }, tick, go) {
  const note = isCut ? "Nothing more is told among the last facts; p looks further back." : "Nothing has been told yet.";
  const lines = facts.toReversed();
  if (isCut || lines.length === 0) lines.push({ note });
  const line = (fact) => fact.note ? make("li.empty", {}, fact.note) : make("li", {},
    make("button", { type: "button", title: `${fact.fact}, fact ${fact.seq}, by ${fact.producer}`, data: { seq: fact.seq }, onclick: () => go(fact.tick) },
      make("time", {}, roomTime(fact.tick)), make("span", {}, fact.line ?? fact.fact)));
  const update = (row, fact) => fact.note || row.classList.toggle("now", fact.tick === tick);
  showRows(find("story"), lines, { key: (fact) => fact.note ?? `${fact.seq} ${fact.line}`, build: line, update });
}

export function showMembers(members, kick) {
  const panel = find("members");
  if (members.length === 0) {
    panel.replaceChildren(make("p.empty", {}, "Nobody is in it."));
    return;
  }
  const row = (member) => make("tr", { data: { player: member.player } },
    make("td.word", {}, member.name, member.spectates ? make("span.quiet", {}, " watches") : null),
    make("td.number"), make("td.number"), make("td.number"),
    make("td", {}, member.spectates ? null : make("button.danger", { type: "button", onclick: () => kick(member), "aria-label": `Put ${member.name} out` }, "Kick…")));
  const update = (tr, { way }) => {
    const said = [millis(way.rtt_ms), percent(way.loss), bytes(way.queue_bytes)];
    for (const [nth, cell] of tr.querySelectorAll("td.number").entries()) if (cell.textContent !== said[nth]) cell.textContent = said[nth];
  };
  const head = make("tr", {}, make("th", {}, "Who"), ...["Round trip", "Loss", "Waits"].map((name) => make("th.number", {}, name)), make("th", {}, ""));
  showRows(rowsIn(panel, head), members, { key: ({ player, name, spectates }) => `${player} ${spectates} ${name}`, build: row, update });
}

const code = (value) => make("code.value", {}, side(value));

/** Why a component had its value at a tick. It is looked for further and further back, as long as somebody waits for it. */
async function findWhy(room, asked, isNow, goesBack) {
  let { tick } = asked;
  for (;;) {
    try {
      return await host.read(room, "why", { ...asked, tick });
    } catch (error) {
      if (!isNow() || !(error instanceof Failure) || error.before === null) throw error;
      tick = error.before;
      goesBack(tick);
    }
  }
}

/** Why a component has its value: the write, what happened, who asked. */
export async function showWhy(room, entity, component, tick, { name, go, revert, asks }) {
  const panel = find("why");
  const isNow = asks();
  const looks = make("p.empty", {}, "Looking…");
  const stop = make("button", { type: "button", onclick: () => { asks(); panel.replaceChildren(make("p.empty", {}, "Not looked for any further.")); } }, "Stop");
  panel.replaceChildren(looks);
  const goesBack = (before) => {
    looks.textContent = `Looking… It was not written from tick ${before + 1} to tick ${tick}.`;
    if (!stop.isConnected) panel.append(stop);
  };
  const at = (when) => make("button", { type: "button", onclick: () => go(when) }, `${roomTime(when)}, tick ${when}`);
  let why;
  try {
    why = await findWhy(room, { entity, component, tick }, isNow, goesBack);
  } catch (error) {
    if (!isNow()) return;
    const older = make("button", { type: "button", onclick: () => showHistory(room, entity, component, tick, { go, asks }) }, "All writes");
    panel.replaceChildren(make("h2", { title: entity }, `${name}.${component}`), make("p.empty", {}, error.message), older);
    return;
  }
  if (!isNow()) return;
  const step = (what, ...children) => make("li", {}, make("p.what", {}, what), ...children);
  const chain = make("ol.chain", {},
    step("It was written", at(why.tick), code(why.after), make("p.what", {}, "before:"), code(why.before)),
    ...why.facts.map((fact, nth) => step(nth === 0 ? "because of" : "which came because of",
      make("p", {}, fact.line ?? fact.fact), code(fact.data),
      make("p.what", {}, `fact ${fact.seq}, ${fact.fact} `, at(fact.tick), " ", make("button", { type: "button", onclick: () => revert(fact) }, "Undo…")))),
    why.command
      ? step(`which ${why.author ?? "somebody"} asked for by a command`, make("p", {}, why.command.command), code(why.command.data))
      : step(why.facts.length > 0 ? `which came from ${why.producer}` : "by a system, without a fact"));
  chain.dataset.entity = entity;
  chain.dataset.component = component;
  chain.dataset.tick = why.tick;
  const all = make("button", { type: "button", onclick: () => showHistory(room, entity, component, tick, { go, asks }) }, "All writes");
  panel.replaceChildren(make("h2", { title: entity }, `${name}.${component}`), make("p.quiet", {}, `as of tick ${tick} `, all), chain);
}

async function showHistory(room, entity, component, tick, { go, asks }) {
  const panel = find("why");
  const isNow = asks();
  let history;
  try {
    history = await host.read(room, "history", { entity, component, to: tick });
  } catch (error) {
    if (isNow()) panel.append(make("p.empty", {}, error.message));
    return;
  }
  if (!isNow()) return;
  const write = ({ tick: when, before, after, fact }) => make("div.change", {},
    make("button", { type: "button", onclick: () => go(when) }, `${roomTime(when)}, tick ${when}`),
    make("div", {}, make("del", {}, make("code", {}, side(before))), " → ", make("ins", {}, make("code", {}, side(after)))),
    make("p.what.quiet", {}, fact ? fact.line ?? fact.fact : "by a system, without a fact"));
  const { from, to, all, before, writes } = history;
  const shown = writes.length < all ? `, the last ${writes.length}` : "";
  const older = before === null ? null : make("button.older", { type: "button", onclick: () => showHistory(room, entity, component, before, { go, asks }) }, `Before that, up to tick ${before}`);
  panel.querySelector(".writes")?.remove();
  panel.append(make("section.writes", { data: { from, to } },
    make("h3", {}, `${all} writes from tick ${from} to tick ${to}${shown}, newest first`), ...writes.toReversed().map(write), older ?? make("p.quiet", {}, "Nothing older is kept.")));
}

export async function showDifference(room, from, to, { why, isNow }) {
  const panel = find("compare");
  try {
    const { changes } = await host.read(room, "diff", { from, to });
    if (!isNow()) return;
    const change = ({ entity, component, before, after }) => make("div.change", { data: { entity, component } },
      make("button", { type: "button", title: "Why?", onclick: () => why(entity, component, to) }, `${entity}.${component}`),
      make("div", {}, make("del", {}, make("code", {}, side(before))), " → ", make("ins", {}, make("code", {}, side(after)))));
    const shown = changes.slice(0, 500);
    panel.replaceChildren(make("p.quiet", {}, `${changes.length} components differ between tick ${from} and tick ${to}.`), ...shown.map(change));
  } catch (error) {
    if (isNow()) panel.replaceChildren(make("p.empty", {}, error.message));
  }
}

export function showFigures(room) {
  const { pace, traffic, ways, counters } = room;
  const lines = room.is_open
    ? [
      ["Tick", `${room.tick}, stored up to ${room.durable ?? "–"}`],
      ["A tick takes", `${millis(pace.busy.p50_ms)}, of 100 one ${millis(pace.busy.p99_ms)}, at most ${millis(pace.busy.max_ms)}`],
      ["Begins late by", `${millis(pace.late.p50_ms)}, of 100 one ${millis(pace.late.p99_ms)}, at most ${millis(pace.late.max_ms)}`],
      ["Skipped", `${pace.skipped} ticks`],
      ["Members", `${room.members}, ${room.away} away, ${room.seats} of ${room.seats_max} seats`],
      ["Round trips", ways.measured > 0 ? `${millis(ways.rtt_mean_ms)} in the mean, ${millis(ways.rtt_max_ms)} at most` : "–"],
      ["Loss", `${percent(ways.loss_mean)} in the mean, ${percent(ways.loss_max)} at most`],
      ["Out", `${bytes(traffic.bytes_out)} in ${traffic.packets_out} packets, ${bytes(ways.queue_bytes)} wait`],
      ["In", `${bytes(traffic.bytes_in)} in ${traffic.messages_in} messages`],
      ["Commands", `${counters.commands}, ${counters.rejected} rejected, ${counters.commands_dropped} dropped`],
      ["Put out", `${counters.kicked}`],
      ["Watch its past", `${room.past_watchers}`],
    ]
    : [["State", room.is_resting ? "at rest in the store" : "stored, not open"], ["Tick", `${room.tick}`]];
  find("figures").replaceChildren(...lines.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

export function showBytes({ components }) {
  const most = Math.max(...components.map((component) => component.bytes), 1);
  const row = ({ component, entities, bytes: size }) => {
    const share = make("span.share");
    share.style.width = `${(size / most) * 100}%`;
    return make("tr", {}, make("td.word", {}, component), make("td.number", {}, entities), make("td.number", {}, bytes(size)), make("td.bar", {}, share));
  };
  const head = make("tr", {}, make("th", {}, "Component"), make("th.number", {}, "Entities"), make("th.number", {}, "Bytes"), make("th", { "aria-label": "Share" }));
  find("bytes").replaceChildren(make("table", {}, make("thead", {}, head), make("tbody", {}, ...components.slice(0, 20).map(row))));
}

export function showSnippets(snippets, { go, reset }) {
  const panel = find("snippets");
  if (snippets.length === 0) {
    panel.replaceChildren(make("p.empty", {}, "None yet. Save… makes one of the moment that is shown."));
    return;
  }
  const row = ({ label, tick, entities }) => make("tr", { data: { label } },
    make("td.word", {}, label), make("td.number", {}, `${entities} entities`),
    make("td", {}, tick > 0 ? make("button", { type: "button", onclick: () => go(tick) }, `tick ${tick}`) : "imported"),
    make("td", {}, make("button.danger", { type: "button", onclick: () => reset(label) }, "Reset…")));
  showRows(rowsIn(panel), snippets, { key: ({ label, tick, entities }) => `${tick} ${entities} ${label}`, build: row });
}
