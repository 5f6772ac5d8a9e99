// All runs, live: their curves over each other, what they wrote, and in what they differ.
import { ALONG, Chart, COLOURS } from "./charts.js";
import { Columns, smooth } from "./columns.js";
import { attempt, count, duration, el, fixed, get, short, table } from "./dom.js";
import { changes, state } from "./state.js";

const CHARTS = [
  ["Loss", "nats per token", "loss"],
  ["Bits per byte", "validation", "bits_per_byte"],
  ["Learning rate", "", "learning_rate"],
  ["Gradient norm", "", "grad_norm"],
  ["Tokens per second", "", "tokens_per_second"],
  ["MFU", "%", "mfu", 100],
  ["Memory", "GiB", "memory", 1 / 2 ** 30],
];
const SEVERAL = 12; // runs that are compared at the most
const OFTEN = 5000; // milliseconds after which samples and scores are looked up again while something trains
const kept = { chosen: null, along: "step", log: false, keep: 0.9, view: null, columns: new Map(), colours: new Map() };

export function show(place) {
  const board = new Board(place);
  const update = () => board.update();
  changes.addEventListener("runs", update);
  update();
  return () => {
    changes.removeEventListener("runs", update);
    board.destroy();
  };
}

// A run keeps its colour while it is shown; the next gets one that is free.
function colour(name) {
  for (const other of kept.colours.keys()) if (!kept.chosen.includes(other)) kept.colours.delete(other);
  const used = [...kept.colours.values()];
  if (!kept.colours.has(name)) kept.colours.set(name, COLOURS.find((one) => !used.includes(one)) ?? COLOURS[used.length % COLOURS.length]);
  return kept.colours.get(name);
}

class Board {
  constructor(place) {
    this.place = place;
    this.sampled = new Map(); // which of its samples is looked at, where that is not the newest
    this.parts = new Map(); // what stands below the charts: {json, node}
    this.last = 0;
    this.busy = false;
  }

  destroy() {
    this.gone = true;
    clearTimeout(this.later);
    this.charts?.forEach((chart) => chart.destroy());
  }

  update() {
    if (!state.loaded) return; // nothing is known yet
    if (!state.runs.length) return this.empty();
    if (!this.charts) this.build();
    const names = state.runs.map((run) => run.name);
    kept.chosen = kept.chosen?.filter((name) => names.includes(name)) ?? [state.runs.find((run) => run.state !== "unreadable")?.name ?? names[0]];
    this.list();
    this.follow();
  }

  empty() {
    this.charts?.forEach((chart) => chart.destroy());
    this.charts = null;
    this.place.replaceChildren(el("div", { className: "card empty" },
      el("h1", {}, "No runs yet"),
      el("p", {}, `Nothing has been trained in ${state.folder}/ so far. For a first model in about three minutes:`), el("pre", { tabIndex: 0 }, "wikigpt demo"),
      el("p", {}, "Or step by step, with any language of Wikipedia:"), el("pre", { tabIndex: 0 }, "wikigpt prepare --source sample\nwikigpt train"),
      el("p", { className: "note" }, "As soon as one trains, it appears here by itself.")));
  }

