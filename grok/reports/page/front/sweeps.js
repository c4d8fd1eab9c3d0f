// The list of sweeps, and one sweep: its progress, agents, and the diagram of two chosen keys.
import {PHASES, address, duration, failure, fill, grid, h, runLink, status, sweepLink, text, time, words} from "grok/dom.js";
import {COLOURS, INK, curve, label, plot, stepAxis} from "grok/plots.js";
import {cell, title} from "grok/runs.js";

const STATES = ["finished", "running", "pending", "stopped", "failed"];
const MOST_LETTERS = 400, MOST_LISTED = 500;  // cells with a letter each, and cells in the table
const MOST_SLICES = 50;  // values of a key that can be chosen one by one
const PALE = 0.4;  // opacity of cells that were not run
const MOST_CURVES = 60;  // of one cell

// How many of the words are equal, as in "3 running, 2 pending".
function tally(words) {
  const counts = new Map();
  for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
  return [...counts].map(([word, count]) => `${count} ${word}`).join(", ");
}

export async function list(root, {source, isCurrent}) {
  const table = h("div");
  root.append(h("h2", {}, "Sweeps"), table);
  async function draw() {
    const sweeps = await source.sweeps();
    if (!isCurrent()) return;
    const counts = runs => Object.entries(runs).map(([state, count]) => `${count} ${state.toLowerCase()}`).join(", ");
    const passed = findings => findings.length ? `${findings.filter(one => one.passed).length} of ${findings.length}` : "";
    fill(table, sweeps.length ? grid(["sweep", "experiment", "started", "state", "runs", "time", "varies", "claims passed"], sweeps.map(sweep =>
      [sweepLink(sweep.id, sweep.name || sweep.id), sweep.experiment, time(sweep.created), sweep.state, counts(sweep.runs), duration(sweep.seconds),
        sweep.keys.join(", "), passed(sweep.findings)])) : h("p", {class: "quiet"}, "no sweep"));
  }
  await draw();
  return {refresh: change => change.sweeps?.length === 0 && change.runs?.length === 0 ? null : draw()};
}

// ---- one sweep

