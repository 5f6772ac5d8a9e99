// What the pages share: the runs, live, and the text that one is working on.
import { get } from "./dom.js";

export const state = {
  runs: [], // as /api/runs lists them
  folder: "",
  loaded: false,
  text: { run: "", checkpoint: "latest", prompt: "", ids: [] }, // of the playground
};

export const changes = new EventTarget(); // "runs" whenever they changed

let source = null;
const link = document.getElementById("link");

export function take(runs) {
  state.runs = runs;
  state.loaded = true;
  changes.dispatchEvent(new Event("runs"));
}

// A browser opens six connections to a server: a tab that nobody looks at gives its own back.
export function live() {
  if (document.hidden) {
    source?.close();
    source = null;
  } else if (!source) {
    source = new EventSource("/api/live");
    source.onmessage = (event) => take(JSON.parse(event.data).runs);
    source.onopen = () => (link.textContent = "live");
    source.onerror = () => {
      link.textContent = source.readyState === EventSource.CLOSED ? "not connected; reload the page" : "not connected; trying again";
    };
  }
}

export async function begin() {
  document.addEventListener("visibilitychange", live);
  live();
  const found = await get("/api/runs");
  state.folder = found.folder;
  take(found.runs);
}

// Runs that have something to load.
export const talkative = () => state.runs.filter((run) => run.saved > 0);

// Shows `empty` until there is a run to talk to, then what `make` makes of the place. Returns how to leave it.
export function whenThereIsOne(place, empty, make) {
  let page = null;
  const look = () => {
    if (!talkative().length) return void (state.loaded && place.replaceChildren(empty));
    changes.removeEventListener("runs", look);
    page = make(place);
  };
  changes.addEventListener("runs", look);
  look();
  return () => {
    changes.removeEventListener("runs", look);
    page?.destroy();
  };
}
