// Any runs side by side: what differs in their config first, then their curves, with seeds as bands.
import {address, fill, grid, h, parted, runLink, svg, text, words} from "grok/dom.js";
import {COLOURS, curve, label, lineStyle, plot, stepAxis} from "grok/plots.js";
import {cell, title} from "grok/runs.js";

const MOST_RUNS = 200, MOST_SETTINGS = 28, MOST_AXES = 10;
const RESULTS = ["result.phase", "result.steps_to_train", "result.steps_to_test", "result.test_accuracy"];

export async function show(root, {source, parameters, remember, isCurrent}) {
  const listed = [...new Set(parted(parameters.get("runs") ?? "").filter(Boolean))];
  const wanted = listed.length ? {runs: listed.slice(0, MOST_RUNS)} : {filters: parameters.get("f") ?? ""};
  const state = {runs: parameters.get("runs"), f: parameters.get("f"), metric: parameters.get("metric") ?? "test_accuracy", x: parameters.get("x") ?? "log", colour: parameters.get("colour") ?? "result.steps_to_test"};
  const head = h("div"), element = h("div", {class: "plot", role: "img", "aria-label": "curves"}), axes = h("section");
  const metric = h("select", {change: () => { state.metric = metric.value; remember(state); draw(); }});
  const isLog = h("input", {type: "checkbox", checked: state.x === "log", change: () => { state.x = isLog.checked ? "log" : "linear"; remember(state); draw(); }});
  root.append(head, h("div", {class: "bar"}, h("label", {}, "metric ", metric), h("label", {}, isLog, " logarithmic steps")), element, axes);
  let settings = [], curves = [], runs = [];

  // Runs of equal config except the seed are one setting.
  async function read() {
    const keys = await source.keys(wanted);  // of these runs: others may have more, or fewer
    const columns = ["run", "status", "experiment", "seed", ...RESULTS, ...keys.config.filter(key => key !== "seed")];
    const {total, rows, why} = await source.runs({...wanted, columns, sort: "run", down: false, limit: MOST_RUNS});
    runs = rows.map(row => Object.fromEntries(row.map((value, i) => [columns[i], value])));
    const differing = ["experiment", ...keys.config].filter(key => key !== "seed" && new Set(runs.map(run => JSON.stringify(run[key] ?? null))).size > 1);
    const bySetting = new Map();
    for (const run of runs) {
      const name = JSON.stringify(differing.map(key => run[key] ?? null));
      bySetting.set(name, [...(bySetting.get(name) ?? []), run]);
    }
    settings = [...bySetting.values()].map((members, i) => ({members, style: lineStyle(i),
      name: differing.length ? differing.map(key => `${key}=${text(members[0][key] ?? "none")}`).join(" ") : "all equal but for the seed"}));
    curves = runs.length ? await source.curves({runs: runs.map(run => run.run), points: 300}) : [];
    if (!isCurrent()) return;
    drawTable(differing, listed.length || total, why);
    const names = [...new Set(curves.map(one => one.name))].sort();
    if (!names.includes(state.metric) && names.length) [state.metric] = names;
    fill(metric, names.map(name => h("option", {value: name, selected: name === state.metric}, words(name))));
    await draw();
    drawParallel(differing);
  }

  function drawTable(differing, total, why) {
    const shown = settings.slice(0, MOST_SETTINGS);
    const line = ({style}) => svg("svg", {width: 26, height: 10, "aria-hidden": "true"}, svg("line", {x1: 0, x2: 26, y1: 5, y2: 5, stroke: style.color, "stroke-width": 2.5,
      "stroke-dasharray": {solid: "none", dash: "7 4", dot: "2 3", dashdot: "7 3 2 3"}[style.dash]}));
    const over = (members, key) => {
      const values = members.map(run => run[key]), numbers = values.filter(value => typeof value === "number");
      if (new Set(values.map(value => JSON.stringify(value ?? null))).size === 1) return cell(key, values[0]);
      if (!numbers.length) return [...new Set(values.map(text))].join(", ");
      const low = text(Math.min(...numbers)), high = text(Math.max(...numbers));
      return `${low === high ? low : `${low} to ${high}`}${numbers.length < values.length ? `, ${values.length - numbers.length} never` : ""}`;
    };
    fill(head, h("h2", {}, `Compare ${runs.length} runs of ${settings.length} setting${settings.length === 1 ? "" : "s"}`),
      total > runs.length && h("p", {class: "quiet"}, total > MOST_RUNS ? `the first ${runs.length} of ${total} runs; a filter or another choice shows the others` : `${total - runs.length} of the ${total} chosen runs are not here`),
      runs.length === 0 && h("p", {class: "quiet"}, why),
      runs.length > 0 && h("p", {class: "quiet"}, differing.length ? `differs: ${differing.join(", ")}` : "nothing but the seed differs"),
      grid(["", ...differing, ...RESULTS.map(title), "runs (seed)"], shown.map(one => [line(one), ...differing.map(key => text(one.members[0][key] ?? "none")),
        ...RESULTS.map(key => over(one.members, key)), one.members.slice(0, 12).map(run => [runLink(run.run), ` (${text(run.seed)}) `])])),
      settings.length > shown.length && h("p", {class: "quiet"}, `and ${settings.length - shown.length} more settings; a filter makes them fewer`));
  }

  // ---- curves: the median over seeds as a line, from the lowest to the highest as a band

  async function draw() {
    const log = isLog.checked, traces = [];
    for (const one of settings.slice(0, MOST_SETTINGS)) {
      const own = curves.filter(each => each.name === state.metric && one.members.some(run => run.run === each.run) && each.steps.length);
      if (!own.length) continue;
      const band = own.length > 1 ? spread(own) : null;
      const shape = {line: one.style, name: label(one.name), showlegend: false};  // the table has the lines
      if (band) {
        traces.push(curve(band.steps, band.low, log, {line: {width: 0}, hoverinfo: "skip", showlegend: false}),
          curve(band.steps, band.high, log, {line: {width: 0}, fill: "tonexty", fillcolor: `${one.style.color}33`, hoverinfo: "skip", showlegend: false}));
      }
      traces.push(curve(band ? band.steps : own[0].steps, band ? band.median : own[0].values, log, shape));
    }
    const yaxis = state.metric.endsWith("accuracy") ? {range: [-0.03, 1.03]} : state.metric.endsWith("loss") ? {type: "log", exponentformat: "power"} : {};
    await plot(element, traces, {xaxis: stepAxis(log), yaxis: {title: {text: label(words(state.metric))}, ...yaxis}}, 420);
  }

  // ---- parallel coordinates: a line for each run, across the keys that differ and its results

  function drawParallel(differing) {
    const names = [...differing.slice(0, MOST_AXES - RESULTS.length), ...RESULTS.slice(1)].filter(key => runs.some(run => run[key] !== null && run[key] !== undefined));
    if (runs.length < 3 || names.length < 2) { fill(axes); return; }
    const [width, height, top] = [Math.max(400, 150 * names.length), 300, 40];
    const scales = names.map(key => scaleOf(runs.map(run => run[key])));
    const x = i => 80 + i * (width - 160) / (names.length - 1), y = at => height - 24 - at * (height - top - 30);
    const colour = h("select", {change: () => { state.colour = colour.value; remember(state); drawParallel(differing); }},
      names.map(key => h("option", {value: key, selected: key === state.colour}, title(key))));
    const chosen = scales[Math.max(0, names.indexOf(state.colour))], of = names[Math.max(0, names.indexOf(state.colour))];
    const lines = runs.map(run => {
      const points = names.map((key, i) => [x(i), scales[i](run[key])]).filter(([, at]) => at !== null).map(([across, at]) => `${across.toFixed(1)},${y(at).toFixed(1)}`);
      const at = chosen(run[of]);
      return svg("a", {href: address(["run", run.run])}, svg("polyline", {points: points.join(" "), fill: "none", stroke: at === null ? "#8a8a8a" : viridis(at), "stroke-width": 1.6, opacity: 0.75}),
        svg("title", {}, `run ${run.run}, seed ${text(run.seed)}: ${names.map(key => `${title(key)} ${text(run[key] ?? "none")}`).join(", ")}`));
    });
    const rulers = names.map((key, i) => svg("g", {transform: `translate(${x(i)} 0)`}, svg("line", {y1: y(0), y2: y(1), class: "ruler"}),
      svg("text", {y: 16, "text-anchor": "middle"}, title(key)), scales[i].ticks.map(([at, value]) => svg("text", {x: 5, y: y(at) + 4, class: "tick"}, text(value)))));
    fill(axes, h("h3", {}, "Parallel coordinates"), h("p", {class: "bar"}, h("label", {}, "colour ", colour), h("span", {class: "quiet"}, "dark is low, yellow is high; a run that never got there has no line to that axis")),
      h("div", {class: "scroll"}, svg("svg", {viewBox: `0 0 ${width} ${height}`, width, height, class: "parallel", role: "group", "aria-label": "parallel coordinates"}, lines, rulers)));
  }

  await read();
  return {refresh: async change => {
    if (change.runs === null || !listed.length || change.runs.some(id => runs.some(run => run.run === id))) await read();
  }};
}

