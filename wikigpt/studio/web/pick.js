// Choosing a run and one of its checkpoints.
import { attempt, count, el, get } from "./dom.js";
import { changes, talkative } from "./state.js";

export class Pick {
  constructor(label, { none = "", run = "", checkpoint = "latest", changed = () => {} } = {}) {
    Object.assign(this, { none, changed });
    this.runs = el("select", { "aria-label": label, onchange: () => this.choose() });
    this.checkpoints = el("select", { "aria-label": `checkpoint (${label})`, onchange: changed });
    this.node = el("div", { className: "row" }, el("label", { className: "above" }, label, this.runs), el("label", { className: "above" }, "checkpoint", this.checkpoints));
    this.wanted = [run, checkpoint];
    this.update = () => this.fill();
    changes.addEventListener("runs", this.update);
    this.fill();
  }

  destroy() {
    changes.removeEventListener("runs", this.update);
  }

  get run() {
    return this.runs.value;
  }

  get checkpoint() {
    return this.checkpoints.value || "latest";
  }

  // The list changes only where runs came or went: an open one would close.
  fill() {
    const names = talkative().map((run) => run.name);
    if (names.join("\n") !== this.names) {
      this.names = names.join("\n");
      const before = this.run || this.wanted[0];
      this.runs.replaceChildren(...(this.none ? [el("option", { value: "" }, this.none)] : []), ...names.map((name) => el("option", { value: name }, name)));
      this.runs.value = names.includes(before) ? before : this.none ? "" : names[0] ?? "";
    }
    this.choose(false);
  }

  async choose(said = true) {
    const run = talkative().find((one) => one.name === this.run);
    const key = `${this.run}@${run?.saved}`;
    if (key !== this.key) {
      this.key = key;
      const found = this.run ? await attempt(() => get(`/api/runs/${encodeURIComponent(this.run)}`)) : null;
      const before = this.checkpoints.value || this.wanted[1];
      const options = found ? [["latest", "latest"], ...(found.has_best ? [["best", "best"]] : []), ...found.checkpoints.map((step) => [String(step), `step ${count(step)}`])] : [];
      this.checkpoints.replaceChildren(...options.map(([value, text]) => el("option", { value }, text)));
      this.checkpoints.value = options.some(([value]) => value === before) ? before : "latest";
      this.checkpoints.disabled = !found;
    }
    if (said) this.changed();
  }
}
