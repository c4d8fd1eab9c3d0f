// The store as the server of the page answers for it; `subscribe` tells of changes without a reload.
import {released} from "grok/dom.js";

const PAUSE = 5000;  // milliseconds after which a server that has refused is asked again

async function ask(view, parameters = {}, signal) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters))
    for (const one of Array.isArray(value) ? value : [value]) query.append(name, one);
  const content = await answer(await fetch(`api/${view}?${query}`, {signal}));
  await released();  // the view is drawn anew from it
  signal?.throwIfAborted();
  return content;
}

async function answer(response) {
  const content = await response.json().catch(() => ({}));
  if (response.ok) return content;
  const error = new Error(content.error ?? `the server answers ${response.status}`);
  error.isFinal = response.status >= 400 && response.status < 500 && response.status !== 429;
  throw error;
}

export function open() {
  return {
    isLive: true,
    about: async () => (await ask("about")).store,
    keys: ({filters, runs = [], sweep = []} = {}) => ask("keys", {...(filters === undefined ? {} : {filters}), run: runs, sweep}),
    runs: ({filters = "", sweep = [], runs = [], columns, sort = "run", down = true, offset = 0, limit = 50}, signal) =>
      ask("runs", {filters, sweep, run: runs, column: columns, sort, down: down ? 1 : 0, offset, limit}, signal),
    groups: ({filters, by, columns}, signal) => ask("groups", {filters, by, column: columns}, signal),
    run: id => ask("run", {run: id}),
    defaults: experiment => ask("defaults", {experiment}),
    curves: ({runs, metrics = [], points = 1000}) => ask("curves", {run: runs, metric: metrics, points}),
    arrays: run => ask("arrays", {run}),
    matrix: (run, {file, name}, place) => ask("matrix", {run, file, name, place}),
    papers: () => ask("papers"),
    sweeps: () => ask("sweeps"),
    sweep: id => ask("sweep", {sweep: id}),
    details: id => ask("details", {sweep: id}),
    published: parameters => ask("published", parameters),
    setNotes: (run, tags, notes) => fetch("api/notes", {method: "POST", headers: {"Content-Type": "application/json"},
      body: JSON.stringify({run, tags, notes})}).then(answer),

    // Calls `told` with each change of the store from when the promise is fulfilled, and `said` with the
    // state of the connection. Of the six connections that a browser opens to a server, hidden tabs take none.
    subscribe: (told, said) => new Promise(begun => {
      let events = null, wasLost = false;
      function listen() {
        if (document.hidden) {
          events?.close();
          events = null;
          wasLost = true;
          begun();
          return;
        }
        if (events && events.readyState !== EventSource.CLOSED) return;
        const opened = events = new EventSource("api/events");
        opened.onopen = () => {
          said("live");
          if (wasLost) told({runs: null, sweeps: null});  // what happened meanwhile is not known
          wasLost = false;
          begun();
        };
        opened.onmessage = event => told(JSON.parse(event.data));
        opened.onerror = () => {
          wasLost = true;
          const isRefused = opened.readyState === EventSource.CLOSED;
          said(isRefused ? "not live: the server refuses" : "connecting again");
          if (isRefused) setTimeout(listen, PAUSE);
          begun();
        };
      }
      document.addEventListener("visibilitychange", listen);
      listen();
    }),
  };
}
