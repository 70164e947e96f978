// One model's column: its conversation, and what each answer took.

import { diff } from "./diff.mjs";

const LINES_AROUND = 3;
// a rate over less says nothing
const LEAST_SECONDS = 0.05;

/** A question and its answer as it grows. Times are in milliseconds of performance.now(). */
class Turn {
  text = "";
  version = "";
  numTokens = null;
  numPieces = 0;
  firstAt = null;
  lastAt = null;
  /** "running", "finished", "stopped" or "failed" */
  state = "running";

  constructor(asked, parent) {
    this.asked = asked;
    this.began = performance.now();
    this.element = parent.appendChild(element("div", "turn"));
    if (asked.message !== undefined) this.element.append(element("p", "question", asked.message));
    this.answer = this.element.appendChild(element("pre", "answer"));
    this.answer.ariaBusy = "true";
    this.words = document.createTextNode("");
    this.#show(this.words);
    this.note = this.element.appendChild(element("p", "note"));
    this.same = this.element.appendChild(element("p", "note"));
    this.figures = this.element.appendChild(element("p", "figures"));
  }

  add(text) {
    this.firstAt ??= performance.now();
    this.lastAt = performance.now();
    this.text += text;
    this.numPieces += 1;
    this.#drawSoon();
  }

  end(state, note = "") {
    this.state = state;
    this.#draw();
    this.answer.ariaBusy = "false";
    this.note.textContent = note;
    this.note.classList.toggle("bad", state === "failed");
  }

  /** Tokens of the answer, exact when the server counted them; the pieces that came are as many or fewer. */
  figuresText() {
    const first = this.firstAt === null ? null : this.firstAt - this.began;
    const count = this.numTokens ?? this.numPieces;
    const seconds = (this.lastAt - this.firstAt) / 1000;
    if (count === 0) return [];
    const parts = [`${this.numTokens === null ? "about " : ""}${count} ${count === 1 ? "token" : "tokens"}`];
    if (seconds >= LEAST_SECONDS) parts.push(`${((count - 1) / seconds).toFixed(1)} tokens/s`);
    if (first !== null) parts.push(`first after ${first < 1000 ? `${Math.round(first)} ms` : `${(first / 1000).toFixed(2)} s`}`);
    return parts;
  }

  /** Mark what differs from the text of other; null shows the text as it is. */
  showDifference(other) {
    this.same.textContent = other === this.text ? "No difference." : "";
    if (other === null) return this.#show(this.words);
    const parts = diff(other, this.text).map(([kind, text]) => {
      return kind === "same" ? text : element(kind === "old" ? "del" : "ins", "", text);
    });
    this.#show(...parts);
  }

  /** Show the answer's parts, those of an infill between the lines around it. */
  #show(...parts) {
    const { prefix, suffix } = this.asked;
    if (prefix === undefined) return this.answer.replaceChildren(...parts);
    const before = prefix.split("\n").slice(-LINES_AROUND).join("\n");
    const after = suffix.split("\n").slice(0, LINES_AROUND).join("\n");
    const filled = element("span", "filled");
    filled.append(...parts);
    this.answer.replaceChildren(element("span", "around", before), filled, element("span", "around", after));
  }

  #drawSoon() {
    this.frame ??= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    cancelAnimationFrame(this.frame);
    this.frame = null;
    this.words.data = this.text;
  }
}

export class Column {
  turns = [];

  /** name is what is asked; label what is shown while names are not, or null. */
  constructor(name, label) {
    this.name = name;
    this.label = label;
    this.element = element("article", "column");
    const header = this.element.appendChild(element("header"));
    this.title = header.appendChild(element("h2"));
    this.title.id = `column-${crypto.getRandomValues(new Uint32Array(1))[0]}`;
    this.version = header.appendChild(element("code", "version"));
    this.element.setAttribute("aria-labelledby", this.title.id);
    this.body = this.element.appendChild(element("div", "turns"));
    this.showName();
  }

  get shownName() {
    return this.label ?? this.name;
  }

  get last() {
    return this.turns.at(-1);
  }

  /** Whether its newest answer is whole. */
  get finished() {
    return this.last?.state === "finished";
  }

  /** All versions that answered in this conversation: more than one where the name moved meanwhile. */
  get versions() {
    return new Set(this.turns.map((turn) => turn.version).filter(Boolean));
  }

  /** The conversation as the server wants it, with a new message at its end; a failed turn was never said. */
  messages(message) {
    const said = this.turns.filter((turn) => turn.text && turn.state !== "failed");
    const before = said.flatMap((turn) => [
      { role: "user", content: turn.asked.message },
      { role: "assistant", content: turn.text },
    ]);
    return [...before, { role: "user", content: message }];
  }

  begin(asked) {
    const turn = new Turn(asked, this.body);
    this.turns.push(turn);
    return turn;
  }

  reveal() {
    this.label = null;
    this.showName();
  }

  /** Nothing that could give a name away is shown before the names are: neither the version nor the speed. */
  showName() {
    this.title.textContent = this.shownName;
    this.version.textContent = this.label === null ? (this.last?.version ?? "") : "";
    for (const turn of this.turns) {
      const parts = this.label === null ? turn.figuresText() : [];
      turn.figures.replaceChildren(...parts.map((part) => element("span", "", part)));
    }
  }

  /** Mark what differs from the same turns of reference, null for none; whether anything was compared. */
  compareWith(reference) {
    const others = this.turns.map((turn, place) => {
      const other = reference === this ? undefined : reference?.turns[place];
      return turn.state !== "running" && other?.state === "finished" ? other.text : null;
    });
    this.turns.forEach((turn, place) => turn.showDifference(others[place]));
    return others.some((text) => text !== null);
  }
}

function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}
