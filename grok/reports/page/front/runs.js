// The table of runs: filter, columns, order, groups and page are in the address, so a link is a saved view.
import {address, copyButton, duration, grid, h, joined, parted, phase, runLink, spark, status, sweepLink, text, time, words} from "grok/dom.js";

const COLUMNS = ["run", "experiment", "status", "started", "sweep", "seed", "result.phase", "curve", "result.steps_to_train",
  "result.steps_to_test", "result.train_accuracy", "result.test_accuracy", "result.seconds"];
const TITLES = {"result.steps_to_train": "train at step", "result.steps_to_test": "test at step", curve: "test accuracy",
  "result.train_accuracy": "train acc", "result.test_accuracy": "test acc", "result.seconds": "time"};
const PAGE_SIZES = [50, 200, 1000], MOST_PAGES = 1e6;
const TYPING = 120;  // milliseconds without a key before the filter is applied
const FILTERED = new Set(["experiment", "status", "sweep", "tag"]);  // columns of a run that filters know
const EXAMPLE = "experiment=liu_toy p=10 result.phase=grokking lr=1e-3..1e-2 seed=0,1";

export const title = column => TITLES[column] ?? words(column);

export function cell(column, value) {
  if (column === "run") return runLink(value);
  if (column === "status") return status(value);
  if (column === "sweep") return value ? sweepLink(value) : "";
  if (column === "started") return time(value);
  if (column === "curve") return spark(value);
  if (column === "result.phase") return phase(value);
  if (column === "result.seconds") return duration(value);
  if (column.startsWith("result.steps_to") && value === null) return h("span", {class: "quiet"}, "–");
  return text(value);
}

