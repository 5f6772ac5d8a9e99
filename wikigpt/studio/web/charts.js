// One chart: lines of several runs over one axis, with uPlot; and the same as PNG, SVG and CSV.
import { count, duration, el, save, short, spaced } from "./dom.js";

export const COLOURS = ["#2f7ed8", "#d1495b", "#259153", "#8f63d2", "#c0701a", "#1592a0", "#c2539d", "#8a7040"];
export const ALONG = { step: "step", tokens: "tokens", flops: "FLOPs", seconds: "time in steps" };

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const dark = matchMedia("(prefers-color-scheme: dark)");

// A line is {label, colour, x, y, width, alpha, dots, dash}; x and y are arrays of one length, x rising.
export class Chart {
  constructor(title, unit, onZoom) {
    Object.assign(this, { title, unit, onZoom, lines: [], along: "step", log: false, view: null, plot: null, seen: false, stale: true });
    const button = (kind, save) => el("button", { className: "small", textContent: kind, "aria-label": `Save ${title} as ${kind}`, onclick: save });
    this.holder = el("div", { className: "plot", role: "img", "aria-label": title });
    this.node = el("figure", { className: "card" },
      el("figcaption", {}, el("span", { textContent: unit ? `${title} (${unit})` : title }),
        button("PNG", () => this.png()), button("SVG", () => save(`${this.file}.svg`, new Blob([this.svg()], { type: "image/svg+xml" }))),
        button("CSV", () => save(`${this.file}.csv`, new Blob([this.csv()], { type: "text/csv" })))),
      this.holder);
    this.seeing = new IntersectionObserver(([entry]) => {
      this.seen = entry.isIntersecting;
      if (this.seen && this.stale) this.draw();
    }, { rootMargin: "200px" });
    this.seeing.observe(this.node);
    this.sizing = new ResizeObserver(() => this.plot?.setSize(this.size));
    this.sizing.observe(this.holder);
    this.recolour = () => this.redraw();
    dark.addEventListener("change", this.recolour);
  }

  get file() {
    return this.title.toLowerCase().replace(/[^a-z]+/g, "-");
  }

  get size() {
    return { width: Math.max(200, this.holder.clientWidth), height: 230 };
  }

  // New lines, or new numbers in the old ones. It is drawn at once where it can be seen, else when it comes into view.
  set(lines, along, log) {
    const same = this.plot && along === this.along && log === this.log && lines.length === this.lines.length &&
      lines.every((line, n) => line.label === this.lines[n].label && line.colour === this.lines[n].colour);
    Object.assign(this, { lines, along, log });
    const last = lines.map((line) => `${line.label} ${short(line.y.at(-1))}`).join(", ");
    this.holder.setAttribute("aria-label", `${this.title} against ${ALONG[along]}. Newest: ${last || "nothing yet"}.`);
    if (same && this.seen) this.plot.setData(this.data(), true);
    else this.redraw();
  }

  redraw() {
    this.stale = true;
    if (this.seen) this.draw();
  }

  zoom(view) {
    this.view = view;
    if (this.plot) this.plot.setScale("x", this.range(...this.extent()));
  }

  extent() {
    const x = this.plot.data[0];
    return [x[0] ?? 0, x[x.length - 1] ?? 1];
  }

  range(low, high) {
    const [min, max] = this.view ?? [low ?? 0, high ?? 1];
    return { min, max: max > min ? max : min + 1 };
  }

  tick(n, spacing) {
    return this.along === "seconds" ? duration(n, spacing) : spaced(n, spacing);
  }

  data() {
    const good = (y) => (this.log ? Array.from(y, (v) => (v > 0 ? v : null)) : Array.from(y, (v) => (Number.isNaN(v) ? null : v)));
    const tables = [];
    let last = null;
    for (const line of this.lines) {
      if (line.x === last) tables.at(-1).push(good(line.y)); // lines of one run need not be joined
      else tables.push([line.x, good(line.y)]);
      last = line.x;
    }
    if (tables.length > 1) return uPlot.join(tables);
    return tables[0] ?? [[], ...this.lines.map(() => [])];
  }