  build() {
    const zoom = (view) => this.zoom(view);
    this.charts = CHARTS.map(([title, unit]) => new Chart(title, unit, zoom));
    this.runs = el("ul", { className: "runs" });
    this.lower = el("div");
    this.parts.clear();
    this.shown = "";
    const choice = (name, names, pick) => el("select", { onchange: pick }, Object.entries(names).map(([value, text]) => el("option", { value, selected: value === name }, text)));
    const smoothness = el("output", {}, fixed(kept.keep, 2));
    const move = (shift, factor) => () => {
      const [low, high] = kept.view ?? this.charts.find((chart) => chart.plot)?.extent() ?? [0, 1];
      const [middle, half] = [(low + high) / 2 + shift * (high - low), ((high - low) / 2) * factor];
      this.zoom([middle - half, middle + half]);
    };
    const tool = (label, text, onclick) => el("button", { className: "small", "aria-label": label, title: label, onclick }, text);
    this.place.replaceChildren(el("div", { className: "board" },
      el("aside", { "aria-label": "Runs" }, el("h1", {}, "Runs"), this.runs),
      el("div", {},
        el("div", { className: "row", role: "group", "aria-label": "How the curves are drawn" },
          el("label", {}, "along", choice(kept.along, ALONG, (event) => { kept.along = event.target.value; this.zoom(null); this.draw(); })),
          el("label", {}, "smoothing", el("input", { type: "range", min: 0, max: 0.995, step: 0.005, value: kept.keep, oninput: (event) => {
            kept.keep = Number(event.target.value); smoothness.textContent = fixed(kept.keep, 2); this.draw(); } }), smoothness),
          el("label", {}, el("input", { type: "checkbox", checked: kept.log, onchange: (event) => { kept.log = event.target.checked; this.draw(); } }), "log scale"),
          el("span", { className: "tools", role: "group", "aria-label": "Zoom" }, tool("Zoom in", "+", move(0, 0.5)), tool("Zoom out", "−", move(0, 2)),
            tool("Earlier", "◀", move(-0.25, 1)), tool("Later", "▶", move(0.25, 1)), tool("Show all", "all", () => this.zoom(null))),
          el("span", { className: "note" }, "Drag over a chart to zoom in; a double click shows all.")),
        el("div", { className: "charts" }, this.charts.map((chart) => chart.node)), this.lower)));
  }

  // The list is changed in place, so that whoever stands on a checkbox with the keyboard stays there.
  list() {
    const rows = new Map([...this.runs.children].map((row) => [row.dataset.run, row]));
    state.runs.forEach((run, n) => {
      const row = rows.get(run.name) ?? this.row(run);
      rows.delete(run.name);
      if (this.runs.children[n] !== row) this.runs.insertBefore(row, this.runs.children[n] ?? null);
      row.querySelector("input").checked = kept.chosen.includes(run.name);
      const badge = row.querySelector(".badge");
      badge.textContent = run.state;
      badge.className = `badge ${run.state}`;
      const bar = row.querySelector("progress");
      bar.max = run.total_steps || 1;
      bar.value = run.step || 0;
      row.querySelector(".what").replaceChildren(...(run.problem ? [run.problem] : this.figures(run)));
    });
    for (const row of rows.values()) row.remove();
  }

  row(run) {
    return el("li", { className: "card", "data-run": run.name },
      el("label", {}, el("input", { type: "checkbox", "aria-label": `Show ${run.name}`, onchange: (event) => this.choose(run.name, event.target.checked) }),
        el("i", { className: "swatch" , "data-swatch": run.name }), el("span", {}, el("b", {}, run.name), " ", el("span", { className: "badge" })),
        el("progress", { "aria-label": `Progress of ${run.name}` }), el("span", { className: "what" })));
  }

  figures(run) {
    const facts = [`${run.model_config} on ${run.data}, ${short(run.parameters)} parameters`, el("br"),
      `step ${count(run.step)} of ${count(run.total_steps)}, ${short(run.tokens)} tokens`, el("br"),
      `${fixed(run.bits_per_byte)} bits per byte, loss ${fixed(run.loss)}`];
    if (run.state === "training") {
      facts.push(el("br"), `${short(run.tokens_per_second)} tokens/s`);
      if (run.seconds_left !== null) facts.push(`, ${duration(run.seconds_left)} left`);
    }
    return facts;
  }

  choose(name, on) {
    kept.chosen = on ? [...kept.chosen, name] : kept.chosen.filter((other) => other !== name);
    this.follow();
  }

  zoom(view) {
    kept.view = view;
    this.charts.forEach((chart) => chart.zoom(view));
  }

  // Fetches what is new of the chosen runs; who asks meanwhile is served afterwards.
  async follow() {
    if (this.busy) return void (this.again = true);
    this.busy = true;
    do {
      this.again = false;
      const chosen = kept.chosen.filter((name) => state.runs.find((run) => run.name === name)?.state !== "unreadable");
      const fresh = await Promise.all(chosen.map((name) => attempt(() => this.fetch(name)))); // one that fails hinders no other
      if (this.gone || !this.charts) break;
      // What stands below is looked up when a run is chosen, saved or over, and now and then while it trains.
      const which = chosen.map((name) => { const run = state.runs.find((one) => one.name === name); return `${name} ${run?.state} ${run?.saved}`; }).join("\n");
      const other = which !== this.shown;
      this.shown = which;
      if (fresh.some(Boolean) || other) this.draw();
      clearTimeout(this.later);
      const wait = other ? 0 : Math.max(0, this.last + OFTEN - Date.now());
      if (other || fresh.some(Boolean) || this.waiting) this.waiting = true;
      if (this.waiting) this.later = setTimeout(() => attempt(() => this.describe(chosen)), wait);
    } while (this.again);
    this.busy = false;
  }

