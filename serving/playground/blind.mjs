// Columns without names, in an order that nobody chose, until the reader has voted.

import { post } from "./endpoint.mjs";

export const LETTERS = ["A", "B", "C", "D"];

/** A new list in random order. */
export function shuffled(list) {
  const drawn = [...list];
  for (let last = drawn.length - 1; last > 0; last -= 1) {
    const place = below(last + 1);
    [drawn[last], drawn[place]] = [drawn[place], drawn[last]];
  }
  return drawn;
}

/** A random integer below count, each as likely. */
function below(count) {
  const limit = 2 ** 32 - (2 ** 32 % count);
  for (;;) {
    const [value] = crypto.getRandomValues(new Uint32Array(1));
    if (value < limit) return value % count;
  }
}

/** Why there can be no vote on these columns, or "". */
export function hindrance(columns) {
  if (!columns.every((column) => column.finished)) return "There is no vote: not every answer is whole.";
  if (columns.some((column) => column.versions.size > 1)) {
    return "There is no vote: a name came to stand for another version meanwhile. Start over.";
  }
  if (new Set(columns.map((column) => column.last.version)).size < columns.length) {
    return "There is no vote: two columns are the same version.";
  }
  return "";
}

/** Offer the choices, and call choose with a place, "tie" or "none". */
export function offer(row, columns, choose) {
  const choices = columns.map((column, place) => [column.shownName, place]);
  const all = [...choices, [columns.length > 2 ? "All alike" : "Tie", "tie"], ["None is good", "none"]];
  row.replaceChildren(...all.map(([text, choice]) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.addEventListener("click", () => choose(choice));
    return button;
  }));
}

/** Hand the vote to the server; prompt null keeps what was asked out of it. */
export async function vote(columns, choice, { mode, prompt }) {
  const candidates = columns.map((column) => ({ name: column.name, version: column.last.version }));
  await post("v1/votes", { mode, candidates, choice, prompt });
}
