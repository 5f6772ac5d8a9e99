// Talking to a run: text streams in token by token, and every token can be asked what else it might have been.
import { attempt, count, el, fixed, outside, post, say, stream } from "./dom.js";
import { Pick } from "./pick.js";
import { state, whenThereIsOne } from "./state.js";
import { TokenText, alternatives } from "./text.js";

const LISTED = 8; // passages that are listed
const usual = { max_gen: 200, temperature: 0.8 }; // where a field is empty
const settings = { max_gen: 200, temperature: 0.8, top_k: "", top_p: "", seed: "", other: ["", "latest"], coloured: true, title: "" };

export function show(place) {
  const empty = el("div", { className: "card empty" }, el("h1", {}, "Nobody to talk to yet"),
    el("p", {}, "A run can be talked to as soon as it has saved its first checkpoint. To make one:"), el("pre", { tabIndex: 0 }, "wikigpt demo"));
  return whenThereIsOne(place, empty, (there) => new Playground(there));
}

class Playground {
  constructor(place) {
    const shared = state.text;
    this.picks = [new Pick("run", { run: shared.run, checkpoint: shared.checkpoint }), new Pick("compare with", { none: "nobody", run: settings.other[0], checkpoint: settings.other[1], changed: () => this.arrange() })];
    this.sides = [new Side(this, 0), new Side(this, 1)];
    this.title = el("input", { type: "text", value: settings.title, placeholder: "The lighthouse of Skarholm", oninput: () => (settings.title = this.title.value), onkeydown: (event) => event.key === "Enter" && this.article() });
    this.prompt = el("textarea", { value: shared.prompt, rows: 3, maxLength: 20000, dir: "auto", onkeydown: (event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && (event.preventDefault(), this.write()) });
    this.writing = el("button", { className: "main", onclick: () => this.write() }, "Write");
    this.stopping = el("button", { onclick: () => this.stop(), disabled: true }, "Stop");
    this.status = el("p", { className: "note", role: "status" });
    const numeric = (name, label, more) => {
      const input = el("input", { type: "number", placeholder: usual[name], ...more, value: settings[name], oninput: () => (settings[name] = input.value) });
      this.fields.push([label, input]);
      return el("label", { className: "above" }, label, input);
    };
    this.fields = [];
    place.replaceChildren(
      el("h1", {}, "Playground"),
      el("div", { className: "card" },
        el("div", { className: "row" }, this.picks.map((pick) => pick.node)),
        el("div", { className: "row" },
          el("label", { className: "above wide-field" }, "title of an article that does not exist", this.title),
          el("button", { onclick: () => this.invent(), title: "Let the model invent a title" }, dice(), " Invent one"),
          el("button", { className: "main", onclick: () => this.article() }, "Write the article")),
        el("label", { className: "above" }, "or any beginning (empty: a new article, whatever it likes)", this.prompt),
        el("div", { className: "row" },
          numeric("temperature", "temperature", { min: 0, max: 100, step: "any" }), numeric("top_k", "top-k", { min: 1, step: 1, placeholder: "all" }),
          numeric("top_p", "top-p", { min: 0.000001, max: 1, step: "any", placeholder: "all" }), numeric("max_gen", "tokens at most", { min: 1, max: 4096, step: 1 }),
          numeric("seed", "seed", { step: 1, placeholder: "drawn" }), this.writing, this.stopping,
          el("label", {}, el("input", { type: "checkbox", checked: settings.coloured, onchange: (event) => this.colour(event.target.checked) }), "colour by surprise")),
        this.status),
      el("div", { className: "sides" }, this.sides.map((side) => side.node)));
    this.arrange();
    if (shared.ids.length) this.sides[0].restore();
  }

  destroy() {
    this.stop();
    this.picks.forEach((pick) => pick.destroy());
    this.sides.forEach((side) => side.text.destroy());
  }

  arrange() {
    settings.other = [this.picks[1].run, this.picks[1].checkpoint];
    this.sides[1].node.hidden = !this.picks[1].run;
    if (!this.picks[1].run) {
      this.sides[1].stop();
      this.sides[1].said = "";
      this.tell();
    }
    this.picks[1].node.classList.toggle("alone", !this.picks[1].run);
  }

  colour(on) {
    settings.coloured = on;
    this.sides.forEach((side) => side.text.recolour(on));
  }

  stop() {
    this.sides.forEach((side) => side.stop());
  }

  article() {
    const title = this.title.value.trim();
    if (!title) return void say("Give the article a title, or let the model invent one.");
    this.prompt.value = `# ${title}\n\n`;
    this.write();
  }

  async invent() {
    const found = await attempt(() => post("/api/title", { run: this.picks[0].run, checkpoint: this.picks[0].checkpoint }));
    if (!found) return;
    this.title.value = settings.title = found.title;
    this.status.textContent = { true: "That one exists: every title that it invented does.", false: "No article of its training data is called so.", null: "" }[found.known];
  }

  write() {
    const wrong = this.fields.find(([, input]) => !input.validity.valid);
    if (wrong) return void say(`${wrong[0]}: ${wrong[1].validationMessage}`);
    say("");
    const seed = settings.seed === "" ? Math.floor(Math.random() * 10000) : Number(settings.seed);
    for (const side of this.sides) {
      const { run, checkpoint } = this.picks[side.number];
      if (run) side.write({ run, checkpoint, prompt: this.prompt.value, ids: [], seed });
    }
  }

  // What both sides are at, and which buttons there are.
  tell() {
    const busy = this.sides.filter((side) => side.aborter);
    this.stopping.disabled = !busy.length;
    this.status.textContent = busy.length ? "Writing …" : this.sides.map((side) => side.said).filter(Boolean).join(" · ");
  }
}

function dice() {
  const dots = [[6, 6], [12, 12], [18, 18], [6, 18], [18, 6]].map(([cx, cy]) => el("svg:circle", { cx, cy, r: 2.2 }));
  return el("svg:svg", { class: "dice", viewBox: "0 0 24 24", width: 18, height: 18, "aria-hidden": "true" }, el("svg:rect", { x: 1.5, y: 1.5, width: 21, height: 21, rx: 5 }), dots);
}

// One text and whose it is. `asked` is what it was made from: going on, searching and looking inside mean that run and checkpoint
// ("latest": the newest by then), whatever is chosen above meanwhile.
class Side {
  constructor(page, number) {
    Object.assign(this, { page, number, aborter: null, said: "", asked: null, search: null, passages: null });
    this.text = new TokenText("What it wrote", (n, pin) => this.detail(n, pin));
    this.text.coloured = settings.coloured;
    this.head = el("h2", {});
    this.found = el("div");
    const tool = (label, onclick) => el("button", { className: "small", onclick }, label);
    this.tools = el("div", { className: "row", hidden: true }, tool("Go on", () => this.write({ ...this.asked, ids: this.ids, seed: this.asked.seed + 1 })),
      tool("Where has it read that?", () => this.again()), tool("Look inside", () => this.inside()), tool("Copy", () => this.copy()));
    this.node = el("section", { "aria-label": number ? "Second text" : "Text", hidden: Boolean(number) }, this.head, this.text.node, this.tools, this.found);
  }

