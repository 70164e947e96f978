// Which words two texts share: the longest common subsequence.

// Cells of the table that are worth the wait; beyond, lines are compared in place of words
const MOST_CELLS = 4_000_000;

/**
 * Parts of both texts in reading order, as [kind, text]: "same", "old" (in before alone), "new" (in after alone).
 */
export function diff(before, after) {
  const words = [split(before, /\s+|\w+|[^\s\w]/gu), split(after, /\s+|\w+|[^\s\w]/gu)];
  if (words[0].length * words[1].length <= MOST_CELLS) return compare(...words);
  const lines = [split(before, /[^\n]*\n|[^\n]+$/gu), split(after, /[^\n]*\n|[^\n]+$/gu)];
  return lines[0].length * lines[1].length <= MOST_CELLS ? compare(...lines) : [["old", before], ["new", after]];
}

function split(text, pattern) {
  return text.match(pattern) ?? [];
}

function compare(before, after) {
  let start = 0;
  while (start < before.length && start < after.length && before[start] === after[start]) start += 1;
  let end = 0;
  const room = Math.min(before.length, after.length) - start;
  while (end < room && before[before.length - 1 - end] === after[after.length - 1 - end]) end += 1;
  const parts = [];
  const add = (kind, word) => {
    if (parts.at(-1)?.[0] === kind) parts.at(-1)[1] += word;
    else parts.push([kind, word]);
  };
  before.slice(0, start).forEach((word) => add("same", word));
  middle(before.slice(start, before.length - end), after.slice(start, after.length - end), add);
  before.slice(before.length - end).forEach((word) => add("same", word));
  return parts;
}

function middle(before, after, add) {
  const width = after.length + 1;
  // shared[i, j]: how many words the ends from i and from j have in common
  const shared = new Uint16Array((before.length + 1) * width);
  for (let i = before.length - 1; i >= 0; i -= 1) {
    for (let j = after.length - 1; j >= 0; j -= 1) {
      shared[i * width + j] = before[i] === after[j]
        ? shared[(i + 1) * width + j + 1] + 1
        : Math.max(shared[(i + 1) * width + j], shared[i * width + j + 1]);
    }
  }
  let i = 0;
  let j = 0;
  while (i < before.length && j < after.length) {
    if (before[i] === after[j]) {
      add("same", before[i]);
      i += 1;
      j += 1;
    } else if (shared[(i + 1) * width + j] >= shared[i * width + j + 1]) {
      add("old", before[i]);
      i += 1;
    } else {
      add("new", after[j]);
      j += 1;
    }
  }
  before.slice(i).forEach((word) => add("old", word));
  after.slice(j).forEach((word) => add("new", word));
}
