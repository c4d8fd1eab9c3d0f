// The page: which view the address names, and what changes in the store.
import {address, decoded, failure, h} from "grok/dom.js";
import * as compare from "grok/compare.js";
import * as papers from "grok/papers.js";
import {redraw} from "grok/plots.js";
import * as run from "grok/run.js";
import * as runs from "grok/runs.js";
import * as sweeps from "grok/sweeps.js";

const REFRESH = 2000;  // milliseconds between two refreshes of a view
const VIEWS = {runs, run, compare, sweeps: {show: sweeps.list}, sweep: sweeps, papers};
const NAV = [["runs", "Runs"], ["sweeps", "Sweeps"], ["papers", "Papers"]];
const view = document.getElementById("view");
const {open} = await import(document.getElementById("summary") ? "grok/stored.js" : "grok/live.js");
const source = await open();
let shown = null, generation = 0, leave = () => {};  // nothing is shown while a view is being opened

function theme(choice) {
  if (choice === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
  document.getElementById("theme").textContent = {auto: "◐ auto", light: "○ light", dark: "● dark"}[choice];
  redraw();
}

function stored(name, value) {  // a page opened from disk may have no storage
  try {
    if (value === undefined) return localStorage.getItem(name);
    localStorage.setItem(name, value);
  } catch { return null; }
}

let choice = stored("theme") ?? "auto";
document.getElementById("theme").addEventListener("click", () => {
  choice = {auto: "light", light: "dark", dark: "auto"}[choice];
  stored("theme", choice);
  theme(choice);
});
for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", redraw);

// The path and the parameters after # in the address.
function place() {
  const [path, query = ""] = location.hash.slice(1).split(/\?(.*)/s);
  const [name, ...rest] = path.split("/").filter(Boolean).map(decoded);
  return {path: [Object.hasOwn(VIEWS, name ?? "") ? name : "runs", ...rest], parameters: new URLSearchParams(query)};
}

async function route() {
  const {path, parameters} = place();
  const [name] = path;
  for (const link of document.querySelectorAll("nav a"))
    link.ariaCurrent = link.dataset.view === name || link.dataset.view === `${name}s` ? "page" : null;
  const mine = ++generation;
  shown?.close?.();
  shown = null;
  leave();
  const left = new Promise(resolve => { leave = resolve; });
  const root = h("div");
  view.replaceChildren(root);
  window.scrollTo(0, 0);
  try {
    const opened = await VIEWS[name].show(root, {source, path: path.slice(1), parameters,
      isCurrent: () => mine === generation,
      remember: kept => {
        if (String(place().path) === String(path) && mine === generation) history.replaceState(null, "", address(path, kept));
      }});
    if (mine === generation) shown = {...opened, left};
  } catch (error) {
    if (mine === generation) {
      root.append(failure(error));
      shown = {};
    }
  }
}

// Changes that the view does not show yet are joined: null stands for everything.
let pending = null, isBusy = false;
const joined = (a, b) => a === null || b === null ? null : [...new Set([...a, ...b])];

function keep(change) {
  pending = pending ? {runs: joined(pending.runs, change.runs), sweeps: joined(pending.sweeps, change.sweeps)} : change;
}

// A selector of the link or the named control that has the focus, which a refresh may draw anew; null for others.
function focused() {
  const element = document.activeElement, name = ["href", "aria-label", "data-name"].find(one => element.hasAttribute(one));
  return view.contains(element) && name ? `${element.localName}[${name}="${CSS.escape(element.getAttribute(name))}"]` : null;
}

async function told(change) {
  keep(change);
  if (isBusy) return;
  isBusy = true;
  while (pending) {
    const now = pending;
    pending = null;
    const had = focused();
    try {
      if (document.hidden || shown === null) keep(now);
      else await Promise.race([shown.refresh?.(now), shown.left]);
    } catch (error) {
      console.warn(error.message);
      if (!error.isFinal) keep(now);  // as when the store is away for a moment
    }
    if (had && document.activeElement === document.body) view.querySelector(had)?.focus({preventScroll: true});
    await new Promise(resolve => setTimeout(resolve, REFRESH));
  }
  isBusy = false;
}

document.querySelector("nav").append(...NAV.map(([name, title]) => h("a", {href: `#${name}`, "data-view": name}, title)));
theme(choice);
source.about().then(about => {
  document.getElementById("about").textContent = about;
}, () => {});
// The subscription comes first: a view misses no change from its first request on.
await source.subscribe(told, state => {
  const live = document.getElementById("live");
  live.textContent = state;
  live.className = state === "live" ? "is-live" : "";
});
document.querySelector(".skip").addEventListener("click", event => {
  event.preventDefault();  // the address is that of the view
  view.focus();
});
addEventListener("hashchange", route);
route();
