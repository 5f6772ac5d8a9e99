// Data folders: articles and their tokens, what was left out and why, and the cleaner at work.
import { attempt, count, el, fixed, get, outside, post, table } from "./dom.js";

export function show(place, [name, what]) {
  attempt(async () => {
    const { data, folder } = await get("/api/data");
    if (!data.length) return place.replaceChildren(el("div", { className: "card empty" }, el("h1", {}, "No data yet"), el("p", {}, `Nothing is prepared in ${folder}/. The bundled sample takes seconds:`), el("pre", { tabIndex: 0 }, "wikigpt prepare --source sample"), cleaner("en")));
    const chosen = data.includes(name) ? name : data[0];
    const choice = el("select", { id: "folder", onchange: () => (location.hash = `#/data/${encodeURIComponent(choice.value)}`) }, data.map((one) => el("option", { value: one, selected: one === chosen }, one)));
    const browser = new Browser(chosen);
    const figures = el("div");
    place.replaceChildren(el("h1", {}, "Data"), el("div", { className: "row" }, el("label", { className: "above" }, "data folder", choice)), browser.node, figures);
    if (name) choice.focus(); // it was just chosen
    browser.search(0);
    if (what) browser.open(what);
    const found = await attempt(() => get(`/api/data/${encodeURIComponent(chosen)}`));
    if (found) figures.replaceChildren(...described(found));
  });
  return null;
}

class Browser {
  constructor(name) {
    this.base = `/api/data/${encodeURIComponent(name)}`;
    this.query = el("input", { type: "search", placeholder: "part of a title", oninput: () => (clearTimeout(this.later), (this.later = setTimeout(() => this.search(0), 250))) });
    this.split = el("select", { onchange: () => this.search(0) }, ["all", "train", "validation", "test"].map((one) => el("option", { value: one === "all" ? "" : one }, one)));
    this.list = el("ul", { className: "list" });
    this.said = el("p", { className: "note", role: "status" });
    this.back = el("button", { className: "small", onclick: () => this.search(this.offset - this.page) }, "Earlier");
    this.on = el("button", { className: "small", onclick: () => this.search(this.offset + this.page) }, "Later");
    this.article = el("div", { "aria-live": "polite" }, el("p", { className: "note" }, "Choose an article."));
    this.node = el("div", { className: "browse" },
      el("div", {}, el("div", { className: "row" }, el("label", { className: "above wide-field" }, "search", this.query), el("label", { className: "above" }, "split", this.split)), this.said, this.list, el("div", { className: "row" }, this.back, this.on)),
      this.article);
  }

  async search(offset) {
    this.aborter?.abort();
    this.aborter = new AbortController();
    const split = this.split.value ? `&split=${this.split.value}` : "";
    const found = await attempt(() => get(`${this.base}/articles?query=${encodeURIComponent(this.query.value)}${split}&offset=${Math.max(0, offset)}`, this.aborter.signal));
    if (!found) return;
    this.offset = found.offset;
    this.page = found.page;
    const last = Math.min(found.found, found.offset + found.page);
    this.said.textContent = found.found ? `${count(found.offset + 1)} to ${count(last)} of ${count(found.found)} articles` : "No title has that.";
    this.back.disabled = !found.offset;
    this.on.disabled = last >= found.found;
    this.list.replaceChildren(...found.articles.map((row) => el("li", {}, el("button", { onclick: (event) => this.open(row.id || row.title, event.currentTarget) }, row.title || "(untitled)", el("span", {}, `${row.split}, ${count(row.length)} tokens`)))));
  }

  async open(what, button) {
    for (const other of this.list.querySelectorAll("[aria-current]")) other.removeAttribute("aria-current");
    button?.setAttribute("aria-current", "true");
    this.opening?.abort();
    this.opening = new AbortController();
    const found = await attempt(() => get(`${this.base}/article?what=${encodeURIComponent(what)}`, this.opening.signal));
    if (!found) return;
    const { row, tokens } = found;
    const text = el("div", { className: "text", dir: "auto" });
    const show = (cut) => {
      text.className = cut ? "text tokens" : "text";
      text.replaceChildren(...(cut ? tokens.map(([id, piece], n) => el("span", { title: `token ${id}`, className: n === found.marked ? "marked" : "" }, piece)) : [tokens.map(([, piece]) => piece).join("")]));
    };
    show(false);
    const more = found.all_tokens > tokens.length ? ` The first ${count(tokens.length)} are shown.` : "";
    this.article.replaceChildren(el("article", { className: "card" },
      el("h2", {}, outside(row.title, row.url)),
      el("p", { className: "note" }, `${row.split}; ${count(found.all_tokens)} tokens, in ${row.shard} from ${count(row.offset)} on.${row.id ? ` Page ${row.id}` : ""}${row.revision ? `, revision ${row.revision}` : ""}${more}`),
      el("label", {}, el("input", { type: "checkbox", onchange: (event) => show(event.target.checked) }), "show tokens"), text));
  }
}

function described(found) {
  const { stats } = found;
  const most = Math.max(1, ...stats.histogram.map(([, , n]) => n));
  const bars = stats.histogram.flatMap(([low, high, n]) => {
    const bar = el("i");
    bar.style.width = `${(100 * n) / most}%`;
    return [el("span", {}, `${count(low)} to ${count(high - 1)}`), bar, el("span", {}, count(n))];
  });
  const dropped = Object.entries(found.dropped).map(([reason, n]) => [reason, count(n), (found.examples[reason] ?? []).join(", ")]);
  const parts = [el("h2", {}, "Figures"),
    table(["split", "articles", "tokens", "bytes"], Object.entries(stats.splits).map(([name, one]) => [name, count(one.articles), count(one.tokens), count(one.bytes)]), [1, 2, 3]),
    el("p", { className: "note" }, `${fixed(stats.bytes_per_token, 2)} bytes a token (${found.tokenizer.name}, ${count(found.tokenizer.vocab_size)} tokens). Made of ${found.source.origin}. Licence of the text: ${found.source.licence}.`),
    el("h3", {}, "Articles by length, in tokens"), el("div", { className: "bars" }, bars),
    el("h2", {}, "What was left out, and why"), dropped.length ? table(["filter", "pages", "for example"], dropped, [1]) : el("p", {}, "Nothing."),
    el("h2", {}, "What the cleaner did")];
  if (!found.before_and_after.length) parts.push(el("p", { className: "note" }, "This folder keeps no examples: its text came clean already."));
  for (const one of found.before_and_after)
    parts.push(el("details", {}, el("summary", {}, one.title), el("div", { className: "pair" }, el("pre", { tabIndex: 0, dir: "auto" }, one.before), el("pre", { tabIndex: 0, dir: "auto" }, one.after))));
  return [...parts, cleaner(found.wiki)];
}

// Any wikitext, as the cleaner would leave it.
function cleaner(wiki) {
  const input = el("textarea", { rows: 4, maxLength: 20000, value: "'''Luna''' is {{convert|3474|km|mi}} wide.<ref>A book</ref> See [[Moon|the article]]." });
  const out = el("pre", { tabIndex: 0, dir: "auto", "aria-live": "polite" });
  const clean = async () => {
    const found = await attempt(() => post("/api/clean", { wikitext: input.value, wiki }));
    if (found) out.textContent = found.text;
  };
  return el("section", {}, el("h3", {}, "Try it"), el("label", { className: "above" }, "wikitext", input), el("div", { className: "row" }, el("button", { onclick: clean }, "Clean")), out);
}
