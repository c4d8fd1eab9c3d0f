// The page shows the papers, the sweeps, one sweep, the runs, or one run: the part of its address after #.
const COLOURS = {comprehension: "#2e9e5b", grokking: "#2f6fb5", memorization: "#e0a030", confusion: "#b8483e"};
const ROW_HEIGHT = 28;  // of a row of the table, as in the style sheet
const WIDTHS = {run: 60, experiment: 90, status: 100, started: 130, sweep: 150, seed: 45, phase: 120, steps_to_train: 65,
  steps_to_test: 65, train_accuracy: 75, test_accuracy: 75, curve: 105, seconds: 65};
const HEADINGS = {steps_to_train: "train at", steps_to_test: "test at", train_accuracy: "train acc", test_accuracy: "test acc", curve: "test curve"};
const view = document.getElementById("view");
let data, details, rowOfRun, shown = [], queryError = "", order = {key: "run", down: true}, query = "";

const escape = text => String(text ?? "").replace(/[&<>"]/g, c => ({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}[c]));
const number = value => Array.isArray(value) ? `[${value.map(number).join(", ")}]` : typeof value === "number" ? (Number.isInteger(value) ? String(value) : value.toPrecision(4)) : value;
const duration = s => typeof s !== "number" ? "" : s < 60 ? `${s.toFixed(1)} s` : `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`;

async function unpack(id) {
  const text = document.getElementById(id).textContent;
  const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

// ---- the runs that the query selects, in order

function choose() {
  queryError = "";
  try {
    shown = selectRows(query);
  } catch (error) {  // a word that is not written to its end, or is no filter
    [shown, queryError] = [[], error.message];
  }
  const sign = order.down ? -1 : 1;
  shown.sort((a, b) => {
    const [x, y] = [data.runs[order.key][a], data.runs[order.key][b]];
    const [xIsMissing, yIsMissing] = [x, y].map(value => value == null || value === "");
    if (xIsMissing || yIsMissing) return xIsMissing - yIsMissing;  // what is missing comes last
    return sign * (x < y ? -1 : x > y ? 1 : 0);
  });
}

// ---- the table of runs: only the rows in sight exist

function spark(text) {
  if (!text) return "";
  const code = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const points = [...text].map((c, i) => `${i * 4},${(21 - code.indexOf(c) / 3.2).toFixed(1)}`).join(" ");
  return `<svg width="96" height="22"><polyline points="${points}" fill="none" stroke="#2471a3" stroke-width="1.3"/></svg>`;
}

function showRuns() {
  view.innerHTML = `<input id="filter" placeholder="experiment=liu_toy p=10 result.phase=grokking result.steps_to_test=..2000 seed=0,1" value="${escape(query)}">
    <p class="quiet"><span id="count"></span> &middot; all words must hold: KEY=VALUE as in <code>grok store export --help</code> (run, experiment, sweep, status, tag, claim, since, until, result.KEY, else a key of the config), alternatives a,b, ranges low..high; or any text</p>
    <div class="grid"><div class="row head"></div><div id="body" style="position:relative"></div></div>`;
  const columns = Object.keys(WIDTHS), grid = view.querySelector(".grid"), body = document.getElementById("body");
  const template = columns.map(name => `minmax(${WIDTHS[name]}px, ${WIDTHS[name]}fr)`).join(" ");
  const head = view.querySelector(".head");
  const draw = () => {
    body.style.height = `${shown.length * ROW_HEIGHT}px`;
    const first = Math.max(0, Math.floor(grid.scrollTop / ROW_HEIGHT) - 5);
    const last = Math.min(shown.length, first + Math.ceil(grid.clientHeight / ROW_HEIGHT) + 10);
    body.innerHTML = shown.slice(first, last).map((row, i) =>
      `<div class="row body" data-run="${escape(data.runs.run[row])}" style="top:${(first + i) * ROW_HEIGHT}px;grid-template-columns:${template}">` +
      columns.map(name => name === "curve" ? `<span>${spark(data.spark[row])}</span>` : `<span>${cell(name, data.runs[name][row])}</span>`).join("") +
      "</div>").join("");
  };
  const refresh = () => {
    choose();
    document.getElementById("count").textContent = queryError || `${shown.length} of ${data.runs.run.length} runs`;
    head.style.gridTemplateColumns = template;
    head.innerHTML = columns.map(name => `<span data-key="${name}">${HEADINGS[name] ?? name}${order.key === name ? (order.down ? " ▾" : " ▴") : ""}</span>`).join("");
    draw();
  };
  grid.addEventListener("scroll", draw);
  document.getElementById("filter").addEventListener("input", event => { query = event.target.value; grid.scrollTop = 0; refresh(); });
  head.addEventListener("click", event => {
    const key = event.target.dataset.key;
    if (!key || key === "curve") return;
    order = {key, down: order.key === key ? !order.down : false};
    refresh();
  });
  body.addEventListener("click", event => { location.hash = `run=${encodeURIComponent(event.target.closest(".row").dataset.run)}`; });
  refresh();
}

function cell(name, value) {
  if (name === "phase" && value) return `<b style="color:${COLOURS[value] ?? "inherit"}">${escape(value)}</b>`;
  if (name.startsWith("steps_to") && value === null) return '<span class="quiet">never</span>';
  return escape(number(value));
}

// ---- one run

async function showRun(id) {
  const row = rowOfRun.get(id);
  if (row === undefined) { view.innerHTML = `<h2>no run ${escape(id)} in this report</h2>`; return; }
  const value = name => data.runs[name][row];
  const pairs = (columns) => Object.entries(columns).filter(([, c]) => c.i[row] >= 0)
    .map(([key, c]) => `<tr><th>${escape(key)}</th><td>${escape(number(c.v[c.i[row]]))}</td></tr>`).join("");
  const results = ["phase", "steps_to_train", "steps_to_test", "train_accuracy", "test_accuracy"];
  view.innerHTML = `<h2>Run ${escape(id)}: ${escape(value("experiment"))} <span class="quiet">${escape(value("status"))}, ${escape(value("started"))}, ${duration(value("seconds"))}</span></h2>
    <table><tr>${results.map(name => `<th>${name.replaceAll("_", " ")}</th>`).join("")}</tr><tr>${results.map(name => `<td>${cell(name, value(name))}</td>`).join("")}</tr></table>
    ${value("sweep") ? `<p>of sweep <a href="#sweep=${encodeURIComponent(value("sweep"))}">${escape(value("sweep"))}</a></p>` : ""}
    <div class="two"><div id="accuracies" class="plot"></div><div id="losses" class="plot"></div></div><div id="others"></div>
    <h3>Repeat it</h3><pre>${escape(data.commands[row])}\ngrok repeat ${escape(id)}</pre>
    <div class="two"><div><h3>Config</h3><table>${pairs(data.config)}</table></div><div><h3>Environment</h3><table>${pairs(data.environment)}</table></div></div>`;
  details = details ?? await unpack("details");
  if (decodeURIComponent(location.hash) !== `#run=${id}`) return;  // the reader has gone on
  const curves = details.curves[row], names = Object.keys(curves).sort();
  const numbers = text => text.split(",").map(number => number === "" ? null : Number(number));
  const traces = chosen => chosen.map(name => ({x: details.steps[curves[name][0]], y: numbers(curves[name][1]), name: name.replaceAll("_", " "), mode: "lines"}));
  const ofKind = kind => names.filter(name => name === `train_${kind}` || name === `test_${kind}`);
  plot("accuracies", traces(ofKind("accuracy")), {yaxis: {title: {text: "accuracy"}, range: [-0.03, 1.03]}});
  plot("losses", traces(ofKind("loss")), {yaxis: {title: {text: "loss"}, exponentformat: "power", type: "log"}});
  const others = names.filter(name => !/^(train|test)_(accuracy|loss)$/.test(name));
  document.getElementById("others").innerHTML = others.length ? `<details><summary>other metrics: ${others.length}</summary><div class="two">` +
    others.map((name, i) => `<div id="other${i}" class="plot"></div>`).join("") + "</div></details>" : "";
  document.querySelector("#others details")?.addEventListener("toggle", () =>
    others.forEach((name, i) => plot(`other${i}`, traces([name]), {yaxis: {title: {text: name.replaceAll("_", " ")}}})), {once: true});
}

function plot(id, traces, layout) {
  if (!traces.length) { document.getElementById(id).innerHTML = '<p class="quiet">not logged</p>'; return; }
  const steps = traces.flatMap(trace => trace.x);
  Plotly.newPlot(id, traces, {margin: {l: 60, r: 10, t: 10, b: 40}, legend: {x: 0.02, y: 0.98}, ...layout,
    xaxis: {title: {text: "step"}, type: Math.max(...steps) > 50 ? "log" : "linear"}}, {displaylogo: false, responsive: true});
}

// ---- sweeps

function showSweeps() {
  const counts = new Map();
  data.runs.sweep.forEach(id => counts.set(id, (counts.get(id) ?? 0) + 1));
  view.innerHTML = `<h2>Sweeps</h2><table><tr><th>sweep</th><th>experiment</th><th>started</th><th>runs</th><th>time</th><th>varies</th><th>claims</th></tr>` +
    data.sweeps.map(s => `<tr><td><a href="#sweep=${encodeURIComponent(s.id)}">${escape(s.name)}</a></td><td>${escape(s.experiment)}</td><td>${s.created}</td>
      <td class="number">${counts.get(s.id) ?? 0}</td><td>${duration(s.seconds)}</td><td>${escape(s.keys.join(", "))}</td><td>${s.claims}</td></tr>`).join("") + "</table>";
}

function showSweep(id) {
  const sweep = data.sweeps.find(sweep => sweep.id === id);
  if (!sweep) { view.innerHTML = `<h2>no sweep ${escape(id)} in this report</h2>`; return; }
  const rows = data.runs.run.map((_, row) => row).filter(row => data.runs.sweep[row] === id);
  const kinds = key => new Set(rows.map(row => JSON.stringify(valueAt(row, key)))).size;
  const keys = sweep.keys.filter(key => kinds(key) > 1).sort((a, b) => kinds(b) - kinds(a));
  view.innerHTML = `<h2>${escape(sweep.name)} <span class="quiet">${escape(sweep.experiment)}, ${sweep.created}, ${rows.length} runs, ${duration(sweep.seconds)}</span></h2>
    <p><a id="table" href="#runs">its runs as a table</a></p><div class="two"><div id="phases" class="plot"></div><div id="steps" class="plot"></div></div>`;
  document.getElementById("table").onclick = () => { query = `sweep=${id}`; };
  const x = keys[0] ?? "seed", y = keys[1], at = (row, key) => { const v = valueAt(row, key); return typeof v === "number" ? v : String(number(v)); };
  const axis = key => {
    const values = rows.map(row => at(row, key)), numbers = values.every(v => typeof v === "number");
    return {title: {text: key}, automargin: true, type: !numbers ? "category" : Math.min(...values) > 0 && Math.max(...values) > 30 * Math.min(...values) ? "log" : "linear"};
  };
  const text = row => `run ${data.runs.run[row]}, seed ${data.runs.seed[row]}<br>${data.runs.phase[row] ?? data.runs.status[row]}, test ${number(data.runs.test_accuracy[row])}`;
  const trace = (chosen, more) => ({x: chosen.map(row => at(row, x)), y: chosen.map(row => y ? at(row, y) : data.runs.test_accuracy[row]),
    text: chosen.map(text), customdata: chosen.map(row => data.runs.run[row]), mode: "markers", type: "scatter", hovertemplate: "%{text}<extra></extra>", ...more});
  const layout = {margin: {l: 70, r: 10, t: 30, b: 45}, xaxis: axis(x), yaxis: y ? axis(y) : {title: {text: "test accuracy"}}, legend: {orientation: "h", y: 1.12}};
  const marker = y === undefined ? {size: 7, opacity: 0.7} : {symbol: "square", size: Math.max(6, Math.min(18, 900 / Math.sqrt(rows.length) / 4))};
  Plotly.newPlot("phases", Object.keys(COLOURS).map(phase => trace(rows.filter(row => data.runs.phase[row] === phase), {name: phase, marker: {...marker, color: COLOURS[phase]}})),
    layout, {displaylogo: false, responsive: true});
  const reached = rows.filter(row => typeof data.runs.steps_to_test[row] === "number");
  const steps = reached.map(row => Math.log10(Math.max(1, data.runs.steps_to_test[row])));
  Plotly.newPlot("steps", y ? [trace(reached, {marker: {...marker, color: steps, colorscale: "Viridis", colorbar: {title: {text: "log10 steps<br>to test"}}}})]
    : [{...trace(reached, {marker}), y: reached.map(row => data.runs.steps_to_test[row])}],
    {...layout, yaxis: y ? axis(y) : {title: {text: "steps to test"}, type: "log"}}, {displaylogo: false, responsive: true});
  for (const id of ["phases", "steps"]) document.getElementById(id).on("plotly_click", event => { location.hash = `run=${encodeURIComponent(event.points[0].customdata)}`; });
}

// ---- papers

function showPapers() {
  view.innerHTML = data.papers.map(paper => {
    const claims = paper.claims.filter(claim => !claim.control), passed = claims.filter(claim => claim.verdict === "passed").length;
    const color = word => ({passed: "good", failed: "bad"})[word] ?? "quiet";
    return `<h2>${escape(paper.name)} <span class="quiet">${claims.length ? `${passed} of ${claims.length} claims passed` : ""} ${paper.seconds ? `in ${duration(paper.seconds)}` : ""}</span></h2>
      <p>${escape(paper.description)}</p>` +
      (paper.claims.length ? `<details open><summary>claims</summary><table>` + paper.claims.map(claim => `<tr><td>${escape(claim.id)}</td><td>${escape(claim.statement)}</td>
        <td><b class="${color(claim.verdict)}">${escape(claim.detail)}</b>${claim.control ? ' <span class="quiet">our control</span>' : ""}</td><td>${escape(claim.seeds)}</td><td class="quiet">${escape(claim.measured)}</td></tr>`).join("") + "</table></details>" : "") +
      `<div class="pictures">${paper.figures.map(figure => `<a href="${figure.data}" download="${escape(figure.name)}.png"><img src="${figure.data}" alt="${escape(figure.name)}" title="${escape(figure.name)}"></a>`).join("")}</div>`;
  }).join("");
}

// ----

function route() {
  const [page, ...rest] = decodeURIComponent(location.hash.slice(1) || "papers").split("="), id = rest.join("=");
  document.querySelectorAll("nav a").forEach(a => a.classList.toggle("here", a.hash.slice(1, 4) === page.slice(0, 3)));
  window.scrollTo(0, 0);
  ({papers: showPapers, sweeps: showSweeps, sweep: () => showSweep(id), runs: showRuns, run: () => showRun(id)}[page] ?? showPapers)();
}

unpack("summary").then(summary => {
  data = summary;
  rowOfRun = new Map(data.runs.run.map((run, row) => [String(run), row]));
  const about = data.about;
  document.getElementById("about").textContent = `${about.runs} runs of ${about.store}, made ${about.made} at commit ${about.commit}`;
  window.addEventListener("hashchange", route);
  route();
});
