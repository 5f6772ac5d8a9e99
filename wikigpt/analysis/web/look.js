// The page of `wikigpt runs inspect`: a token's alternatives, and attention head by head.
const data = JSON.parse(document.getElementById("data").textContent);
const tip = document.getElementById("tip");

function said(text) {
  const code = document.createElement("code");
  code.dir = "auto";
  code.textContent = JSON.stringify(text).slice(1, -1);
  return code;
}

// Surprise: what the model had expected where a token stands.
document.querySelectorAll("#surprise span").forEach((span, n) => {
  const show = () => {
    const [text, bits, alternatives] = data.tokens[n];
    tip.replaceChildren(said(text), ` cost ${bits.toFixed(2)} bits; expected: `);
    for (const [word, probability] of alternatives) tip.append(said(word), ` ${(100 * probability).toFixed(1)}%  `);
  };
  span.addEventListener("mouseenter", show);
  span.addEventListener("focus", show);
});

// Attention: one small picture for each layer and head; a click shows which tokens the chosen one looks back at.
const shades = data.attention.map((layer) => layer.map((head) => Uint8Array.from(atob(head), (c) => c.charCodeAt(0))));
let chosen = [0, 0];
const words = [...document.querySelectorAll("#attention span")];

function look(t) {
  const weights = shades[chosen[0]][chosen[1]];
  const size = words.length;
  words.forEach((word, n) => {
    word.style.background = n <= t ? `rgba(31, 111, 180, ${weights[t * size + n] / 255})` : "";
    word.style.outline = n === t ? "2px solid var(--strong)" : "";
  });
}

document.querySelectorAll(".heads canvas").forEach((canvas) => {
  const [layer, head] = canvas.dataset.head.split(",").map(Number);
  const size = words.length;
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d");
  const image = context.createImageData(size, size);
  shades[layer][head].forEach((shade, n) => image.data.set([31, 111, 180, Math.round(255 * Math.sqrt(shade / 255))], 4 * n));
  context.putImageData(image, 0, 0);
  const choose = () => {
    chosen = [layer, head];
    document.querySelectorAll(".heads canvas").forEach((other) => other.setAttribute("aria-pressed", other === canvas));
    document.getElementById("chosen").textContent = `block ${layer}, head ${head}`;
    look(size - 1);
  };
  canvas.addEventListener("click", choose);
  canvas.addEventListener("keydown", (event) => event.key === "Enter" && choose());
  if (layer === 0 && head === 0) choose();
});
words.forEach((word, t) => {
  word.addEventListener("mouseenter", () => look(t));
  word.addEventListener("focus", () => look(t));
});