  async fetch(name) {
    if (!kept.columns.has(name)) kept.columns.set(name, new Columns(name));
    return kept.columns.get(name).update();
  }

  draw() {
    for (const swatch of this.runs.querySelectorAll(".swatch")) swatch.style.background = kept.chosen.includes(swatch.dataset.swatch) ? colour(swatch.dataset.swatch) : "transparent";
    this.charts.forEach((chart, n) => {
      const lines = kept.chosen.flatMap((name) => this.lines(name, ...CHARTS[n].slice(2)));
      chart.view = kept.view;
      chart.set(lines, kept.along, kept.log);
    });
  }

  lines(name, figure, times = 1) {
    const { train, validation } = kept.columns.get(name) ?? {};
    if (!train?.step) return [];
    const scaled = (column) => (times === 1 ? column : column.map((v) => v * times));
    const several = kept.chosen.length > 1 ? `${name}: ` : "";
    const lines = [];
    const own = colour(name);
    if (train[figure] && figure !== "learning_rate" && kept.keep > 0) {
      lines.push({ label: `${several}each step`, colour: own, alpha: 0.3, width: 1, x: train[kept.along], y: scaled(train[figure]) });
      lines.push({ label: `${several}smoothed`, colour: own, width: 2, x: train[kept.along], y: smooth(scaled(train[figure]), kept.keep) });
    } else if (train[figure]) lines.push({ label: `${several}training`, colour: own, x: train[kept.along], y: scaled(train[figure]) });
    if (validation[figure]) lines.push({ label: `${several}validation`, colour: kept.chosen.length > 1 ? own : COLOURS[own === COLOURS[1] ? 0 : 1], dots: true, dash: kept.chosen.length > 1 ? [6, 4] : undefined, x: validation[kept.along], y: validation[figure] });
    const last = validation.bigram_bits_per_byte.at(-1);
    const same = (other) => kept.columns.get(other)?.validation.bigram_bits_per_byte?.at(-1) === last;
    if (figure === "bits_per_byte" && validation.step.length && kept.chosen.find(same) === name) { // of the same tokens it is the same
      lines.push({ label: `${kept.chosen.every(same) ? "" : several}bigram`, colour: "#808080", dash: [3, 3], x: validation[kept.along], y: validation.step.map(() => last) });
    }
    return lines;
  }

  async describe(chosen) {
    this.last = Date.now();
    this.waiting = false;
    const turn = (this.turn = {}); // of several that are under way the last one counts
    const several = chosen.length > 1;
    const query = chosen.slice(0, SEVERAL).map((name) => `run=${encodeURIComponent(name)}`).join("&");
    const asked = [several ? get(`/api/compare?${query}`) : null, ...chosen.map((name) => get(`/api/runs/${encodeURIComponent(name)}`))];
    const [compared, ...found] = await Promise.all(asked).catch((error) => {
      this.shown = ""; // to be asked again
      throw error;
    });
    if (this.gone || turn !== this.turn) return;
    const parts = [];
    if (compared) parts.push(["compared", compared, () => comparison(compared)]);
    for (const one of found) parts.push([`written ${one.name}`, one.samples, () => this.written(one, several)], [`measured ${one.name}`, [one.evaluation, one.ladder], () => measured(one, several)]);
    for (const one of found) parts.push([`settings ${one.name}`, one.settings, () => settings(one)]);
    this.arrange(parts.map(([key, data, make]) => [key, JSON.stringify([data, several]), make]));
  }

