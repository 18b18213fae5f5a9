// Orders to the host. Each says what it will do, and asks first.

import { Failure, find, host, make, roomTime, say } from "./host.js";

// Who waits for an answer, if anybody does.
let waiting = null;

/** Ends the question that is open. What browsers tell of a dialog that closed may come when the next one is open. */
function answer(said) {
  const resolve = waiting;
  waiting = null;
  find("ask").close();
  resolve?.(said);
}

// Not a submit button: the first of those is what Enter presses.
find("ask-no").addEventListener("click", () => answer(false));
find("ask-form").addEventListener("submit", (event) => {
  event.preventDefault();
  answer(true);
});
// By Escape, for instance.
find("ask").addEventListener("close", () => {
  if (!find("ask").open) answer(false);
});

/** Asks whether something is to be done. Gives what was filled in, or nothing. */
export async function ask({ title, text, yes, fields = [], isGrave = false }) {
  const dialog = find("ask");
  // What is being asked is not to become another question under somebody's finger.
  if (dialog.open) return null;
  find("ask-title").textContent = title;
  find("ask-text").textContent = text;
  find("ask-yes").textContent = yes;
  find("ask-yes").classList.toggle("danger", isGrave);
  const made = fields.map(({ name, label, value = "", choices, isNeeded = true, number = null, check = null }) => {
    // A browser lets nobody say yes to what is no such number.
    const [min, max] = number ?? [];
    const lengthOf = check ? {} : { maxlength: 120 };
    const kind = number ? { type: "number", min, max, step: 1 } : lengthOf;
    const input = choices
      ? make("select", { name }, ...choices.map(([key, shown]) => make("option", { value: key, selected: key === value }, shown)))
      : make("input", { name, value, required: isNeeded, autocomplete: "off", ...kind });
    if (check) {
      // Nobody can say yes to what is wrong, so what was typed is not lost.
      const look = () => input.setCustomValidity(check(input.value));
      input.addEventListener("input", look);
      look();
    }
    return [make("label", {}, label, input), name, input];
  });
  find("ask-fields").replaceChildren(...made.map(([label]) => label));
  dialog.showModal();
  (made[0]?.[2] ?? find("ask-yes")).focus();
  const said = await new Promise((resolve) => {
    waiting = resolve;
  });
  return said ? Object.fromEntries(made.map(([, name, input]) => [name, input.value])) : null;
}

/** Does something, and says what came of it. */
async function doIt(what, done) {
  try {
    const result = await what();
    say(done);
    return result;
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    say(error.message, true);
    return null;
  }
}

export async function pause(room, paused) {
  const title = paused ? `Let ${room} stand still?` : `Let ${room} go on?`;
  const text = paused ? "Nothing happens in it until it goes on. Those who play see everything stop." : "It goes on where it stood.";
  if (await ask({ title, text, yes: paused ? "Pause" : "Go on" })) {
    await doIt(() => host.order(room, "pause", { paused }), paused ? `${room} stands still` : `${room} goes on`);
  }
}

export async function step(room) {
  const [min, max] = [1, 1200];
  const fields = [{ name: "ticks", label: `How many ticks, ${min} to ${max}`, value: "1", number: [min, max] }];
  const said = await ask({ title: `Let ${room} go on by some ticks?`, text: "It stands still, and does so again afterwards.", yes: "Step", fields });
  if (!said) return;
  const ticks = Number(said.ticks);
  if (!Number.isInteger(ticks) || ticks < min || ticks > max) say(`A room goes on by ${min} to ${max} ticks, not by "${said.ticks}"`, true);
  else await doIt(() => host.order(room, "step", { ticks }), `${room} goes on by ${ticks}`);
}

export async function kick(room, member) {
  const fields = [{ name: "why", label: "Why: this is told to the player", value: "an operator put you out" }];
  const said = await ask({ title: `Put ${member.name} out?`, text: `The player is put out of ${room}, and can come again.`, yes: "Put out", fields, isGrave: true });
  if (said) await doIt(() => host.order(room, "kick", { player: member.player, why: said.why }), `${member.name} is put out`);
}