export async function show(root, {source, path, parameters, remember, isCurrent}) {
  const id = path[0] ?? "";
  let sweep = await source.sweep(id), rows = [], details = {map: null, tasks: []}, picked = parameters.get("cell") ?? "";
  const varying = sweep.keys.map(key => [key, new Set(sweep.points.map(point => JSON.stringify(point.values[key]))).size]).sort((a, b) => b[1] - a[1]);
  const offered = [...new Set([...varying.map(([key]) => key), "seed"])];
  const state = {
    x: parameters.get("x") ?? offered[0], y: parameters.get("y") ?? offered[1] ?? offered[0], z: parameters.get("z") ?? "result.phase",
    seed: parameters.get("seed") ?? "", at: parameters.get("at") ?? "", metric: parameters.get("metric") ?? "test_accuracy",
  };
  const head = h("div"), diagram = h("div", {class: "plot", role: "img", "aria-label": "diagram of the sweep; its cells are listed below"});
  const published = h("div", {class: "plot", role: "img", "aria-label": "the published grid"}), legend = h("p", {class: "legend"});
  const inCell = h("section", {"aria-live": "polite"}), listed = h("details", {toggle: () => drawList()}, h("summary", {}, "cells as a table"), h("div"));
  const choice = (name, names) => offer(h("select", {change: event => { state[name] = event.target.value; redraw(); }}), name, names);
  const slices = h("div", {class: "bar", "aria-label": "values of the other keys", role: "group"});
  const colourChoice = choice("z", []), seedChoice = choice("seed", []);
  root.append(head, h("div", {class: "bar"}, h("label", {}, "across ", choice("x", offered)), h("label", {}, "up ", choice("y", offered)),
    h("label", {}, "colour ", colourChoice), h("label", {}, "seed ", seedChoice)), slices, legend,
  h("div", {class: "two"}, h("figure", {}, diagram), h("figure", {}, published)), inCell, listed);

  function offer(select, name, names) {
    const all = [...new Set([...names, state[name]])];
    if (String(all) !== String([...select.options].map(option => option.value)))
      fill(select, all.map(one => h("option", {value: one, selected: one === state[name]}, one || "all")));
    return select;
  }

  function drawHead() {
    const total = Object.values(sweep.states).reduce((sum, count) => sum + count, 0), open = (sweep.states.pending ?? 0) + (sweep.states.running ?? 0);
    const isOpen = (part, first) => head.querySelector(`[data-part=${part}]`)?.open ?? first;
    fill(head, h("h2", {}, `${sweep.name} `, h("span", {class: "quiet"}, sweep.state)),
      h("p", {class: "quiet"}, `${sweep.experiment}, started ${time(sweep.created)} UTC${sweep.seconds ? `, took ${duration(sweep.seconds)}` : ""} · ${sweep.id}`),
      total > 0 && h("p", {class: "progress"}, h("progress", {max: total, value: total - open, "aria-label": "points that have ended"}),
        ` ${STATES.filter(name => sweep.states[name]).map(name => `${sweep.states[name]} ${name}`).join(", ")} of ${total} points`),
      h("p", {}, h("a", {href: address(["runs"], {f: `sweep=${sweep.id}`})}, "its runs as a table"), " · ",
        h("a", {href: address(["compare"], {f: `sweep=${sweep.id}`})}, "compare its settings")),
      sweep.agents.length > 0 && h("details", {"data-part": "agents", open: isOpen("agents", true)}, h("summary", {"data-name": "agents"}, `agents: ${sweep.agents.length} points in work`), grid(["on", "W&B run", "point", "last heartbeat"],
        sweep.agents.map(agent => [agent.host, agent.wandb_run, Object.entries(agent.point).map(([key, value]) => `${key}=${text(value)}`).join(" "), `${text(agent.heartbeat).slice(11, 19)} UTC`]))),
      details.error && failure(details.error),
      details.tasks.length > 0 && h("details", {"data-part": "slurm", open: isOpen("slurm", true)}, h("summary", {"data-name": "slurm"}, `Slurm: ${tally(details.tasks.map(one => one.state))}`),
        grid(["task", "state", "on, or why it waits"], details.tasks.map(one => [one.task, one.state, one.on]))),
      details.map && h("ul", {class: "quiet"}, details.map.said.map(line => h("li", {}, line))),
      sweep.findings.length > 0 && h("details", {"data-part": "claims", open: isOpen("claims", false)}, h("summary", {"data-name": "claims"}, "claims"), grid(["claim", "seed", "finding"],
        sweep.findings.map(one => [one.claim, one.seed ?? "all", one.state === "evaluated" ? (one.passed ? "✓ passed" : "✗ failed") : one.state === "undecided" ? "– not decided" : "– not run"]))));
  }

  // ---- the values of keys that are not axes: all runs together, or a slice

  const others = () => varying.filter(([key, size]) => size > 1 && size <= MOST_SLICES && ![state.x, state.y, "seed"].includes(key)).map(([key]) => key);
  const json = value => JSON.stringify(value ?? null);

  // The chosen values as JSON, by key.
  function chosen() {
    let at = {};
    try { at = JSON.parse(state.at) ?? {}; } catch { /* a link that somebody has changed */ }
    return Object.fromEntries(others().filter(key => Object.hasOwn(at, key)).map(key => [key, String(at[key])]));
  }

  const isChosen = values => Object.entries(chosen()).every(([key, value]) => json(values[key]) === value);

  function drawSlices() {
    if (slices.dataset.keys === String(others())) return;
    slices.dataset.keys = String(others());
    fill(slices, others().map(key => {
      const values = sorted(sweep.points.map(point => point.values[key] ?? null));
      const select = h("select", {change: () => {
        const {[key]: old, ...rest} = chosen();
        state.at = JSON.stringify(select.value ? {...rest, [key]: select.value} : rest);
        redraw();
      }}, h("option", {value: ""}, "all"), values.map(value => h("option", {value: json(value), selected: chosen()[key] === json(value)}, text(value ?? "none"))));
      return h("label", {}, `${key} `, select);
    }));
  }

  async function readDetails() {
    if (!sweep.has_details || !source.details) return;
    details = await source.details(sweep.id).catch(error => ({...details, error}));
    if (details.map?.slices.length > 1 && state.at === "") {  // a map begins with its first slice
      state.at = JSON.stringify(Object.fromEntries(Object.entries(details.map.slices[0]).map(([key, value]) => [key, json(value)])));
      delete slices.dataset.keys;
    }
  }

  async function read() {
    const keys = await source.keys({sweep: [sweep.id]});  // a run that has just begun may have new ones
    offer(colourChoice, "z", ["result.phase", ...keys.results.filter(key => key !== "result.phase"), ...keys.metrics]);
    const slice = Object.keys(chosen()), columns = ["run", "status", "seed", state.x, state.y, state.z, "result.phase", ...slice];
    rows = (await source.runs({sweep: [sweep.id], columns, sort: "run", down: false, limit: 50000})).rows
      .filter(row => isChosen(Object.fromEntries(slice.map((key, i) => [key, row[7 + i]]))))
      .map(([run, status, seed, x, y, z, phase]) => ({run, status, seed, x, y, z, phase}));
  }

  // ---- cells; with the same key on both axes they are one row

  const isRow = () => state.x === state.y;
  const name = (x, y) => JSON.stringify([x ?? null, y ?? null]);
  // The place of a cell: its keys with their values, as words.
  const axes = () => isRow() ? ["x"] : ["x", "y"];
  const place = one => axes().map(axis => `${state[axis]} = ${text(one[axis] ?? "none")}`);

  function cells() {
    const found = new Map();
    const at = (x, up) => {
      const y = isRow() ? null : up;
      return found.get(name(x, y)) ?? found.set(name(x, y), {x, y, runs: [], open: 0}).get(name(x, y));
    };
    for (const point of sweep.points) {
      if (!isChosen(point.values)) continue;
      if (state.seed && "seed" in point.values && String(point.values.seed) !== state.seed) continue;
      if (state.x in point.values && state.y in point.values) at(point.values[state.x], point.values[state.y]).open += point.state === "pending" || point.state === "running" ? 1 : 0;
    }
    for (const row of rows) if (!state.seed || String(row.seed) === state.seed) at(row.x, row.y).runs.push(row);
    if (isMap()) for (const one of details.map.predicted.filter(one => one.slice === sliceOfMap())) at(...(state.x === details.map.x ? [one.x, one.y] : [one.y, one.x])).predicted = one.phase;
    for (const one of found.values()) one.z = summary(one.runs.map(row => row.z).filter(z => z !== null && z !== undefined));
    return found;
  }

  const sliceOfMap = () => details.map.slices.findIndex(one => Object.entries(one).every(([key, value]) => chosen()[key] === json(value)));

  // Whether the diagram is that of the map which the sweep makes: of its two keys and one slice, with phases as colours.
  function isMap() {
    const keys = details.map && [details.map.x, details.map.y];
    return Boolean(keys) && keys.includes(state.x) && keys.includes(state.y) && state.x !== state.y && state.z === "result.phase" && !state.seed && sliceOfMap() >= 0;
  }

  // The value that most runs have, or the median of numbers.
  function summary(values) {
    const numbers = values.map(value => typeof value === "string" && /^-?inf$/.test(value) ? Number(value.replace("inf", "Infinity")) : value);
    if (numbers.length && numbers.every(one => typeof one === "number")) {
      const sorted = numbers.toSorted((a, b) => a - b), half = (sorted.length - 1) / 2;
      return (sorted[Math.floor(half)] + sorted[Math.ceil(half)]) / 2;
    }
    const counts = new Map();
    for (const value of values) counts.set(String(value), (counts.get(String(value)) ?? 0) + 1);
    return [...counts].sort((a, b) => b[1] - a[1])[0]?.[0];
  }

  function told(one) {
    const ended = one.runs.filter(row => row.status !== "RUNNING").length, running = one.runs.length - ended;
    const seeds = [...new Set(one.runs.map(row => row.seed))].slice(0, 8).join(", ");
    return [...place(one), `${title(state.z)}: ${one.z === undefined ? one.predicted ?? "none yet" : text(one.z)}`,
      one.z === undefined && one.predicted ? "predicted, not run" : `${ended} ended${running ? `, ${running} running` : ""}${one.open ? `, ${one.open} points open` : ""}`, seeds && `seeds ${seeds}`].filter(Boolean);
  }

  function redraw() {
    remember({...state, x: state.x, y: state.y, z: state.z === "result.phase" ? "" : state.z, metric: state.metric === "test_accuracy" ? "" : state.metric, cell: picked});
    return read().then(draw);
  }

  async function draw() {
    if (!isCurrent()) return;
    const seeds = ["", ...[...new Set(rows.map(row => String(row.seed)))].sort((a, b) => a - b)];
    offer(seedChoice, "seed", seeds);
    drawSlices();
    drawHead();
    const found = cells();
    await drawCells(diagram, [...found.values()], isMap() ? "measured and predicted here" : "measured here");
    await drawPublished();
    diagram.removeAllListeners?.("plotly_click");
    diagram.on?.("plotly_click", event => pick(event.points[0].customdata));
    if (listed.open) drawList(found);
    if (picked) await drawPicked(found);
  }

  const sorted = values => [...new Map(values.map(value => [JSON.stringify(value), value])).values()].sort((a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : text(a) < text(b) ? -1 : 1);

  async function drawCells(element, all, caption) {
    const xs = sorted(all.map(one => one.x)), ys = sorted(all.map(one => one.y));
    const isGrid = xs.length * ys.length <= Math.max(400, 4 * all.length) && xs.length * ys.length <= 40000;
    const isPhase = all.some(one => Object.hasOwn(PHASES, one.z));
    const values = all.map(one => one.z).filter(z => typeof z === "number" && Number.isFinite(z));
    const isLog = !isPhase && values.length > 0 && Math.min(...values) > 0 && Math.max(...values) > 50 * Math.min(...values);
    const names = Object.keys(PHASES);
    const categories = isPhase ? names : typeof all.find(one => one.z !== undefined)?.z === "string" ? sorted(all.map(one => one.z).filter(z => z !== undefined)) : null;
    const number = z => z === undefined ? null : categories ? (categories.includes(z) ? categories.indexOf(z) : null) : !Number.isFinite(z) ? null : isLog ? Math.log10(z) : z;
    drawLegend(categories, isPhase);
    const palette = isPhase ? names.map(one => PHASES[one].colour) : COLOURS;
    const count = categories?.length ?? 0;
    const scale = categories ? categories.flatMap((_, i) => [[i / count, palette[i % palette.length]], [(i + 1) / count, palette[i % palette.length]]]) : "Viridis";
    const colour = {colorscale: scale, showscale: !categories, ...(categories ? {[isGrid ? "zmin" : "cmin"]: -0.5, [isGrid ? "zmax" : "cmax"]: count - 0.5} : {}),
      colorbar: {title: {text: label(`${isLog ? "log10 " : ""}${title(state.z)}`)}, thickness: 12}};
    const layout = {title: {text: label(caption), font: {size: 13}}, margin: {l: 60, r: 10, t: 30, b: 50}};
    const axis = key => ({title: {text: label(key)}});
    if (isGrid) {
      const at = new Map(all.map(one => [name(one.x, one.y), one]));
      const table = of => ys.map(y => xs.map(x => of(at.get(name(x, y)))));
      const letter = one => !one ? "" : one.z === undefined ? (one.runs.some(row => row.status === "RUNNING") ? "▶" : one.predicted ? PHASES[one.predicted].letter : one.runs.length ? "–" : "·") : isPhase ? PHASES[one.z]?.letter ?? "" : "";
      const ticks = list => list.map(value => label(text(value ?? "none")));
      const trace = {type: "heatmap", x: xs.map((_, i) => i), y: ys.map((_, i) => i), z: table(one => one ? number(one.z) : null), ...colour,
        customdata: table(one => one ? name(one.x, one.y) : null), text: table(one => one ? told(one).map(label).join("<br>") : ""), hoverinfo: "text", hoverongaps: true, xgap: 1, ygap: 1};
      if (at.size <= MOST_LETTERS) layout.annotations = [...at.values()].filter(letter).map(one => ({x: xs.findIndex(x => JSON.stringify(x) === JSON.stringify(one.x)),
        y: ys.findIndex(y => JSON.stringify(y) === JSON.stringify(one.y)), text: letter(one), showarrow: false, font: {size: 11, color: one.z === undefined ? undefined : "#fff"}}));
      const marks = list => ({tickvals: list.map((_, i) => i).filter(i => i % Math.ceil(list.length / 12) === 0), ticktext: ticks(list).filter((_, i) => i % Math.ceil(list.length / 12) === 0), range: [-0.5, list.length - 0.5], showgrid: false, zeroline: false});
      const traces = [trace];
      if (all.some(one => one.predicted)) traces.push({...trace, showscale: false, opacity: PALE, z: table(one => one?.predicted && one.z === undefined ? number(one.predicted) : null)}, boundary(xs, ys, at));
      return plot(element, traces, {...layout, xaxis: {...axis(state.x), ...marks(xs)}, yaxis: isRow() ? {visible: false} : {...axis(state.y), ...marks(ys)}}, isRow() ? 180 : 420);
    }
    const kind = list => ({type: list.every(one => typeof one === "number") ? (Math.min(...list) > 0 && Math.max(...list) > 30 * Math.min(...list) ? "log" : "linear") : "category"});
    const trace = {type: "scatter", mode: "markers", x: all.map(one => typeof one.x === "number" ? one.x : label(text(one.x))), y: all.map(one => typeof one.y === "number" ? one.y : label(text(one.y))),
      customdata: all.map(one => name(one.x, one.y)), text: all.map(one => told(one).map(label).join("<br>")), hoverinfo: "text",
      marker: {size: Math.max(6, Math.min(14, 225 / Math.sqrt(all.length))), symbol: "square", color: all.map(one => number(one.z)), ...colour}};
    return plot(element, [trace], {...layout, xaxis: {...axis(state.x), ...kind(xs)}, yaxis: {...axis(state.y), ...kind(ys)}}, 420);
  }

  // The lines between cells of different phases, run or predicted.
  function boundary(xs, ys, at) {
    const [x, y] = [[], []], phaseOf = (i, j) => { const one = at.get(name(xs[i], ys[j])); return one?.z ?? one?.predicted; };
    for (let i = 0; i < xs.length; i++) for (let j = 0; j < ys.length; j++) {
      const here = phaseOf(i, j), right = i + 1 < xs.length && phaseOf(i + 1, j), above = j + 1 < ys.length && phaseOf(i, j + 1);
      if (here && right && right !== here) { x.push(i + 0.5, i + 0.5, null); y.push(j - 0.5, j + 0.5, null); }
      if (here && above && above !== here) { x.push(i - 0.5, i + 0.5, null); y.push(j + 0.5, j + 0.5, null); }
    }
    return {type: "scatter", mode: "lines", x, y, line: {color: INK, width: 1.5}, hoverinfo: "skip", showlegend: false};
  }

  function drawLegend(categories, isPhase) {
    fill(legend, categories?.map((one, i) => h("span", {class: "phase"}, isPhase ? h("i", {class: `swatch ${one}`}) : h("i", {class: `swatch colour${i % COLOURS.length}`}),
      isPhase ? `${PHASES[one].letter} ${one} ` : `${one} `)), h("span", {class: "quiet"}, `· not begun, ▶ running, – no value${isMap() ? "; faint: predicted, not run; lines: the boundary between phases" : ""}`));
  }

  async function drawPublished() {
    const grids = await source.published({x: state.x, y: state.y});
    published.parentElement.hidden = !grids;
    if (grids && state.z === "result.phase") await drawCells(published, grids.cells.map(one => ({...one, z: one.phase, runs: [], open: 0})), grids.name);
    else published.parentElement.hidden = true;
  }

  // ---- one cell

  function drawList(found = cells()) {
    const all = [...found.values()].filter(one => one.runs.length), shown = all.slice(0, MOST_LISTED);
    fill(listed.querySelector("div"), grid([...axes().map(axis => state[axis]), title(state.z), "runs", ""], shown.map(one =>
      [...axes().map(axis => text(one[axis] ?? "none")), one.z === undefined ? "" : cell(state.z, one.z), one.runs.length, h("button", {type: "button", class: "small", "aria-label": `show ${place(one).join(", ")}`, click: () => pick(name(one.x, one.y))}, "show")])),
      shown.length < all.length && h("p", {class: "quiet"}, `the first ${shown.length} of ${all.length} cells`));
  }

  async function pick(cellName) {
    if (!cellName) return;
    picked = cellName;
    remember({...state, cell: picked});
    await drawPicked(cells());
    inCell.scrollIntoView({block: "nearest"});
  }

  async function drawPicked(found) {
    const one = found.get(picked);
    if (!one || !one.runs.length) { fill(inCell, one && h("p", {class: "quiet"}, one.predicted ? `not run: predicted as ${one.predicted} from the cells around it` : "no run in this cell yet")); return; }
    const runs = one.runs.slice(0, MOST_CURVES), ids = runs.map(row => row.run);
    const curves = await source.curves({runs: ids, points: 400});
    if (!isCurrent()) return;
    const names = [...new Set(curves.map(each => each.name))].sort();
    const metric = names.includes(state.metric) ? state.metric : names[0] ?? state.metric;
    let element = inCell.querySelector(".plot");
    if (!element) {
      element = h("div", {class: "plot", role: "img", "aria-label": "curves of the cell's runs"});
      inCell.append(h("h3"), h("label", {}, "metric ", h("select", {change: event => { state.metric = event.target.value; remember({...state, cell: picked}); drawPicked(cells()); }})), element, h("div"));
    }
    const [heading, chooser, , table] = inCell.children;
    heading.textContent = `${place(one).join(", ")}: ${one.runs.length} run${one.runs.length === 1 ? "" : "s"}${runs.length < one.runs.length ? `, of which the first ${runs.length} are shown` : ""}`;
    fill(chooser.querySelector("select"), names.map(each => h("option", {value: each, selected: each === metric}, words(each))));
    const traces = runs.flatMap((row, i) => [metric, metric.startsWith("test_") && metric.replace("test_", "train_")].filter(Boolean).flatMap((drawn, k) =>
      curves.filter(each => each.name === drawn && each.run === row.run).map(each => curve(each.steps, each.values, true,
        {name: label(`run ${row.run}, seed ${text(row.seed)}${k ? ", train" : ""}`), line: {color: COLOURS[i % COLOURS.length], width: k ? 1 : 1.8, dash: k ? "dot" : "solid"}, showlegend: runs.length <= 8}))));
    await plot(element, traces, {xaxis: stepAxis(true), yaxis: {title: {text: label(words(metric))}, ...(metric.endsWith("accuracy") ? {range: [-0.03, 1.03]} : {})}});
    fill(table, grid(["run", "seed", "status", "phase", ...(state.z === "result.phase" ? [] : [title(state.z)])], runs.map(row =>
      [runLink(row.run), row.seed, status(row.status), cell("result.phase", row.phase), ...(state.z === "result.phase" ? [] : [cell(state.z, row.z)])])));
  }

  await read();
  await draw();
  if (sweep.has_details) readDetails().then(read).then(draw).catch(() => {});  // the first time, the server loads torch for them
  return {
    refresh: async change => {
      if (change.runs?.length === 0 && change.sweeps !== null && !change.sweeps.includes(sweep.id)) return;
      sweep = await source.sweep(id);
      await readDetails();
      await read();
      await draw();
    },
  };
}
