// Inside a run: its architecture with all parameters, and what happens while it reads a text: surprise, attention, logit lens.
import { attempt, count, el, get, post, short, table, visible } from "./dom.js";
import { Pick } from "./pick.js";
import { state, whenThereIsOne } from "./state.js";
import { TokenText, alternatives } from "./text.js";

export function show(place) {
  const empty = el("div", { className: "card empty" }, el("h1", {}, "Nothing to look into yet"), el("p", {}, "Train a first model:"), el("pre", { tabIndex: 0 }, "wikigpt demo"));
  return whenThereIsOne(place, empty, (there) => new Inside(there));
}

class Inside {
  constructor(place) {
    const shared = state.text;
    this.ids = shared.ids.length ? shared.ids : null; // of the text that came along, until it is changed
    this.pick = new Pick("run", { run: shared.run, checkpoint: shared.checkpoint, changed: () => this.architecture() });
    const whole = shared.tokens ? shared.tokens.map((token) => token.text).join("") : shared.prompt || "# Moon\n\nThe Moon is";
    this.input = el("textarea", { rows: 4, maxLength: 20000, dir: "auto", value: whole, oninput: () => (this.ids = null) });
    this.plan = el("div");
    this.out = el("div", { "aria-live": "polite" });
    place.replaceChildren(el("h1", {}, "Inside"), this.pick.node, this.plan,
      el("h2", {}, "What happens while it reads"),
      el("label", { className: "above" }, "a text (that of the playground, or any)", this.input),
      el("div", { className: "row" }, el("button", { className: "main", onclick: () => this.look() }, "Look")), this.out);
    this.architecture();
    if (shared.ids.length) this.look();
  }

  destroy() {
    this.aborter?.abort();
    this.pick.destroy();
    this.text?.destroy();
  }

  async architecture() {
    const run = this.pick.run;
    const found = await attempt(() => get(`/api/runs/${encodeURIComponent(run)}/architecture`));
    if (!found || run !== this.pick.run) return;
    const parts = el("div", {}, el("p", { className: "note" }, "Choose a part of the picture."));
    const choose = (name, own) => parts.replaceChildren(el("h3", {}, name), table(["parameter", "shape", "numbers"], own.map(([p, shape, n]) => [p, shape.join(" × "), count(n)]), [1, 2]));
    const padding = found.padding ? ` (${found.padding} rows of the embedding only pad it and are not counted)` : "";
    this.plan.replaceChildren(el("h2", {}, "Architecture"),
      el("p", {}, `${count(found.total)} parameters${padding}; ${short(found.flops_per_token)} FLOPs to train on a token. Shape of ${found.config.arch === "gpt2" ? "GPT-2" : "Qwen3"}.`),
      el("div", { className: "beside" }, drawing(found, choose), parts));
  }

  async look() {
    const same = this.ids && this.pick.run === state.text.run; // another run has other tokens
    const prompt = same ? { prompt: state.text.prompt, ids: this.ids } : { prompt: this.input.value, ids: [] };
    this.aborter?.abort();
    const aborter = (this.aborter = new AbortController());
    this.out.replaceChildren(el("p", { className: "note" }, "Looking …"));
    const found = await attempt(() => post("/api/inside", { run: this.pick.run, checkpoint: this.pick.checkpoint, ...prompt }, aborter.signal));
    if (aborter.signal.aborted) return; // the page was left, or asked again
    this.text?.destroy();
    this.out.replaceChildren();
    if (!found) return;
    this.text = new TokenText("The text", (n) => alternatives(found.tokens[n]));
    found.tokens.forEach((token) => this.text.add(token));
    const bits = found.tokens.reduce((sum, token) => sum + token.bits, 0) / found.tokens.length;
    const cut = found.all_tokens > found.tokens.length ? `The first ${count(found.tokens.length)} of ${count(found.all_tokens)} tokens: so many fit in its context. ` : "";
    this.out.append(el("h3", {}, "Surprise"), el("p", { className: "note" }, `${cut}${bits.toFixed(2)} bits a token on the average; the redder, the more surprising.`), this.text.node, attention(found), lens(found));
  }
}

