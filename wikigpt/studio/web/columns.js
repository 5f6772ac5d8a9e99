// A run's measurements as columns, as /api/runs/<run>/curves packs them: a head as JSON, then float64 after float64.
import { getBytes } from "./dom.js";

export class Columns {
  constructor(run) {
    this.run = run;
    this.key = "";
    this.rows = 0;
    this.train = {};
    this.validation = {};
    this.changed = 0; // grows with every new row
  }

  // Fetches what is new; whether anything was. Who asks meanwhile gets the same answer.
  update() {
    this.running ??= this.fetch().finally(() => (this.running = null));
    return this.running;
  }

  async fetch() {
    const buffer = await getBytes(`/api/runs/${encodeURIComponent(this.run)}/curves?key=${encodeURIComponent(this.key)}&rows=${this.rows}`);
    const length = new DataView(buffer).getUint32(0, true);
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    let place = 4 + length;
    const read = ({ columns, rows }) =>
      Object.fromEntries(columns.map((name) => {
        const column = new Float64Array(buffer, place, rows);
        place += 8 * rows;
        return [name, column];
      }));
    const train = read(head.train);
    const validation = read(head.validation);
    const more = head.key === this.key && head.start > 0 && head.start === this.rows;
    const fresh = !more || head.train.rows > 0 || validation.step.length !== this.validation.step?.length;
    for (const [name, column] of Object.entries(train)) this.train[name] = more ? joined(this.train[name], column) : column;
    this.validation = validation;
    this.key = head.key;
    this.rows = head.rows;
    this.every = head.every;
    this.changed += fresh;
    return fresh;
  }
}

function joined(old, added) {
  const both = new Float64Array(old.length + added.length);
  both.set(old);
  both.set(added, old.length);
  return both;
}

// Exponential moving average without the pull of its start; what is no number is passed over.
export function smooth(values, keep) {
  const out = new Array(values.length);
  let total = 0;
  let weight = 0;
  for (let n = 0; n < values.length; n++) {
    if (Number.isNaN(values[n])) {
      out[n] = null;
      continue;
    }
    total = keep * total + (1 - keep) * values[n];
    weight = keep * weight + 1 - keep;
    out[n] = total / weight;
  }
  return out;
}
