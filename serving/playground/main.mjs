// The page: what is asked of whom, and what happens to the answers.

import { hindrance, LETTERS, offer, shuffled, vote } from "./blind.mjs";
import { Column } from "./column.mjs";
import { keepKey, readKey, Refused, stream } from "./endpoint.mjs";
import { look, ModelList } from "./served.mjs";

const LOOK_EVERY_MS = 2000;
const MOST_COLUMNS = 4;
const UNTOLD = "No answer. Why would tell the name: ask again without Blind.";
const at = (id) => document.getElementById(id);

let columns = [];
// what the columns on the page were made for: another choice begins anew
let madeFor = "";
let running = null;
let voted = false;
let keyNeeded = false;
let numLooks = 0;

const models = new ModelList(at("models"), at("others"), { most: MOST_COLUMNS, chosen: () => complain(""), moved: say });

function say(text) {
  at("status").textContent = text;
}

function complain(text) {
  at("trouble").textContent = text;
}

function mode() {
  return new FormData(at("ask")).get("mode");
}

/** What the reader asks now. */
function question() {
  if (mode() === "chat") return { message: at("message").value };
  return { prefix: at("prefix").value, suffix: at("suffix").value };
}

function sampling() {
  const seed = at("seed").valueAsNumber;
  return {
    temperature: at("temperature").valueAsNumber,
    max_tokens: at("max-tokens").valueAsNumber,
    seed: Number.isNaN(seed) ? null : seed,
  };
}

/** What stands in the way of asking, told at the field that can change it; whether there is nothing. */
function ready() {
  complain("");
  const empty = mode() === "chat" ? !at("message").value.trim() : !(at("prefix").value + at("suffix").value).trim();
  if (empty) {
    complain("There is nothing to ask yet.");
    at(mode() === "chat" ? "message" : "prefix").focus();
    return false;
  }
  if (!models.names.length) {
    complain("Tick a model to ask.");
    return false;
  }
  if (at("blind").checked && models.names.length < 2) {
    complain("A blind comparison needs two models.");
    return false;
  }
  return at("ask").reportValidity();
}

/** Columns for what is ticked: those of the conversation, or new ones. */
function prepare() {
  const wanted = JSON.stringify([models.names, at("blind").checked, mode()]);
  if (wanted === madeFor && mode() === "chat" && !voted) return;
  const blind = at("blind").checked;
  const names = blind ? shuffled(models.names) : models.names;
  columns = names.map((name, place) => new Column(name, blind ? LETTERS[place] : null));
  madeFor = wanted;
  voted = false;
  at("columns").replaceChildren(...columns.map((column) => column.element));
  at("empty").hidden = true;
  listReferences();
}

async function ask() {
  if (running || !ready()) return;
  prepare();
  const asked = question();
  running = new AbortController();
  at("stop").disabled = false;
  at("go").disabled = true;
  at("vote").hidden = true;
  compare();
  at("message").value = "";
  // below the question on a narrow screen
  if (at("answers").offsetTop > at("ask").offsetTop) at("answers").scrollIntoView();
  say(`Asking ${columns.map((column) => column.shownName).join(", ")}.`);
  await Promise.all(columns.map((column) => answer(column, asked, running.signal)));
  const stopped = running.signal.aborted;
  // what nobody answered may be asked again
  if (columns.every((column) => column.last.state === "failed")) at("message").value ||= asked.message ?? "";
  running = null;
  at("stop").disabled = true;
  at("go").disabled = false;
  compare();
  refresh();
  say(stopped ? "Stopped." : "The answers are there.");
  if (columns.some((column) => column.label !== null)) offerVote(asked);
}

async function answer(column, asked, signal) {
  const isChat = asked.message !== undefined;
  const body = isChat ? { messages: column.messages(asked.message) } : { prompt: asked.prefix, suffix: asked.suffix };
  const turn = column.begin(asked);
  const path = isChat ? "v1/chat/completions" : "v1/completions";
  let reason = "";
  try {
    for await (const chunk of stream(path, { model: column.name, ...sampling(), ...body }, signal)) {
      const choice = chunk.choices[0];
      turn.version ||= chunk.system_fingerprint;
      if (chunk.usage) turn.numTokens = chunk.usage.completion_tokens;
      const text = choice?.delta?.content ?? choice?.text;
      if (text) turn.add(text);
      reason = choice?.finish_reason ?? reason;
    }
    turn.end("finished", reason === "length" ? "Cut off at max tokens." : turn.text ? "" : "An empty answer.");
  } catch (error) {
    if (error.name === "AbortError") turn.end("stopped", "Stopped.");
    else if (error instanceof Refused) turn.end("failed", column.label === null ? error.message : UNTOLD);
    else throw error;
  } finally {
    column.showName();
  }
}