// The model as it is wired, from the bottom to the top; every block of the stack has the same parts.
function drawing({ parameters, config, total }, choose) {
  const of = (start) => parameters.filter(([name]) => name.startsWith(start));
  const block = (part) => of("blocks.").filter(([name]) => name.split(".")[2] === part);
  const modern = config.arch === "qwen3";
  const norm = modern ? "RMSNorm" : "LayerNorm";
  const grouped = config.n_kv_heads === config.n_heads ? "" : `, ${config.n_kv_heads} of keys and values`;
  const positions = of("pos_emb");
  const [wide, left, high, gap, skip] = [480, 60, 38, 14, 446];
  const middle = wide / 2;
  const parts = [];
  let y = 8;
  const stream = (from, to) => parts.unshift(el("svg:path", { d: `M${middle} ${from}V${to}` }));
  const box = (name, own, note = "") => {
    const n = own.reduce((sum, [, , size]) => sum + size, 0);
    const press = () => choose(name, own);
    const small = [own.length ? `${short(n)} parameters, ${((100 * n) / total).toFixed(1)}%` : "", note].filter(Boolean).join("; ");
    parts.push(el("svg:g", { tabindex: 0, role: "button", "aria-label": `${name}: ${small}`, onclick: press, onkeydown: (event) => (event.key === "Enter" || event.key === " ") && (event.preventDefault(), press()) },
      el("svg:rect", { x: left, y, width: wide - 2 * left, height: high, rx: 6, class: "filled" }),
      el("svg:text", { x: left + 10, y: y + 16 }, name), el("svg:text", { x: left + 10, y: y + 31, class: "count" }, small)));
    stream(y + high, y + high + gap);
    y += high + gap;
  };
  // A part of a block: it reads a normalised copy of the stream, and its answer is added to it.
  const branch = (name, own, note, own_norm) => {
    const plus = y + 9;
    parts.push(el("svg:circle", { cx: middle, cy: plus, r: 9, class: "filled" }), el("svg:text", { x: middle, y: plus + 5, class: "sign" }, "+"));
    y += 18;
    stream(y, y + gap);
    y += gap;
    box(name, own, note);
    box(norm, own_norm);
    parts.unshift(el("svg:path", { d: `M${middle} ${y - 4}H${skip - 20}V${plus}H${middle + 9}` }));
  };
  box(`Output head: ${count(config.vocab_size)} logits`, of("out_head"), of("out_head").length ? "" : "the token embedding, used backwards");
  box(`Final ${norm}`, of("final_norm"));
  const top = y;
  y += 30;
  parts.push(el("svg:text", { x: 24, y: top + 20, class: "count" }, `× ${config.n_layers} ${config.n_layers === 1 ? "block" : "blocks"}`));
  stream(top - gap, y);
  branch(modern ? `SwiGLU, ${count(config.ffn_dim)} wide` : `Feed-forward, ${count(config.ffn_dim)} wide, GELU`, block("ff"), "", block("norm2"));
  branch(`Attention: ${config.n_heads} heads of ${config.head_dim}${grouped}`, block("attn"), modern ? "QK-norm, RoPE" : "", block("norm1"));
  parts.unshift(el("svg:rect", { class: "around", x: 14, y: top, width: wide - 28, height: y - top, rx: 10 }));
  stream(y - gap, y + gap);
  y += gap;
  if (positions.length) box(`+ a vector for each of ${count(config.context_length)} positions`, positions);
  box(`Token embedding: ${count(config.vocab_size)} × ${config.emb_dim}`, of("tok_emb"));
  return el("svg:svg", { class: "arch", viewBox: `0 0 ${wide} ${y}`, width: wide, role: "group", "aria-label": "The model from its input (below) to its output (above)" }, parts);
}

