// The page around the model: a title or a beginning goes in, text comes out while it is written.

const element = (id) => document.getElementById(id);
const record = JSON.parse(element("model").textContent);
const tokenizer = new Tokenizer(record.tokenizer);
const model = new Model(record, bufferOf(element("weights").textContent));
let job = 0; // the newest one writes; older ones stop

function bufferOf(base64) {
  const text = atob(base64.trim()), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes.buffer;
}

function wanted() {
  const number = (id, least, most) => Math.min(most, Math.max(least, Number(element(id).value) || 0));
  return {
    temperature: number("temperature", 0, 2),
    top_k: Math.floor(number("top_k", 0, 1e6)),
    max_gen: Math.floor(number("max_gen", 1, 1e5)),
    seed: element("seed").value === "" ? Math.floor(Math.random() * 2 ** 31) : number("seed", 0, 2 ** 31),
  };
}

async function start(event) {
  event.preventDefault();
  const mine = ++job, options = wanted(), began = performance.now();
  const prompt = element("article").checked ? `# ${element("title").value.trim()}\n\n` : element("beginning").value;
  const output = element("output"), decode = tokenizer.decoder();
  output.replaceChildren(Object.assign(document.createElement("b"), { textContent: prompt }));
  const text = output.appendChild(document.createTextNode(""));
  element("stop").disabled = false;
  element("status").textContent = "reading …";
  let tokens = 0, paused = performance.now();
  for (const id of write(model, tokenizer.encodePrompt(prompt), tokenizer.endOfText, options)) {
    if (id !== null) {
      text.data += decode(id);
      tokens += 1;
      element("status").textContent = `${tokens} tokens, ${(tokens / (performance.now() - began) * 1000).toFixed(0)} a second`;
    }
    if (performance.now() - paused > 12) { // let the browser draw, and hear Stop
      await new Promise((resolve) => setTimeout(resolve));
      paused = performance.now();
    }
    if (mine !== job) return;
  }
  text.data += decode(null);
  const end = tokens < options.max_gen ? "The article ended." : "";
  element("status").textContent = `${tokens} tokens, seed ${options.seed}. ${end}`;
  element("stop").disabled = true;
}

function stop() {
  job += 1;
  element("stop").disabled = true;
  element("status").textContent += " Stopped.";
}

function choose() {
  element("title").disabled = !element("article").checked;
  element("beginning").disabled = element("article").checked;
}

element("form").addEventListener("submit", start);
element("stop").addEventListener("click", stop);
for (const id of ["article", "free"]) element(id).addEventListener("change", choose);
element("temperature").addEventListener("input", () => (element("temperature_shown").textContent = element("temperature").value));
choose();