  draw() {
    this.stale = false;
    this.plot?.destroy();
    const axis = { stroke: style("--dim"), grid: { stroke: style("--line"), width: 1 }, ticks: { stroke: style("--line"), width: 1 }, font: "12px system-ui" };
    const exact = (n) => (this.along === "seconds" ? duration(n, 0.1) : this.along === "flops" ? short(n) : count(n));
    const plot = new uPlot({
      ...this.size,
      cursor: { sync: { key: "runs", scales: ["x", null] }, drag: { x: true, y: false, setScale: false } },
      scales: {
        x: { time: false, range: (_, low, high) => { const { min, max } = this.range(low, high); return [min, max]; } },
        y: { distr: this.log ? 3 : 1 },
      },
      axes: [
        { ...axis, values: (_, ticks, __, ___, spacing) => ticks.map((n) => this.tick(n, spacing)), space: 70 },
        { ...axis, values: (_, ticks, __, ___, spacing) => ticks.map((n) => (n === null ? "" : this.log ? short(n) : spaced(n, spacing))), size: 62 },
      ],
      series: [
        { label: ALONG[this.along], value: (_, n) => (n === null ? "–" : exact(n)) },
        ...this.lines.map((line) => ({
          label: line.label, stroke: line.colour, width: line.width ?? 1.5, alpha: line.alpha ?? 1, spanGaps: true, dash: line.dash,
          points: { show: Boolean(line.dots), size: 5, fill: line.colour }, value: (_, n) => (n === null || n === undefined ? "–" : short(n)),
        })),
      ],
      hooks: {
        setSelect: [(u) => {
          if (u.select.width < 3) return;
          const view = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")];
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          this.onZoom(view);
        }],
      },
    }, this.data(), this.holder);
    plot.over.addEventListener("dblclick", () => this.onZoom(null));
    this.plot = plot;
  }

  destroy() {
    this.seeing.disconnect();
    this.sizing.disconnect();
    dark.removeEventListener("change", this.recolour);
    this.plot?.destroy();
  }

  // The SVG as pixels: with its legend, and also of a chart that nobody has scrolled to.
  png() {
    const image = new Image();
    image.onload = () => {
      const canvas = el("canvas", { width: 2 * image.width, height: 2 * image.height });
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      URL.revokeObjectURL(image.src);
      canvas.toBlob((blob) => save(`${this.file}.png`, blob));
    };
    image.src = URL.createObjectURL(new Blob([this.svg()], { type: "image/svg+xml" }));
  }

  csv() {
    const quoted = (text) => `"${text.replace(/"/g, '""')}"`;
    const rows = ["line," + this.along + "," + quoted(this.title)];
    for (const line of this.lines)
      for (let n = 0; n < line.x.length; n++) if (!(Number.isNaN(line.y[n]) || line.y[n] === null)) rows.push(`${quoted(line.label)},${line.x[n]},${line.y[n]}`);
    return rows.join("\n") + "\n";
  }

