// A GPT in plain JavaScript, for one reader at a time: the same steps as wikigpt/transformer.py, one token at a time.
//
//   text -> Tokenizer.encode -> ids -> Model.read (one id, one position) -> logits -> draw -> id -> text
//
// Matrices are int8 with one float per row: value = scale[row] * int8. Everything else is float32.
"use strict";

// ---- The tokenizer: a byte-level BPE. Bytes travel as strings of characters 0 to 255, since strings can be map keys.

class Tokenizer {
  // record: {pattern, tokens: base64 of each token's bytes in the order of merging, ids or null, end_of_text}
  constructor(record) {
    this.pattern = new RegExp(record.pattern, "gu");
    this.endOfText = record.end_of_text;
    this.ranks = new Map();
    this.bytes = new Map(); // id -> bytes
    this.ids = record.ids;
    record.tokens.split(" ").forEach((token, rank) => {
      const bytes = atob(token);
      this.ranks.set(bytes, rank);
      this.bytes.set(this.ids ? this.ids[rank] : rank, bytes);
    });
  }

  encode(text) {
    const ids = [];
    for (const [piece] of text.toWellFormed ? text.toWellFormed().matchAll(this.pattern) : text.matchAll(this.pattern)) {
      const bytes = Array.from(new TextEncoder().encode(piece), (byte) => String.fromCharCode(byte));
      for (const token of this.merge(bytes)) {
        const rank = this.ranks.get(token);
        ids.push(this.ids ? this.ids[rank] : rank);
      }
    }
    return ids;
  }

  // Joins the pair that was learned first, wherever it stands, then the next one, until no two neighbours make a token. (A pair
  // with the token just made was learned later, so one pass may join all.) A piece that is a token as a whole needs none of it.
  merge(parts) {
    if (this.ranks.has(parts.join(""))) return [parts.join("")];
    const rank = (i) => (i + 1 < parts.length ? this.ranks.get(parts[i] + parts[i + 1]) : undefined) ?? Infinity;
    let ranks = parts.map((_, i) => rank(i)); // of each part with the one behind it
    for (;;) {
      const best = ranks.reduce((a, b) => Math.min(a, b), Infinity);
      if (best === Infinity) return parts;
      const joined = [], kept = []; // kept: the rank where both parts of a pair are as they were, else undefined
      for (let i = 0; i < parts.length; i++) {
        if (ranks[i] === best) {
          if (kept.length) kept[kept.length - 1] = undefined;
          joined.push(parts[i] + parts[i + 1]);
          kept.push(undefined);
          i += 1;
        } else {
          joined.push(parts[i]);
          kept.push(ranks[i]);
        }
      }
      parts = joined;
      ranks = kept.map((known, i) => known ?? rank(i));
    }
  }

  // A prompt as it would stand inside a longer text: behind a line break something follows.
  encodePrompt(text) {
    if (!text) return [this.endOfText];
    return text.endsWith("\n") ? this.encode(text + "A").slice(0, -1) : this.encode(text);
  }

  // A function that turns ids into text, one by one; what is only part of a character waits for the rest.
  decoder() {
    const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
    return (id) => {
      const bytes = id === null ? "" : this.bytes.get(id) ?? "";
      return utf8.decode(Uint8Array.from(bytes, (c) => c.charCodeAt(0)), { stream: id !== null });
    };
  }
}

// ---- The model

class Model {
  // header: {config, tensors: {name: {shape, offset, scales}}}; offsets in bytes. `scales` only where values are int8.
  constructor(header, buffer) {
    this.config = header.config;
    this.weights = {};
    for (const [name, { shape, offset, scales }] of Object.entries(header.tensors)) {
      const length = shape.reduce((a, b) => a * b, 1);
      this.weights[name] = scales === undefined
        ? new Float32Array(buffer, offset, length)
        : { values: new Int8Array(buffer, offset, length), scales: new Float32Array(buffer, scales, shape[0]), shape };
    }
    const { n_layers, context_length, n_kv_heads, head_dim } = this.config;
    const empty = () => Array.from({ length: n_layers }, () => new Float32Array(context_length * n_kv_heads * head_dim));
    this.keys = empty();
    this.values = empty();
    this.length = 0; // positions in keys and values
  }

  // Reads one token at the next position and returns its final hidden state.
  read(token) {
    const { n_layers, context_length, arch } = this.config;
    if (this.length >= context_length) throw new Error("the context is full");
    const x = row(this.weights["tok_emb.weight"], token);
    if (arch === "gpt2") add(x, row(this.weights["pos_emb.weight"], this.length));
    for (let layer = 0; layer < n_layers; layer++) {
      const block = `blocks.${layer}`;
      add(x, this.attention(layer, this.norm(`${block}.norm1`, x)));
      add(x, this.feedForward(`${block}.ff`, this.norm(`${block}.norm2`, x)));
    }
    this.length += 1;
    return this.norm("final_norm", x);
  }

  logits(hidden) {
    return multiply(this.weights["out_head.weight"] ?? this.weights["tok_emb.weight"], hidden, null);
  }

  attention(layer, x) {
    const { n_heads, n_kv_heads, head_dim: K } = this.config, T = this.length + 1, width = n_kv_heads * K;
    const [q, k, v] = this.queriesKeysValues(`blocks.${layer}.attn`, x), y = new Float32Array(n_heads * K);
    const keys = this.keys[layer], values = this.values[layer], scores = new Float32Array(T);
    keys.set(k, this.length * width);
    values.set(v, this.length * width);
    for (let head = 0; head < n_heads; head++) {
      const from = head * K, shared = Math.floor((head * n_kv_heads) / n_heads) * K;
      for (let t = 0; t < T; t++) {
        let sum = 0;
        for (let i = 0; i < K; i++) sum += q[from + i] * keys[t * width + shared + i];
        scores[t] = sum / Math.sqrt(K);
      }
      softmax(scores);
      for (let t = 0; t < T; t++) {
        for (let i = 0; i < K; i++) y[from + i] += scores[t] * values[t * width + shared + i];
      }
    }
    return this.linear(`blocks.${layer}.attn.out_proj`, y);
  }