  // Puts the parts below the charts; one that says what it said before stays as it is, with the focus and all.
  arrange(parts) {
    const same = parts.map(([key]) => key).join("\n") === [...this.parts.keys()].join("\n");
    const before = this.parts;
    this.parts = new Map(parts.map(([key, json, make]) => [key, before.get(key)?.json === json ? before.get(key) : { json, node: el("section", {}, make()) }]));
    if (!same) return this.lower.replaceChildren(...[...this.parts.values()].map((part) => part.node));
    for (const [key, { node }] of this.parts) {
      const old = before.get(key).node;
      if (old === node) continue;
      const focused = old.contains(document.activeElement);
      old.replaceWith(node);
      if (focused) node.querySelector("input, summary, [tabindex]")?.focus();
    }
  }

  // What it wrote for the same titles, step by step; at the newest until one looks at an older.
  written(one, several) {
    const samples = one.samples;
    if (!samples.length) return [];
    const at = this.sampled.get(one.name) ?? null;
    const place = at === null ? samples.length - 1 : Math.min(at, samples.length - 1);
    const box = el("div", { className: "samples" });
    const said = el("output", {});
    const draw = (n) => {
      said.textContent = samples[n][0];
      box.replaceChildren(...samples[n][1].map(([title, text]) => el("div", { className: "card", dir: "auto" }, el("b", {}, title), el("p", {}, text))));
    };
    draw(place);
    const slider = el("input", { type: "range", min: 0, max: samples.length - 1, value: place, "aria-label": `Step of ${one.name}'s samples`, oninput: (event) => {
      const n = Number(event.target.value);
      this.sampled.set(one.name, n === samples.length - 1 ? null : n);
      draw(n);
    } });
    return [el("h2", {}, several ? `What ${one.name} wrote` : "What it wrote"), el("label", {}, slider, said), box];
  }
}

function settings(one) {
  const rows = Object.entries(one.settings).map(([name, value]) => [name, value === null ? "–" : typeof value === "object" ? JSON.stringify(value) : value]);
  return [el("details", {}, el("summary", {}, `Settings of ${one.name}`), table(["setting", "value"], rows))];
}

function comparison(compared) {
  const rows = compared.rows.map((row) => [row.run, short(row.parameters), short(row.tokens), short(row.flops), row.seconds === null ? "–" : duration(row.seconds), fixed(row.loss), fixed(row.bits_per_byte), row.state]);
  const parts = [el("h2", {}, "Side by side"), table(["run", "parameters", "tokens", "FLOPs", "in steps", "loss", "bits per byte", "state"], rows, [1, 2, 3, 4, 5, 6])];
  if (!compared.same_articles) parts.push(el("p", { className: "note" }, "Their validation articles are not the same: their figures are of different texts."));
  if (compared.measure !== "loss") parts.push(el("p", { className: "note" }, "Their tokenizers differ: a loss per token cannot be compared, bits per byte can."));
  for (const pair of compared.paired)
    parts.push(el("p", {}, `${pair.other} needs ${fixed(pair.better_by, 4)} bits per byte less than ${pair.run} on the same ${count(pair.articles)} ${pair.split} articles` + (pair.interval ? ` (95%: ${fixed(pair.interval[0], 4)} to ${fixed(pair.interval[1], 4)})` : "") + "."));
  const differing = Object.entries(compared.differences);
  parts.push(el("h3", {}, differing.length ? "In what they differ" : "Their settings are the same"));
  if (differing.length) parts.push(table(["setting", ...compared.rows.map((row) => row.run)], differing.map(([name, values]) => [name, ...values.map((v) => (typeof v === "object" ? JSON.stringify(v) : v))])));
  return parts;
}

function measured(one, several) {
  const rows = Object.entries(one.evaluation).filter(([, record]) => record.bits_per_byte !== undefined)
    .map(([split, record]) => [split, count(record.step), fixed(record.bits_per_byte), record.bits_per_byte_interval ? record.bits_per_byte_interval.map((n) => fixed(n)).join(" to ") : "–", fixed(record.perplexity, 1)]);
  const parts = rows.length ? [el("h2", {}, several ? `How good ${one.name} is` : "How good it is"), table(["split", "step", "bits per byte", "95%", "perplexity"], rows, [1, 2, 4])] : [];
  if (one.ladder.rungs?.length) parts.push(el("h3", {}, "The ladder: bits per byte of the same articles"), table(["", "knows", "bits per byte"], one.ladder.rungs.map((rung) => [rung.name, rung.how, fixed(rung.bits_per_byte)]), [2]));
  return parts;
}