  get ids() {
    return this.text.tokens.filter((token) => !token.prompt).map((token) => token.id);
  }

  stop() {
    this.aborter?.abort();
  }

  // `ids` stand behind the prompt already; `tokens` are what is known of them. The old text stays until the new one begins.
  async write(asked, tokens = this.text.tokens.filter((token) => !token.prompt)) {
    this.stop();
    const aborter = (this.aborter = new AbortController());
    this.page.tell();
    const number = (value, usually = null) => (value === "" ? usually : Number(value));
    const how = { max_gen: number(settings.max_gen, usual.max_gen), temperature: number(settings.temperature, usual.temperature), top_k: number(settings.top_k), top_p: number(settings.top_p) };
    let [began, ended] = [false, null];
    await attempt(async () => {
      for await (const event of stream("/api/generate", { ...asked, ...how }, aborter.signal)) {
        if (this.aborter !== aborter) return;
        if (event.start) began = this.begin(event.start, asked, tokens);
        else if (event.end) ended = this.end(event.end);
        else this.text.add(event);
      }
    });
    if (this.aborter !== aborter) return; // another one has begun meanwhile
    this.aborter = null;
    this.text.node.classList.remove("writing");
    if (began) {
      this.search = this.passages = null; // what was searched while it was written was not all of it
      const written = this.text.tokens.filter((token) => !token.given).length - asked.ids.length;
      this.said = ended ? `${count(ended.tokens)} tokens in ${fixed(ended.seconds, 1)} s (${fixed(ended.tokens / ended.seconds, 0)} a second), ${ended.why === "stop" ? "then it ended the article" : "as many as asked"}; seed ${asked.seed}` : `stopped after ${count(written)} tokens; seed ${asked.seed}`;
    } else this.said = "nothing was written";
    if (this.number === 0 && this.asked) this.share();
    if (this.node.hidden) this.said = "";
    this.page.tell();
  }