export async function save(room, tick) {
  const when = tick === null ? "The last tick that is stored" : `Tick ${tick} (${roomTime(tick)})`;
  const fields = [{ name: "label", label: "Its name" }];
  const said = await ask({ title: "Save this moment as a snippet?", text: `${when} of ${room} is saved under a name, in place of an older one of that name.`, yes: "Save", fields });
  const body = tick === null ? { label: said?.label } : { label: said?.label, tick };
  return said ? doIt(() => host.order(room, "snippet", body), `${said.label} is saved`) : null;
}

export async function reset(room, label) {
  const snippets = await host.read(room, "snippets").catch(() => []);
  if (snippets.length === 0) {
    say("There is no snippet of this room: save one first.", true);
    return null;
  }
  const choices = snippets.map((snippet) => [snippet.label, `${snippet.label}: ${snippet.entities} entities, tick ${snippet.tick}`]);
  const fields = [{ name: "snippet", label: "To which", choices, value: label ?? choices[0][0] }];
  const text = "All who are in it see it at once. What was before stays in the ledger.";
  const said = await ask({ title: `Reset ${room}?`, text, yes: "Reset", fields, isGrave: true });
  return said ? doIt(() => host.order(room, "reset", { snippet: said.snippet }), `${room} is asked to go back to ${said.snippet}: the story tells once it has`) : null;
}

export async function revert(room, fact) {
  const text = `What fact ${fact.seq} (${fact.fact}) changed in ${room} is undone where nothing has changed it since.`;
  if (await ask({ title: `Undo this fact of ${room}?`, text, yes: "Undo", isGrave: true })) {
    await doIt(() => host.order(room, "revert", { fact: fact.seq }), `${room} is asked to undo fact ${fact.seq}: after its next tick the story tells what came of it`);
  }
}

/** What is wrong with the JSON of a fact, if anything is. */
function wrongWith(text) {
  const most = 16384;
  if (new TextEncoder().encode(text).length > most) return `A fact has at most ${most} bytes of JSON`;
  try {
    JSON.parse(text);
    return "";
  } catch (error) {
    return `That is no JSON: ${error.message}`;
  }
}

export async function event(room, facts) {
  if (facts.length === 0) {
    say("This game has no facts that could happen.", true);
    return null;
  }
  const fields = [
    { name: "name", label: "Which fact", choices: facts.map((name) => [name, name]), value: facts[0] },
    { name: "fact", label: "What it says, as JSON", value: "{}", check: wrongWith },
  ];
  const text = "No rule is asked whether it can be so. What it names must be there.";
  const said = await ask({ title: `Let a fact happen in ${room}?`, text, yes: "Let it happen", fields, isGrave: true });
  if (!said) return null;
  const body = `{"name": ${JSON.stringify(said.name)}, "fact": ${said.fact}}`;
  return doIt(() => host.order(room, "event", body), `${room} is asked to let ${said.name} happen: the story tells once it has`);
}

export async function close(room) {
  const fields = [{ name: "why", label: "Why: this is told to all who are in it", value: "an operator closed it" }];
  const said = await ask({ title: `Close ${room}?`, text: "All who are in it are put out. What is stored of it stays.", yes: "Close the room", fields, isGrave: true });
  return said ? doIt(() => host.close(room, said.why), `${room} closes`) : null;
}

export async function open(templates) {
  if (templates.length === 0) {
    say("This host has no templates to open rooms from.", true);
    return null;
  }
  const fields = [
    { name: "room", label: "Its name" },
    { name: "template", label: "From which template", choices: templates.map((name) => [name, name]), value: templates[0] },
  ];
  const said = await ask({ title: "Open a room?", text: "It is opened at once, and kept if this host keeps rooms.", yes: "Open", fields });
  return said ? doIt(() => host.open(said.room, said.template), `${said.room} is open`) : null;
}
