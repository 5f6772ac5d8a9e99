// Which page is shown: the part of the address behind #. A page is a module with show(main, rest), loaded when it is first wanted.
import { attempt, el, say } from "./dom.js";
import { begin } from "./state.js";

const PAGES = { runs: "./dashboard.js", playground: "./playground.js", inside: "./inside.js", data: "./data.js" };
const main = document.getElementById("main");
let leave = null; // what the page that is shown wants done before another comes

async function go() {
  const [page, ...rest] = location.hash.slice(2).split("/");
  const name = Object.hasOwn(PAGES, page) ? page : "runs";
  leave?.();
  leave = null;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const place = el("div");
  main.replaceChildren(place);
  document.title = `${name[0].toUpperCase()}${name.slice(1)}: WikiGPT studio`;
  await attempt(async () => {
    const module = await import(PAGES[name]);
    if (place.isConnected) leave = module.show(place, rest.map(decodeURIComponent));
  });
}

addEventListener("hashchange", () => (say(""), go()));
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
await attempt(begin);
await go();
