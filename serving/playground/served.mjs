// Which models there are, and where each adapter is in its life.

import { get, Refused } from "./endpoint.mjs";

/**
 * What is served now: models with the base first, others that are only in memory.
 * A key that may not list adapters sees the models, with no state.
 */
export async function look() {
  const [cards, adapters] = await Promise.all([get("v1/models"), states()]);
  const versions = new Map(adapters.versions.map((version) => [version.adapter_id, version]));
  const models = cards.data.map((card) => {
    const version = versions.get(card.root);
    return {
      name: card.id,
      isBase: card.parent === null,
      version: card.parent === null ? "" : card.root,
      state: card.parent === null ? "base" : (version?.state ?? "served"),
      active: version?.num_active ?? 0,
      context: card.max_model_len,
    };
  });
  const named = new Set(models.map((model) => model.version));
  const others = adapters.versions.filter((version) => !named.has(version.adapter_id));
  return { models, others: others.map((one) => ({ version: one.adapter_id, state: one.state, active: one.num_active })) };
}

async function states() {
  try {
    return await get("v1/adapters");
  } catch (error) {
    if (error instanceof Refused && error.status === 403) return { versions: [] };
    throw error;
  }
}

/** The list of models: rows stay where they are while what they say changes, so that focus and ticks stay too. */
export class ModelList {
  #rows = new Map();

  constructor(list, others, { most, chosen, moved }) {
    Object.assign(this, { list, others, most, chosen, moved });
  }

  /** Names that are ticked, in the order of the list. */
  get names() {
    return [...this.#rows].filter(([, row]) => row.box.checked).map(([name]) => name);
  }

  /** withCounts: how many requests each version has now, which can tell columns without names apart. */
  show({ models, others }, { withCounts }) {
    const first = this.#rows.size === 0;
    const names = new Set(models.map((model) => model.name));
    for (const [name, row] of this.#rows) {
      if (names.has(name)) continue;
      row.item.remove();
      this.#rows.delete(name);
      this.moved(`${name} is served no more.`);
    }
    for (const model of models) this.#showModel(withCounts ? model : { ...model, active: 0 }, first);
    this.others.hidden = others.length === 0;
    this.others.querySelector("ul").replaceChildren(...others.map((one) => versionItem(one)));
    this.#limit();
  }

  #showModel(model, first) {
    let row = this.#rows.get(model.name);
    if (!row) {
      row = modelRow(model.name, () => { this.#limit(); this.chosen(); });
      row.box.checked = first && this.names.length < 2;
      this.#rows.set(model.name, row);
      this.list.append(row.item);
      if (!first) this.moved(`${model.name} is served now.`);
    } else if (row.version.textContent !== versionText(model)) {
      this.moved(`${model.name} stands for ${model.version} now.`);
      row.item.classList.add("moved");
      setTimeout(() => row.item.classList.remove("moved"), 4000);
    }
    setText(row.version, versionText(model));
    showState(row.state, model);
  }

  #limit() {
    const full = this.names.length >= this.most;
    for (const { box } of this.#rows.values()) box.disabled = full && !box.checked;
  }
}

function versionText(model) {
  return model.isBase ? "no adapter" : model.version;
}

function modelRow(name, changed) {
  const item = document.createElement("li");
  const label = item.appendChild(document.createElement("label"));
  const box = label.appendChild(document.createElement("input"));
  box.type = "checkbox";
  box.addEventListener("change", changed);
  const words = label.appendChild(document.createElement("span"));
  setText(words.appendChild(document.createElement("b")), name);
  const version = words.appendChild(document.createElement("code"));
  const state = item.appendChild(document.createElement("span"));
  return { item, box, version, state };
}

function versionItem(one) {
  const item = document.createElement("li");
  setText(item.appendChild(document.createElement("code")), one.version);
  showState(item.appendChild(document.createElement("span")), one);
  return item;
}

function showState(element, { state, active }) {
  element.className = "state";
  element.dataset.state = state;
  setText(element, active ? `${state}, ${active} active` : state);
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
