// Plots with plotly.js, which is loaded with the first of them.

// Wong's colours, which the colour-blind can tell apart; the same in figures of `analysis`.
export const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8a8a"];
export const INK = "ink";  // stands for the colour of text, which depends on the theme
const DASHES = ["solid", "dash", "dot", "dashdot"];
let loading;

export function loadPlotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    const stored = document.getElementById("plotly");
    if (stored) {
      script.textContent = stored.textContent;
      document.head.append(script);
      resolve(globalThis.Plotly);
      return;
    }
    script.src = "files/plotly.min.js";
    script.onload = () => resolve(globalThis.Plotly);
    script.onerror = () => reject(new Error("plotly.js cannot be loaded"));
    document.head.append(script);
  });
  return loading;
}

// A text for plotly.js, which reads some tags: it is shown as it is.
export const label = value => String(value).replace(/[&<>]/g, c => ({"&": "&amp;", "<": "&lt;", ">": "&gt;"}[c]));

// The line style of a series by its number: colours repeat with another dash.
export const lineStyle = i => ({color: COLOURS[i % COLOURS.length], dash: DASHES[Math.floor(i / COLOURS.length) % DASHES.length], width: 1.8});

function theme() {
  const style = getComputedStyle(document.documentElement);
  const of = name => style.getPropertyValue(name).trim();
  return {ink: of("--ink"), line: of("--line"), paper: of("--paper")};
}

// Draws traces into an element, or changes what is drawn there, keeping the viewer's zoom.
export async function plot(element, traces, layout = {}, height = 320) {
  const Plotly = await loadPlotly();
  if (!element.isConnected) return;
  const {ink, line, paper} = theme();
  const axis = {gridcolor: line, linecolor: line, zerolinecolor: line, automargin: true};
  element.plotted = [traces, layout, height];
  const drawn = traces.map(trace => trace.line?.color === INK ? {...trace, line: {...trace.line, color: ink}} : trace);
  await Plotly.react(element, drawn, {
    height, margin: {l: 56, r: 12, t: 12, b: 42}, paper_bgcolor: paper, plot_bgcolor: paper,
    font: {color: ink, family: "system-ui, sans-serif", size: 12}, legend: {orientation: "h", y: 1.02, yanchor: "bottom", traceorder: "normal"},
    hoverlabel: {namelength: -1}, uirevision: "kept", ...layout,
    xaxis: {...axis, ...layout.xaxis}, yaxis: {...axis, ...layout.yaxis},
  }, {displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d"]});
}

// Draws all plots again, as in other colours.
export function redraw() {
  for (const element of document.querySelectorAll(".js-plotly-plot")) plot(element, ...element.plotted);
}

export function stepAxis(isLog) {
  return {title: {text: "step"}, type: isLog ? "log" : "linear", exponentformat: "power"};
}

// A line of a metric over steps; step 0 has no place on a logarithmic axis.
export function curve(steps, values, isLog, more) {
  const start = isLog && steps[0] === 0 ? 1 : 0;
  return {x: steps.slice(start), y: values.slice(start), mode: "lines", type: "scatter", ...more};
}