  queriesKeysValues(name, x) {
    if (this.config.arch === "gpt2") {
      const qkv = this.linear(`${name}.qkv`, x), D = x.length;
      return [qkv.subarray(0, D), qkv.subarray(D, 2 * D), qkv.subarray(2 * D)];
    }
    const [q, k, v] = ["q", "k", "v"].map((part) => this.linear(`${name}.${part}_proj`, x));
    return [this.turned(`${name}.q_norm`, q), this.turned(`${name}.k_norm`, k), v];
  }

  // Each head normalised, and its pairs (i, i + K / 2) turned by the position (RoPE).
  turned(name, x) {
    const { head_dim: K, rope_theta } = this.config, half = K / 2;
    for (let start = 0; start < x.length; start += K) {
      const head = this.norm(name, x.subarray(start, start + K));
      for (let i = 0; i < half; i++) {
        const angle = this.length * rope_theta ** ((-2 * i) / K), cos = Math.cos(angle), sin = Math.sin(angle);
        x[start + i] = head[i] * cos - head[i + half] * sin;
        x[start + i + half] = head[i + half] * cos + head[i] * sin;
      }
    }
    return x;
  }

  feedForward(name, x) {
    const up = this.linear(`${name}.up`, x);
    if (this.config.arch === "gpt2") return this.linear(`${name}.down`, up.map(gelu));
    const gate = this.linear(`${name}.gate`, x);
    return this.linear(`${name}.down`, up.map((value, i) => (value * gate[i]) / (1 + Math.exp(-gate[i]))));
  }

  linear(name, x) {
    return multiply(this.weights[`${name}.weight`], x, this.weights[`${name}.bias`] ?? null);
  }

  // LayerNorm where there is a bias, else RMSNorm.
  norm(name, x) {
    const weight = this.weights[`${name}.weight`], bias = this.weights[`${name}.bias`];
    let mean = 0, variance = 0;
    if (bias) for (const value of x) mean += value / x.length;
    for (const value of x) variance += (value - mean) ** 2 / x.length;
    const scale = 1 / Math.sqrt(variance + (bias ? 1e-5 : 1e-6));
    return x.map((value, i) => (value - mean) * scale * weight[i] + (bias ? bias[i] : 0));
  }
}

function row({ values, scales, shape: [, width] }, number) {
  const found = new Float32Array(width);
  for (let i = 0; i < width; i++) found[i] = values[number * width + i] * scales[number];
  return found;
}

function multiply({ values, scales, shape: [height, width] }, x, bias) {
  const y = new Float32Array(height);
  for (let i = 0, at = 0; i < height; i++) {
    let sum = 0;
    for (let j = 0; j < width; j++, at++) sum += values[at] * x[j];
    y[i] = sum * scales[i] + (bias ? bias[i] : 0);
  }
  return y;
}

function add(x, y) {
  for (let i = 0; i < x.length; i++) x[i] += y[i];
}

function gelu(x) { // the form with tanh, as GPT-2 has it
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
}

function softmax(x) {
  const most = x.reduce((a, b) => Math.max(a, b), -Infinity);
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i] = Math.exp(x[i] - most);
  for (let i = 0; i < x.length; i++) x[i] /= sum;
}

// ---- Writing

// The likeliest token at temperature 0, else one of the k likeliest, by its probability.
function draw(logits, { temperature, top_k }, random) {
  if (temperature === 0) return logits.indexOf(logits.reduce((a, b) => Math.max(a, b), -Infinity));
  const worst = top_k > 0 && top_k < logits.length ? logits.slice().sort()[logits.length - top_k] : -Infinity;
  const shares = Float64Array.from(logits, (logit) => (logit < worst ? -Infinity : logit / temperature));
  softmax(shares);
  let left = random();
  const drawn = shares.findIndex((share) => (left -= share) < 0);
  return drawn >= 0 ? drawn : shares.findLastIndex((share) => share > 0); // the shares add up to a hair less than 1
}

// Numbers from 0 to 1 that follow from a seed (mulberry32).
function seeded(seed) {
  return () => {
    let t = (seed = (seed + 0x6d2b79f5) | 0);
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

// Where the window of a text begins: it jumps by half a context, as in wikigpt/generate.py.
function windowStart(length, context) {
  const jump = Math.max(1, Math.floor(context / 2));
  return length <= context ? 0 : Math.ceil((length - context) / jump) * jump;
}

// Ids after a prompt, until end-of-text or `max_gen` of them. Gives null while it reads, so that a page can breathe.
function* write(model, prompt, endOfText, options) {
  const ids = [...prompt], random = seeded(options.seed ?? 0);
  let start = -1;
  for (let n = 0; n < options.max_gen; n++) {
    const begin = windowStart(ids.length, model.config.context_length);
    const unread = begin === start ? ids.slice(-1) : ids.slice(begin);
    if (begin !== start) [start, model.length] = [begin, 0];
    let hidden;
    for (const id of unread) {
      hidden = model.read(id);
      yield null;
    }
    const token = draw(model.logits(hidden), options, random);
    if (token === endOfText) return;
    ids.push(token);
    yield token;
  }
}