function listReferences() {
  const chosen = at("reference").value;
  const options = columns.map((column, place) => new Option(column.shownName, place));
  at("reference").replaceChildren(new Option("none", ""), ...options);
  at("reference").value = columns[chosen] ? chosen : "";
}

function compare() {
  const reference = columns[at("reference").value] ?? null;
  const marked = columns.map((column) => column.compareWith(reference)).some(Boolean);
  at("legend").hidden = !marked;
  if (marked) at("legend").querySelector("del").textContent = `only in ${reference.shownName}`;
}

function offerVote(asked) {
  const hindered = hindrance(columns);
  at("vote").hidden = false;
  at("vote-question").textContent = hindered || "Which answer is best?";
  const row = at("vote").querySelector(".row");
  if (hindered) return row.replaceChildren();
  const prompt = asked.message === undefined
    ? [asked.prefix, asked.suffix]
    : columns[0].turns.map((turn) => turn.asked.message);
  offer(row, columns, async (choice) => {
    row.querySelectorAll("button").forEach((button) => { button.disabled = true; });
    try {
      await vote(columns, choice, { mode: asked.message === undefined ? "infill" : "chat", prompt: at("keep").checked ? prompt : null });
      reveal(choice);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      at("vote-question").textContent = error.message;
      row.querySelectorAll("button").forEach((button) => { button.disabled = false; });
    }
  });
}

function reveal(choice) {
  const letters = columns.map((column) => column.label);
  columns.forEach((column) => column.reveal());
  voted = true;
  const said = { tie: "You found them alike.", none: "You found none good." }[choice]
    ?? `You chose ${letters[choice]}.`;
  const names = columns.map((column, place) => `${letters[place]} was ${column.name}`).join(", ");
  at("vote-question").textContent = `${said} ${names}.`;
  at("vote").querySelector(".row").replaceChildren();
  columns.forEach((column, place) => column.element.classList.toggle("chosen", place === choice));
  say(`${said} ${names}.`);
  listReferences();
  compare();
  at("vote-question").focus();
}

function startOver() {
  running?.abort();
  columns = [];
  madeFor = "";
  at("columns").replaceChildren();
  at("vote").hidden = true;
  at("legend").hidden = true;
  at("empty").hidden = false;
  listReferences();
  say("The page is empty.");
}

function showMode() {
  const isChat = mode() === "chat";
  at("chat-fields").hidden = !isChat;
  at("infill-fields").hidden = isChat;
}

async function refresh() {
  numLooks += 1;
  const number = numLooks;
  try {
    const served = await look();
    // the answer to an older question, or to an older key
    if (number !== numLooks) return;
    models.show(served, { withCounts: columns.every((column) => column.label === null) });
    const base = served.models.find((model) => model.isBase);
    at("base").textContent = base ? `${base.name}, ${base.context.toLocaleString("en")} tokens of context` : "";
    showAccess(false);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (number !== numLooks) return;
    at("base").textContent = error.message;
    showAccess(error.status === 401 || error.status === 403);
  }
}

/** Open the field for the key once when one turns out to be needed: whoever closes it wants it closed. */
function showAccess(needed) {
  if (needed && !keyNeeded) at("access").open = true;
  keyNeeded = needed;
  at("access-state").textContent = needed ? "A key is needed" : readKey() ? "Key in use" : "Key";
}

async function keepLooking() {
  for (;;) {
    if (document.visibilityState === "visible") await refresh();
    await new Promise((done) => setTimeout(done, LOOK_EVERY_MS));
  }
}

at("ask").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
at("ask").addEventListener("change", (event) => { if (event.target.name === "mode") showMode(); });
at("stop").addEventListener("click", () => running?.abort());
at("clear").addEventListener("click", startOver);
at("reference").addEventListener("change", compare);
at("blind").addEventListener("change", () => { at("keep-line").hidden = !at("blind").checked; });
at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepKey(at("key").value.trim());
  at("key").value = "";
  at("access").open = false;
  // a key that does not do is asked for once more
  keyNeeded = false;
  refresh();
});
at("forget").addEventListener("click", () => { keepKey(""); refresh(); });
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    at("ask").requestSubmit();
  } else if (event.key === "Escape" && at("access").open) {
    at("access").open = false;
    at("access").querySelector("summary").focus();
  } else if (event.key === "Escape") {
    running?.abort();
  }
});
if (/Mac|iPhone|iPad/.test(navigator.userAgent)) at("go-key").textContent = "⌘ ↵";
showMode();
keepLooking();
