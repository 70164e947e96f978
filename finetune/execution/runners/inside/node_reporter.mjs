// A reporter of node's own test runner: a line of JSON for each test, behind the word of this run.
// It runs in the runner's process; the tests run in others, whose output does not come here.
import { readFileSync } from "node:fs";
import { relative } from "node:path";

const { word } = JSON.parse(readFileSync("/repo/.finetune/request.json", "utf8"));
const say = (entry) => `${word} ${JSON.stringify(entry)}\n`;
const BROKEN = new Set(["hookFailed", "cancelledByParent", "parentAlreadyFinished", "multipleCallbackInvocations"]);

function outcome(type, data) {
  if (data.skip !== undefined && data.skip !== false) return "skipped";
  if (data.todo !== undefined && data.todo !== false) return "skipped";
  if (type === "test:pass") return "passed";
  return BROKEN.has(data.details?.error?.failureType) ? "error" : "failed";
}

export default async function* report(source) {
  yield say({ started: `node ${process.version}` });
  const groups = new Map();
  const seen = new Map();
  for await (const { type, data } of source) {
    if (type === "test:start") {
      const names = (groups.get(data.file) ?? []).slice(0, data.nesting);
      groups.set(data.file, [...names, data.name]);
    }
    if (type !== "test:pass" && type !== "test:fail") continue;
    const file = relative("/repo", data.file ?? data.name);
    // the file itself: it could not be loaded, or its process died
    if (data.name === data.file || data.name === file) {
      if (type === "test:fail") yield say({ id: file, outcome: "error" });
      continue;
    }
    if (data.details?.type === "suite") continue;
    const names = [...(groups.get(data.file) ?? []).slice(0, data.nesting), data.name];
    const name = `${file}::${names.join(" > ")}`;
    const count = (seen.get(name) ?? 0) + 1;
    seen.set(name, count);
    yield say({ id: count === 1 ? name : `${name} (${count})`, outcome: outcome(type, data) });
  }
  yield say({ finished: "" });
}