// Lowest, median and highest value of several curves at the steps of all, each interpolated between its own.
function spread(own) {
  const steps = [...new Set(own.flatMap(one => one.steps))].sort((a, b) => a - b);
  const at = steps.map(step => own.map(one => interpolated(one, step)).filter(value => value !== null).sort((a, b) => a - b));
  const middle = values => values.length ? (values[Math.floor((values.length - 1) / 2)] + values[Math.ceil((values.length - 1) / 2)]) / 2 : null;
  return {steps, low: at.map(values => values[0] ?? null), median: at.map(middle), high: at.map(values => values.at(-1) ?? null)};
}

function interpolated({steps, values}, step) {
  let low = 0, high = steps.length - 1;
  if (step < steps[0] || step > steps[high]) return null;
  while (high - low > 1) {
    const half = (low + high) >> 1;
    if (steps[half] <= step) low = half; else high = half;
  }
  if (steps[high] === step) return values[high];
  if (steps[low] === step || values[low] === null || values[high] === null) return values[low];
  return values[low] + (values[high] - values[low]) * (step - steps[low]) / (steps[high] - steps[low]);
}

// A function from values to places between 0 and 1 (null for none), with `ticks`; logarithmic where values differ in size.
function scaleOf(values) {
  const known = values.filter(value => value !== null && value !== undefined);
  if (known.length && known.every(value => typeof value === "number")) {
    const low = Math.min(...known), high = Math.max(...known), isLog = low > 0 && high > 30 * low;
    const f = isLog ? Math.log : Number, back = isLog ? Math.exp : Number, size = f(high) - f(low) || 1;
    const scale = value => typeof value === "number" ? (f(value) - f(low)) / size : null;
    scale.ticks = [0, 0.5, 1].map(at => [at, Number(back(f(low) + at * size).toPrecision(3))]).slice(0, low === high ? 1 : 3);
    return scale;
  }
  const names = [...new Set(known.map(text))].sort();
  const scale = value => value === null || value === undefined ? null : names.indexOf(text(value)) / Math.max(1, names.length - 1);
  scale.ticks = names.slice(0, 12).map((name, i) => [i / Math.max(1, names.length - 1), name]);
  return scale;
}

const VIRIDIS = ["#440154", "#3b528b", "#21918c", "#5ec962", "#fde725"];
function viridis(at) {
  const place = Math.min(VIRIDIS.length - 2, Math.floor(at * (VIRIDIS.length - 1))), rest = at * (VIRIDIS.length - 1) - place;
  const part = (colour, i) => parseInt(colour.slice(1 + 2 * i, 3 + 2 * i), 16);
  const mixed = [0, 1, 2].map(i => Math.round(part(VIRIDIS[place], i) * (1 - rest) + part(VIRIDIS[place + 1], i) * rest));
  return `rgb(${mixed.join(",")})`;
}
