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
    this.made = true;
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
    const names = talkative().map((run) => run.name).sort();
    const before = this.run;
    if (names.join("\n") !== this.names) {
      this.names = names.join("\n");
      const wanted = this.made ? before : this.wanted[0]; // "nobody" is a choice too
      this.runs.replaceChildren(...(this.none ? [el("option", { value: "" }, this.none)] : []), ...names.map((name) => el("option", { value: name }, name)));
      this.runs.value = names.includes(wanted) ? wanted : this.none ? "" : talkative()[0]?.name ?? "";
    }
    this.choose(Boolean(this.made) && before !== this.run);
  }

  // The checkpoints of the run that is chosen; another run begins at its latest.
  async choose(said = true) {
    const run = talkative().find((one) => one.name === this.run);
    const key = `${run?.saved}@${this.run}`;
    if (key !== this.key) {
      const same = this.key?.slice(this.key.indexOf("@") + 1) === this.run;
      const wanted = same ? this.checkpoint : this.wanted[0] === this.run ? this.wanted[1] : "latest";
      this.key = key;
      this.offer([[wanted, wanted]], wanted); // until more is known
      if (said) this.changed();
      const found = run ? await attempt(() => get(`/api/runs/${encodeURIComponent(this.run)}`)) : null;
      if (key !== this.key) return; // another one was chosen meanwhile
      if (run && !found) this.key = "";
      if (found) this.offer([["latest", "latest"], ...(found.has_best ? [["best", "best"]] : []), ...found.checkpoints.map((step) => [String(step), `step ${count(step)}`])], wanted);
    } else if (said) this.changed();
  }

  offer(options, wanted) {
    this.checkpoints.replaceChildren(...options.map(([value, text]) => el("option", { value }, text)));
    this.checkpoints.value = options.some(([value]) => value === wanted) ? wanted : "latest";
  }
}
