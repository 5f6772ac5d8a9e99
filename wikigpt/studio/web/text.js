// Text token by token: coloured by surprise, walked through with the arrow keys, and for each token what else might have come.
import { el, percent, surprise, visible } from "./dom.js";

let number = 0;

// `detail(n)` gives what the pop-up of token n holds besides its figures; null for nothing.
export class TokenText {
  constructor(label, detail) {
    this.detail = detail;
    this.tokens = [];
    this.coloured = true;
    this.here = -1;
    this.node = el("div", { className: "text card", tabIndex: 0, role: "group", dir: "auto", "aria-label": `${label}. Arrow keys go from token to token, Enter shows what else might have come.` });
    this.heard = el("p", { className: "sr", role: "status" }); // for who cannot see which token is outlined
    this.pop = el("div", { className: "pop", hidden: true, role: "dialog", "aria-label": "A token", id: `pop${number++}` });
    this.pinned = false;
    this.node.addEventListener("mouseover", (event) => !this.pinned && event.target !== this.node && this.open(this.place(event.target), false));
    this.node.addEventListener("click", (event) => event.target !== this.node && !String(getSelection()) && this.open(this.place(event.target), true));
    this.node.addEventListener("keydown", (event) => this.key(event));
    this.node.addEventListener("mouseleave", (event) => !this.pinned && !this.pop.contains(event.relatedTarget) && this.close());
    this.pop.addEventListener("mouseleave", () => !this.pinned && this.close());
    this.pop.addEventListener("keydown", (event) => event.key === "Escape" && (this.close(), this.node.focus()));
    this.elsewhere = (event) => this.pinned && !this.pop.contains(event.target) && !this.node.contains(event.target) && this.close();
    document.addEventListener("click", this.elsewhere);
    document.body.append(this.pop, this.heard);
  }

  destroy() {
    document.removeEventListener("click", this.elsewhere);
    this.pop.remove();
    this.heard.remove();
  }

  place(span) {
    return [...this.node.children].indexOf(span);
  }

  clear() {
    this.close();
    this.tokens = [];
    this.here = -1;
    this.node.replaceChildren();
  }

  // A token is {id, text, given} or, written by the model, {id, text, bits, p, rank, alternatives}.
  add(token) {
    this.tokens.push(token);
    const span = el("span", { className: token.given ? "given" : "" }, token.text);
    this.node.append(span);
    this.colour(span, token);
  }

  // More text for the last token.
  append(text) {
    this.tokens.at(-1).text += text;
    this.node.lastChild.append(text);
  }

  colour(span, token) {
    span.style.backgroundColor = this.coloured && token.bits !== undefined ? surprise(token.bits) : "";
  }

  recolour(on) {
    this.coloured = on;
    this.tokens.forEach((token, n) => this.colour(this.node.children[n], token));
  }

  mark(n, on) {
    this.node.children[n]?.classList.toggle("repeated", on);
  }

  key(event) {
    const step = { ArrowRight: 1, ArrowDown: 10, ArrowLeft: -1, ArrowUp: -10 }[event.key];
    if (step && this.tokens.length) {
      event.preventDefault();
      const n = Math.max(0, Math.min(this.tokens.length - 1, this.here + step));
      this.node.children[n].scrollIntoView({ block: "nearest" });
      this.open(n, false);
      const { text, p, bits } = this.tokens[n];
      this.heard.textContent = `${visible(text)}${p === undefined ? "" : `, ${percent(p)}, ${bits.toFixed(1)} bits`}`;
    } else if (event.key === "Enter" && this.here >= 0) {
      event.preventDefault();
      this.open(this.here, true);
      this.pop.querySelector("button")?.focus();
    } else if (event.key === "Escape") this.close();
  }

  open(n, pin) {
    if (n < 0 || !this.tokens[n]) return;
    this.node.children[this.here]?.classList.remove("here");
    this.here = n;
    this.pinned = pin;
    const span = this.node.children[n];
    span.classList.add("here");
    this.fill(n, pin);
    const line = [...span.getClientRects()].at(-1);
    if (!line) return;
    const wide = this.pop.offsetWidth;
    this.pop.style.left = `${Math.max(8, Math.min(line.left, document.documentElement.clientWidth - wide - 8)) + scrollX}px`;
    this.pop.style.top = `${line.bottom + scrollY - 1}px`; // right below: the mouse can get there
  }

  fill(n, pin) {
    const token = this.tokens[n];
    const parts = [el("p", {}, el("code", { dir: "auto" }, visible(token.text)), ` token ${token.id}`, token.given ? ", of the prompt" : "")];
    if (token.bits !== undefined) parts.push(el("p", {}, `${percent(token.p)}, ${token.bits.toFixed(2)} bits, number ${token.rank} of all`));
    const buttons = () => [...this.pop.querySelectorAll("button, a")];
    const at = buttons().indexOf(document.activeElement);
    this.pop.replaceChildren(...parts, ...(this.detail(n, pin) ?? []));
    if (at >= 0) buttons()[at]?.focus(); // who stands there stays there
    this.pop.hidden = false;
  }

  close() {
    this.pinned = false;
    this.pop.hidden = true;
    this.node.children[this.here]?.classList.remove("here");
  }
}

// The likeliest tokens at a place; `choose(id, text)` where one may be taken instead.
export function alternatives(token, choose) {
  if (!token.alternatives?.length) return [];
  return [el("p", { className: "note" }, choose ? "Choose one to go on from there:" : "It expected:"),
    el("ol", {}, token.alternatives.map(([id, text, p]) => {
      const bar = el("i");
      bar.style.width = `${100 * p}%`;
      const inside = [el("code", { dir: "auto" }, visible(text)), percent(p), bar];
      return el("li", {}, choose ? el("button", { className: "small", onclick: () => choose(id, text) }, inside) : [inside[0], " ", inside[1]]);
    }))];
}