function attention({ words, attention: layers }) {
  const shades = layers.map((layer) => layer.map((head) => Uint8Array.from(atob(head), (c) => c.charCodeAt(0))));
  const size = words.length;
  const title = el("h3", {});
  let weights = null;
  let here = size - 1;
  const heard = el("p", { className: "sr", role: "status" });
  const spans = words.map((word, t) => el("span", { onmouseenter: () => look(t) }, word || "·"));
  const look = (t) => {
    here = Math.max(0, Math.min(size - 1, t));
    spans.forEach((span, n) => {
      span.style.backgroundColor = n <= here ? `rgba(47, 126, 216, ${(0.75 * weights[here * size + n]) / 255})` : "";
      span.classList.toggle("here", n === here);
    });
  };
  const walk = (event) => {
    const step = { ArrowRight: 1, ArrowDown: 10, ArrowLeft: -1, ArrowUp: -10 }[event.key];
    if (!step) return;
    event.preventDefault();
    look(here + step);
    spans[here].scrollIntoView({ block: "nearest" });
    const most = words.map((word, n) => [weights[here * size + n], word]).slice(0, here + 1).sort((a, b) => b[0] - a[0]).slice(0, 3);
    heard.textContent = `${visible(words[here])} takes most from ${most.map(([weight, word]) => `${visible(word)} ${Math.round(weight / 2.55)}%`).join(", ")}`;
  };
  const buttons = shades.flatMap((layer, l) => layer.map((head, h) => {
    const canvas = el("canvas", { width: size, height: size });
    const image = new ImageData(size, size);
    head.forEach((shade, n) => image.data.set([47, 126, 216, Math.round(255 * Math.sqrt(shade / 255))], 4 * n));
    canvas.getContext("2d").putImageData(image, 0, 0);
    return el("button", { "aria-label": `block ${l}, head ${h}`, title: `block ${l}, head ${h}`, "aria-pressed": "false", onclick: (event) => choose(event.currentTarget, head, l, h) }, canvas);
  }));
  const choose = (button, head, l, h) => {
    buttons.forEach((other) => other.setAttribute("aria-pressed", other === button));
    title.textContent = `Attention: block ${l}, head ${h}`;
    weights = head;
    look(here);
  };
  const grid = el("div", { className: "heads", role: "group", "aria-label": "Heads: a row for each block" }, buttons);
  grid.style.gridTemplateColumns = `repeat(${layers[0].length}, max-content)`;
  choose(buttons[0], shades[0][0], 0, 0);
  return el("section", {}, title, el("p", { className: "note" }, `A picture for each block (down) and head (across): row t shows which tokens position t takes from. Choose one, then point at a token. Of the first ${size} tokens, the end of the text before among them.`),
    grid, el("div", { className: "text card", dir: "auto", tabIndex: 0, role: "group", "aria-label": "The text; arrow keys go from token to token", onkeydown: walk }, spans), heard);
}

function lens({ words, lens: rows }) {
  const cell = ([word, p]) => {
    const td = el("td", { title: `${(100 * p).toFixed(1)}%` }, visible(word));
    td.style.backgroundColor = `rgba(47, 126, 216, ${(0.6 * p).toFixed(2)})`;
    return td;
  };
  const body = rows.map((row, depth) => el("tr", {}, el("th", {}, depth === 0 ? "embeddings" : `after block ${depth - 1}`), row.map(cell))).reverse();
  body.push(el("tr", {}, el("th", {}, "read"), words.map((word) => el("td", {}, el("b", {}, visible(word))))));
  return el("section", {}, el("h3", {}, "Logit lens"), el("p", { className: "note" }, "What it would say next if it stopped there: the final norm and the head, applied early. The stronger the colour, the surer."),
    el("div", { className: "wide", tabIndex: 0, role: "region", "aria-label": "Logit lens" }, el("table", { className: "lens" }, body)));
}
