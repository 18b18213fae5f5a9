// The way to the host, and what all parts of the page need.

export const TICKS_PER_SECOND = 20;

/** A request that was not answered as it wanted. */
export class Failure extends Error {
  constructor(status, message, before = null) {
    super(message);
    this.status = status;
    // The tick to ask for next, where older ones may have it.
    this.before = before;
  }
}

/** What is shown as it was said: a number may have more digits than a page can count with. */
const EXACT = ["state", "facts", "why", "history", "diff"];

function exact(key, value, context) {
  const isRounded = Number.isInteger(value) && !Number.isSafeInteger(value);
  // Older browsers don't tell how it was written.
  return isRounded && context?.source && JSON.rawJSON ? JSON.rawJSON(context.source) : value;
}

async function ask(method, path, body, reviver) {
  const options = { method, headers: {}, credentials: "same-origin" };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    // What is written already stays as it is: a number may have more digits than a page can count with.
    options.body = typeof body === "string" ? body : JSON.stringify(body);
  }
  let response;
  let text;
  try {
    response = await fetch(path, options);
    text = await response.text();
  } catch {
    throw new Failure(0, "the host does not answer");
  }
  let json = null;
  try {
    json = JSON.parse(text, reviver);
  } catch {
    // Not every error is ours.
  }
  if (!response.ok) throw new Failure(response.status, json?.message ?? `the host said ${response.status}`, json?.before ?? null);
  if (json === null) throw new Failure(response.status, "what answered is not the host");
  return json;
}

/** The path of something of a room, with what is asked. */
function place(room, what, asked = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(asked)) {
    if (value !== undefined && value !== null && value !== "") query.set(key, value);
  }
  const path = `/rooms/${encodeURIComponent(room)}${what ? `/${what}` : ""}`;
  return query.size > 0 ? `${path}?${query}` : path;
}

export const host = {
  whole: () => ask("GET", "/host"),
  rooms: () => ask("GET", "/rooms"),
  open: (room, template) => ask("POST", "/rooms", { room, template }),
  read: (room, what, asked) => ask("GET", place(room, what, asked), undefined, EXACT.includes(what) ? exact : undefined),
  order: (room, what, said) => ask("POST", place(room, what), said),
  close: (room, why) => ask("DELETE", place(room, "", { why })),
};

/** An element: its name with classes, attributes, children. Texts are texts, never markup. */
export function make(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length > 0) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "data") Object.assign(element.dataset, value);
    else if (value !== undefined && value !== null && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const find = (id) => document.getElementById(id);

/** A tick as minutes, seconds and tenths of room time. */
export function roomTime(tick) {
  const tenths = Math.floor(tick / 2);
  const two = (number) => String(number).padStart(2, "0");
  return `${two(Math.floor(tenths / 600))}:${two(Math.floor(tenths / 10) % 60)}.${tenths % 10}`;
}

/** A tick as people write it: 1830, @1830, 01:31.5. Nothing if it is none. */
export function readTick(text) {
  const plain = text.trim().replace(/^@/, "");
  if (/^\d+$/.test(plain)) return Number(plain);
  if (!/^\d+(:\d+)+(\.\d+)?$/.test(plain)) return null;
  return Math.round(plain.split(":").reduce((seconds, part) => seconds * 60 + Number(part), 0) * TICKS_PER_SECOND);
}

export function bytes(count) {
  if (count < 1_000) return `${count} B`;
  return count < 1_000_000 ? `${(count / 1_000).toFixed(1)} kB` : `${(count / 1_000_000).toFixed(1)} MB`;
}

export const millis = (value) => (value === null || value === undefined ? "–" : `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`);

export const percent = (share) => `${(share * 100).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;

let forget = 0;

/** Says something to who sits there; in passing, unless it went wrong. */
export function say(text, isWrong = false) {
  const line = find("said");
  line.textContent = text;
  line.classList.toggle("wrong", isWrong);
  clearTimeout(forget);
  if (text !== "") forget = setTimeout(() => say(""), isWrong ? 12_000 : 5_000);
}