// The filter KEY=VALUE for runs with this value, in quotes where it needs them; null if filters cannot say it.
export function filterFor(key, value) {
  if (!/^[\w.\-/]+$/.test(key)) return null;
  if (Array.isArray(value)) return value.every(one => typeof one === "number") ? `${key}=[${value.join(",")}]` : null;
  if (value === null) return FILTERED.has(key) ? null : `${key}=none`;
  if (typeof value !== "string") return `${key}=${value}`;
  if (/^-?(inf|nan)$/.test(value)) return `${key}=${value}`;
  if (!value || /[,"'\\[\]]|\.\.|^[-+]/.test(value)) return null;
  const isOther = /^[\d.({]|\s|^(none|null|never|true|false|inf|nan)$/i.test(value);
  return `${key}=${isOther ? `"${value}"` : value}`;
}

export async function show(root, {source, parameters, remember, isCurrent}) {
  const state = {
    f: parameters.get("f") ?? "", c: parameters.has("c") ? parted(parameters.get("c")) : COLUMNS,
    s: parameters.get("s") ?? "-run", g: parameters.get("g") ?? "", n: PAGE_SIZES.find(size => size === Number(parameters.get("n"))) ?? PAGE_SIZES[0],
    p: Math.max(1, Math.min(MOST_PAGES, Math.floor(Number(parameters.get("p"))) || 1)),
  };
  if (!state.c.includes("run")) state.c.unshift("run");
  const kept = () => ({f: state.f, c: String(state.c) === String(COLUMNS) ? "" : joined(state.c),
    s: state.s === "-run" ? "" : state.s, g: state.g, n: state.n === PAGE_SIZES[0] ? "" : state.n, p: state.p === 1 ? "" : state.p});
  const chosen = new Set();
  let table, asked = new AbortController(), newest, failed = null;

  const filter = h("input", {id: "filter", type: "search", value: state.f, placeholder: EXAMPLE, "aria-label": "filter of the runs",
    autocomplete: "off", spellcheck: "false"});
  const count = h("span", {id: "count", role: "status"});
  const group = h("select", {id: "group", "aria-label": "group by", change: () => { clearTimeout(typing); state.f = filter.value.trim(); state.g = group.value; state.p = 1; draw(); }});
  const compare = h("a", {class: "button", hidden: true}, "compare");
  const body = h("div", {id: "table"});
  const columnsButton = h("button", {type: "button", click: () => chooseColumns(source, state.c, columns => { state.c = columns; draw(); })}, "columns");
  root.append(
    h("h2", {class: "only-read"}, "Runs"),
    h("div", {class: "bar"}, filter, h("label", {}, "group by ", group), columnsButton, compare,
      h("span", {class: "quiet"}, "link ", copyButton(() => location.href))),
    h("p", {class: "quiet"}, count, h("span", {class: "hint"}, " · filters as for the command line: KEY=VALUE, alternatives a,b, ranges low..high, all of which hold")),
    body);
  fillGroups();
  source.keys().then(keys => fillGroups([...keys.config, ...keys.results]), () => {});

  function fillGroups(keys = []) {
    const names = [...new Set(["", "experiment", "status", "sweep", "seed", ...keys, ...(state.g ? [state.g] : [])])];
    group.replaceChildren(...names.map(name => h("option", {value: name, selected: name === state.g}, name || "nothing")));
  }

  let typing;
  filter.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => { state.f = filter.value.trim(); update(); }, TYPING);
  });

  function select(id, isChosen) {
    if (isChosen) chosen.add(id); else chosen.delete(id);
    compare.hidden = chosen.size < 2;
    compare.textContent = `compare ${chosen.size}`;
    compare.href = address(["compare"], {runs: joined([...chosen])});
  }

  function said(error, total, why = "") {
    count.className = error ? "error" : "";
    count.textContent = error ? error.message : `${total.toLocaleString("en")} run${total === 1 ? "" : "s"}${why && `: ${why}`}`;
  }

  // ---- rows

  // Every formatter returns an element: the table component takes a text for markup.
  function definitions() {
    const box = {title: "", field: "chosen", headerSort: false, frozen: true, width: 34, formatter: cellOf => {
      const id = cellOf.getData().run;
      return h("input", {type: "checkbox", "aria-label": `choose run ${id}`, checked: chosen.has(id), change: event => select(id, event.target.checked)});
    }};
    return [box, ...state.c.map(column => ({
      title: column, field: column, headerSort: column !== "curve",
      frozen: column === "run", titleFormatter: () => h("button", {type: "button", class: "heading", title: column}, title(column)),
      formatter: cellOf => h("span", {}, cell(column, cellOf.getValue())), minWidth: 60, maxInitialWidth: 260,
      hozAlign: /^(result\.(?!phase|ended)|metric\.|seed$)/.test(column) ? "right" : "left",
    }))];
  }

  function page(parameters) {
    newest = requested(parameters);
    return newest;
  }

  async function requested(parameters) {
    asked.abort();
    asked = new AbortController();
    const [order] = parameters.sort ?? [];
    if (order) state.s = `${order.dir === "desc" ? "-" : ""}${order.field}`;
    [state.n, state.p] = [parameters.size, parameters.page];
    remember(kept());
    const request = {filters: state.f, columns: state.c, sort: state.s.replace(/^-/, ""), down: state.s.startsWith("-"),
      offset: (parameters.page - 1) * parameters.size, limit: parameters.size};
    try {
      const {total, rows, why} = await source.runs(request, asked.signal);
      said(null, total, why);
      return {last_page: Math.max(1, Math.ceil(total / parameters.size)), last_row: total,
        data: rows.map(row => Object.fromEntries(row.map((value, i) => [state.c[i], value])))};
    } catch (error) {
      if (error.name === "AbortError") return newest;  // it has taken this one's place
      said(error);
      failed = error;
      return {last_page: parameters.page, last_row: 0, data: []};
    }
  }

  function drawTable() {
    table = new Tabulator(body, {
      index: "run", nestedFieldSeparator: false, columns: definitions(), layout: "fitData", renderVertical: "basic",
      ajaxURL: "runs", ajaxRequestFunc: (url, config, parameters) => page(parameters), sortMode: "remote",
      pagination: true, paginationMode: "remote", paginationSize: state.n, paginationSizeSelector: PAGE_SIZES, paginationCounter: "rows",
      paginationInitialPage: state.p, paginationOutOfRange: "last",
      initialSort: [{column: state.s.replace(/^-/, ""), dir: state.s.startsWith("-") ? "desc" : "asc"}],
      movableColumns: true, headerSortTristate: false, columnHeaderSortMulti: false, dataLoader: false,
      placeholder: h("p", {class: "quiet"}, "no run"), autoResize: false,
    });
    table.on("columnMoved", () => {
      state.c = table.getColumns().map(column => column.getField()).filter(field => field !== "chosen");
      remember(kept());
      table.replaceData();
    });
  }

  // ---- groups

  async function drawGroups() {
    remember(kept());
    const numeric = state.c.filter(column => column.startsWith("result.") && column !== "result.phase");
    try {
      const {total, groups: found} = await source.groups({filters: state.f, by: state.g, columns: numeric});
      if (!isCurrent() || !state.g) return;
      said(null, total);
      const shown = found.reduce((sum, one) => sum + one.count, 0);
      if (shown < total) count.textContent += `, of which ${shown.toLocaleString("en")} are in the ${found.length} largest groups`;
      const rows = found.map(one => {
        const word = filterFor(state.g, one.value);
        const name = one.value === null ? "(none)" : text(one.value);
        const link = word === null ? name : h("a", {href: address(["runs"], {...kept(), f: `${state.f} ${word}`.trim(), g: ""})}, name);
        return [link, one.count, Object.entries(one.states).map(([state, number]) => `${number} ${state.toLowerCase()}`).join(", "),
          ...numeric.map(column => column === "result.seconds" ? duration(one.means[column]) : one.means[column])];
      });
      body.replaceChildren(grid([state.g, "runs", "states", ...numeric.map(column => `mean ${title(column)}`)], rows));
    } catch (error) {
      said(error);
      failed = error;
    }
  }

  function draw() {
    table?.destroy();
    table = undefined;
    body.replaceChildren();
    return state.g ? drawGroups() : drawTable();
  }

  function update() {
    state.p = 1;
    if (state.g) return drawGroups();
    return table.setPage(1);
  }

  draw();
  return {
    refresh: async () => {
      failed = null;
      await (state.g ? drawGroups() : table.replaceData());
      if (failed) throw failed;
    },
    close: () => {
      newest = new Promise(() => {});  // nobody waits for it
      asked.abort();
      table?.destroy();
    },
  };
}

// A dialog to choose columns and their order; `done` gets the chosen ones.
async function chooseColumns(source, current, done) {
  const chosen = [...current];
  const list = h("ol", {class: "chosen"}), found = h("div", {class: "found"});
  const search = h("input", {type: "search", placeholder: "find a config key, result or metric", "aria-label": "find a column", input: offer});
  const dialog = h("dialog", {class: "columns", close: () => dialog.remove()},
    h("h2", {}, "Columns"), h("div", {class: "two"}, h("div", {}, search, found), h("div", {}, h("h3", {}, "in this order"), list)),
    h("p", {class: "buttons"}, h("button", {type: "button", click: () => { chosen.splice(0, Infinity, ...COLUMNS); draw(); }}, "default"),
      h("button", {type: "button", class: "main", click: () => { dialog.close(); done(chosen); }}, "show these"),
      h("button", {type: "button", click: () => dialog.close()}, "cancel")));
  document.body.append(dialog);
  dialog.showModal();
  const keys = await source.keys();

  function move(i, by) {
    const [column] = chosen.splice(i, 1);
    chosen.splice(i + by, 0, column);
    draw();
    const [earlier, later] = list.children[i + by].querySelectorAll("button");
    (by < 0 && !earlier.disabled || later.disabled ? earlier : later).focus();
  }

  function draw() {
    list.replaceChildren(...chosen.map((column, i) => h("li", {}, h("span", {}, column),
      h("button", {type: "button", class: "small", disabled: i === 0, "aria-label": `${column} earlier`, click: () => move(i, -1)}, "↑"),
      h("button", {type: "button", class: "small", disabled: i === chosen.length - 1, "aria-label": `${column} later`, click: () => move(i, 1)}, "↓"),
      h("button", {type: "button", class: "small", disabled: column === "run", "aria-label": `without ${column}`, click: () => { chosen.splice(i, 1); draw(); search.focus(); }}, "×"))));
    offer();
  }

  function offer() {
    const wanted = search.value.trim();
    const matching = names => names.filter(name => name.toLowerCase().includes(wanted.toLowerCase()));
    const box = name => h("label", {}, h("input", {type: "checkbox", name, checked: chosen.includes(name), disabled: name === "run", change: event => {
      if (event.target.checked) chosen.push(name); else chosen.splice(chosen.indexOf(name), 1);
      draw();
      [...found.querySelectorAll("input")].find(one => one.name === name).focus();  // it was drawn anew
    }}), ` ${name}`);
    const kinds = [["run", "Run"], ["results", "Results"], ["metrics", "Last values of metrics"], ["config", "Config"]];
    const parts = kinds.map(([kind, heading]) => [heading, matching(keys[kind])]).filter(([, names]) => names.length);
    const known = parts.some(([, names]) => names.includes(wanted)) || chosen.includes(wanted);
    found.replaceChildren(...parts.flatMap(([heading, names]) => [h("h3", {}, heading), ...names.map(box)]),
      ...(wanted && !known ? [h("button", {type: "button", click: () => { chosen.push(wanted); search.value = ""; draw(); }}, `add ${wanted}`)] : []));
  }
  draw();
}