  // A picture of its own: at most two points a pixel, the least and the most of each, so that it stays small.
  svg() {
    const [wide, high, left, top, right, bottom] = [800, 420, 70, 40, 20, 46 + 18 * Math.ceil(this.lines.length / 3)];
    const bend = this.log ? Math.log10 : (v) => v;
    const [x0, x1] = this.view ?? span(this.lines.map((line) => line.x));
    const inside = this.lines.map((line) => thin(line, x0, x1, wide - left - right, this.log));
    const [y0, y1] = span(inside.map((points) => points.map(([, y]) => bend(y))));
    const px = (x) => left + ((x - x0) / (x1 - x0 || 1)) * (wide - left - right);
    const py = (y) => high - bottom - ((bend(y) - y0) / (y1 - y0 || 1)) * (high - top - bottom);
    const escaped = (text) => (text.length > 34 ? `${text.slice(0, 33)}…` : text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
    const parts = [`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${wide} ${high}" width="${wide}" height="${high}" font-family="system-ui, sans-serif" font-size="12">`,
      `<rect width="${wide}" height="${high}" fill="#fff"/><text x="${left}" y="22" font-size="16" font-weight="600">${escaped(this.unit ? `${this.title} (${this.unit})` : this.title)}</text>`];
    const across = ticks(x0, x1);
    for (const x of across) parts.push(`<path d="M${px(x)} ${top}V${high - bottom}" stroke="#ddd"/><text x="${px(x)}" y="${high - bottom + 18}" text-anchor="middle">${this.tick(x, across[1] - across[0] || 1)}</text>`);
    const up = this.log ? decades(y0, y1) : ticks(y0, y1);
    for (const t of up) {
      const y = this.log ? 10 ** t : t;
      parts.push(`<path d="M${left} ${py(y)}H${wide - right}" stroke="#ddd"/><text x="${left - 8}" y="${py(y) + 4}" text-anchor="end">${this.log ? short(y) : spaced(y, up[1] - up[0] || 1)}</text>`);
    }
    inside.forEach((points, n) => {
      const { colour, width = 1.5, alpha = 1, label, dash, dots } = this.lines[n];
      const drawn = `fill="none" stroke="${colour}" stroke-width="${width}" opacity="${alpha}"${dash ? ` stroke-dasharray="${dash.join(" ")}"` : ""}/>`;
      const dot = (x, y) => `<circle cx="${x}" cy="${y}" r="2.5" fill="${colour}"/>`;
      if (points.length > 1) parts.push(`<path d="M${points.map(([x, y]) => `${px(x).toFixed(1)} ${py(y).toFixed(1)}`).join("L")}" ${drawn}`);
      if (dots || points.length === 1) parts.push(...points.map(([x, y]) => dot(px(x).toFixed(1), py(y).toFixed(1))));
      const [lx, ly] = [left + (n % 3) * 240, high - bottom + 40 + 18 * Math.floor(n / 3)];
      parts.push(`<path d="M${lx} ${ly - 4}h22" ${drawn}${dots ? dot(lx + 11, ly - 4) : ""}<text x="${lx + 28}" y="${ly}">${escaped(label)}</text>`);
    });
    parts.push(`<text x="${wide - right}" y="${top - 8}" text-anchor="end" fill="#555">along: ${ALONG[this.along]}</text></svg>`);
    return parts.join("\n");
  }
}

function span(rows) {
  let [low, high] = [Infinity, -Infinity];
  for (const row of rows) for (const v of row) if (v !== null && Number.isFinite(v)) [low, high] = [Math.min(low, v), Math.max(high, v)];
  return low > high ? [0, 1] : [low, high];
}

function thin({ x, y }, x0, x1, pixels, log) {
  const out = [];
  let [bucket, least, most] = [-1, null, null];
  const flush = () => {
    if (!least) return;
    out.push(...(least === most ? [least] : least[0] < most[0] ? [least, most] : [most, least]));
    least = most = null;
  };
  for (let n = 0; n < x.length; n++) {
    if (x[n] < x0 || x[n] > x1 || y[n] === null || Number.isNaN(y[n]) || (log && y[n] <= 0)) continue;
    const here = Math.floor(((x[n] - x0) / (x1 - x0 || 1)) * pixels);
    if (here !== bucket) flush();
    bucket = here;
    const point = [x[n], y[n]];
    if (!least || point[1] < least[1]) least = point;
    if (!most || point[1] > most[1]) most = point;
  }
  flush();
  return out;
}

// Logarithms of 1, 2, 5, 10, 20, ... where a few of these are in sight, else of evenly spaced numbers.
function decades(low, high) {
  const out = [];
  for (let power = Math.floor(low); power <= high; power++) out.push(...[1, 2, 5].map((m) => power + Math.log10(m)).filter((t) => t >= low && t <= high));
  return out.length > 2 ? out : ticks(10 ** low, 10 ** high).filter((v) => v > 0).map(Math.log10);
}

function ticks(low, high) {
  const rough = (high - low) / 6 || Math.abs(high) / 6 || 1;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * ([1, 2, 5, 10].find((m) => m * unit >= rough) ?? 10);
  const out = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step / 1e6 && out.length < 20; v += step) out.push(+v.toPrecision(12));
  return out;
}