  begin({ model, prompt }, asked, tokens) {
    this.text.clear();
    this.found.replaceChildren();
    Object.assign(this, { asked, search: null, passages: null });
    this.head.textContent = model;
    this.text.node.classList.add("writing");
    const behind = prompt.length - asked.ids.length;
    prompt.forEach(([id, text], n) => this.text.add(n < behind ? { id, text, given: true, prompt: true } : { ...tokens[n - behind], id, text }));
    this.tools.hidden = false;
    return true;
  }

  // What is left of a character that was never finished stands with the last token.
  end(end) {
    if (end.text && this.text.tokens.length) this.text.append(end.text);
    return end;
  }

  share() {
    state.text = { ...this.asked, ids: this.ids, tokens: this.text.tokens, head: this.head.textContent };
  }

  // The text as it was when one comes back from another page.
  restore() {
    const { tokens, head, ...asked } = state.text;
    this.asked = asked;
    this.head.textContent = head;
    tokens.forEach((token) => this.text.add(token));
    this.tools.hidden = false;
  }

  detail(n, pin) {
    const token = this.text.tokens[n];
    const parts = token.given ? [] : alternatives(token, (id, text) => this.instead(n, id, text));
    if (!pin || this.aborter) return parts;
    if (this.passages) return [...parts, ...this.repeats(n)];
    if (!this.search) this.look().then(() => this.passages && this.text.pinned && this.text.here === n && this.text.fill(n, true));
    return parts;
  }

  instead(n, id, text) {
    const own = this.text.tokens.slice(0, n).filter((token) => !token.prompt);
    const { alternatives } = this.text.tokens[n];
    const place = alternatives.findIndex(([other]) => other === id);
    const p = alternatives[place][2];
    const tokens = [...own, { id, text, p, bits: -Math.log2(p), rank: place + 1, alternatives }];
    this.text.close();
    this.write({ ...this.asked, ids: tokens.map((token) => token.id) }, tokens);
    this.text.node.focus();
  }

  // By the button: also where it failed before.
  again() {
    if (this.aborter || !this.asked) return;
    if (!this.passages) this.search = null;
    this.look();
  }

  // Which passages stand in the training text, and where: asked once for a text, also where that fails.
  look() {
    this.search ??= this.find(this.asked, this.ids);
    return this.search;
  }

  async find({ run, checkpoint, prompt }, ids) {
    const asked = this.asked;
    this.found.replaceChildren(el("p", { className: "note", role: "status" }, "Searching the training text …"));
    const found = await post("/api/passages", { run, checkpoint, prompt, ids }).catch((error) => ({ problem: error.message }));
    if (asked !== this.asked) return; // another text stands here now
    this.found.replaceChildren();
    if (found.problem) return void this.found.append(el("p", { className: "note" }, found.problem));
    this.passages = found.passages;
    for (const one of found.passages) for (let n = one.start; n < one.start + one.tokens; n++) this.text.mark(n, true);
    const longest = [...found.passages].sort((a, b) => b.tokens - a.tokens);
    const more = longest.length > LISTED ? [el("p", { className: "note" }, `And ${longest.length - LISTED} shorter ones: they are underlined.`)] : [];
    this.found.append(el("h3", {}, "Where it has read that"), longest.length ? el("ul", {}, longest.slice(0, LISTED).map((one) => el("li", {}, ...this.passage(one)))) :
      el("p", {}, `Nowhere: no ${found.shortest} tokens in a row stand in its training text.`), ...more);
  }

  repeats(n) {
    const here = this.passages.filter((one) => one.start <= n && n < one.start + one.tokens);
    return here.length ? here.map((one) => el("p", {}, "Its training text holds ", ...this.passage(one))) : [el("p", { className: "note" }, "Stands in no long passage of its training text.")];
  }

  passage(one) {
    const at = one.revision ? ` (revision ${one.revision})` : "";
    return [el("q", { dir: "auto" }, one.text.trim()), `: ${count(one.tokens)} tokens, in `, outside(one.title, one.url), at];
  }

  inside() {
    this.share();
    location.hash = "#/inside";
  }

  // Without https a browser gives no clipboard to pages of other machines.
  async copy() {
    if (!navigator.clipboard) return void say("This browser lets only pages of this machine copy: select the text instead.");
    const copied = await attempt(() => navigator.clipboard.writeText(this.text.tokens.map((token) => token.text).join("")).then(() => true));
    if (copied) this.page.status.textContent = "Copied.";
  }
}
