// What every page needs: elements, questions to the server, numbers in words. Text is only ever set as text, never as HTML.

export function el(tag, attributes = {}, ...children) {
  const node = tag.includes(":") ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && !tag.includes(":") && name !== "list") node[name] = value;
    else if (value !== undefined && value !== null) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

// A mistake, said where everyone sees it, until it is put away or something works again.
export function say(problem) {
  const box = document.getElementById("said");
  box.hidden = !problem;
  if (problem) box.replaceChildren(problem, el("button", { className: "small", textContent: "Close", onclick: () => say("") }));
}

async function checked(response) {
  if (response.ok) return response;
  const found = await response.json().catch(() => ({}));
  throw new Error(found.error?.message ?? `The studio answered with ${response.status}.`);
}

export async function get(path, signal) {
  return (await checked(await fetch(path, { signal }))).json();
}

export async function getBytes(path) {
  return (await checked(await fetch(path))).arrayBuffer();
}

function asked(path, body, signal) {
  return fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), signal });
}

export async function post(path, body, signal) {
  return (await checked(await asked(path, body, signal))).json();
}

// Server-sent events of a POST, one by one.
export async function* stream(path, body, signal) {
  const reader = (await checked(await asked(path, body, signal))).body.pipeThrough(new TextDecoderStream()).getReader();
  let left = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (left + value).split("\n\n");
    left = parts.pop();
    for (const part of parts) {
      if (!part.startsWith("data: ") || part === "data: [DONE]") continue;
      const event = JSON.parse(part.slice(6));
      if (event.error) throw new Error(event.error.message);
      yield event;
    }
  }
}

// Runs what may fail; a mistake is said, and one that we made by stopping is none.
export async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    if (error.name !== "AbortError") say(error.message === "Failed to fetch" ? "The studio does not answer; is it still running?" : error.message);
    return undefined;
  }
}

const whole = new Intl.NumberFormat("en");
export const count = (n) => whole.format(Math.round(n));

export function short(n) {
  if (n === null || n === undefined || Number.isNaN(n)) return "–";
  const size = Math.abs(n);
  for (const [unit, sign] of [[1e21, "Z"], [1e18, "E"], [1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (size >= unit) return `${+(n / unit).toPrecision(3)}${sign}`;
  return size && size < 1e-3 ? n.toExponential(1) : `${+n.toPrecision(4)}`;
}

export function spaced(n, spacing) {
  const digits = Math.max(0, Math.min(8, Math.ceil(Math.log10(Math.abs(n) || 1) - Math.log10(spacing))));
  return digits <= 3 ? short(n) : new Intl.NumberFormat("en", { maximumFractionDigits: Math.max(0, Math.min(8, Math.ceil(-Math.log10(spacing)))) }).format(n);
}

export const fixed = (n, digits = 3) => (n === null || n === undefined ? "–" : n.toFixed(digits));

// `spacing` is that to the next number which must look different.
export function duration(seconds, spacing = seconds < 3600 ? 1 : 60) {
  const digits = Math.max(0, Math.min(6, Math.ceil(-Math.log10(spacing))));
  if (seconds < 60 || spacing < 1) return `${seconds.toFixed(digits)} s`;
  const s = Math.round(seconds);
  if (spacing < 60 && s >= 3600 && s < 172800) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min ${s % 60} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${+(s / 86400).toPrecision(3)} days`;
}

export const percent = (p) => (p >= 0.0995 ? `${(100 * p).toFixed(0)}%` : p >= 0.001 ? `${(100 * p).toFixed(1)}%` : `${(100 * p).toPrecision(1)}%`);
export const visible = (text) => (text === "" ? "·" : text.replace(/\n/g, "⏎").replace(/^ | $/g, "␣"));

export function table(head, rows, numbers = []) {
  const cell = (tag, value, n) => el(tag, { className: numbers.includes(n) ? "n" : "" }, value instanceof Node ? value : String(value ?? "–"));
  return el("div", { className: "wide", tabIndex: 0, role: "region", ariaLabel: head.filter(Boolean).join(", ") || "Table" },
    el("table", {},
      el("thead", {}, el("tr", {}, head.map((name, n) => cell("th", name, n)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map((value, n) => cell(n ? "td" : "th", value, n)))))));
}

export function save(name, blob) {
  const url = URL.createObjectURL(blob);
  const link = el("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

// Surprise as a colour: nothing at one bit, full at twelve.
export function surprise(bits) {
  const strength = Math.max(0, Math.min(1, (bits - 1) / 11));
  return strength ? `rgba(214, 60, 84, ${(0.6 * strength).toFixed(2)})` : "";
}

// An article's address, where it is one.
export function outside(title, url) {
  return /^https?:\/\//.test(url) ? el("a", { href: url, target: "_blank", rel: "noreferrer noopener" }, title || "(untitled)") : title || "(untitled)";
}
