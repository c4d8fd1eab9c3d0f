// One run: its curves, live while it trains, its config, results, environment and output.
import {address, copyButton, duration, failure, fill, h, pairs, phase, runLink, status, sweepLink, text, time, words} from "grok/dom.js";
import {COLOURS, curve, label, lineStyle, plot, stepAxis} from "grok/plots.js";

const HEADLINE = ["phase", "steps_to_train", "steps_to_test", "train_accuracy", "test_accuracy", "train_loss", "test_loss", "seconds"];
const MAIN = {accuracy: ["train_accuracy", "test_accuracy"], loss: ["train_loss", "test_loss"]};
const MOST_LINES = 12;  // in one plot of an instrument

export async function show(root, {source, path, parameters, remember, isCurrent}) {
  const id = path[0] ?? "";
  const run = await source.run(id);
  const head = h("div"), plots = h("div"), facts = h("div", {class: "two facts"});
  const notes = h("section", {"aria-label": "tags and notes"}), below = h("div");
  const output = h("details", {hidden: true}, h("summary", {}, "Output"), h("pre", {class: "output"}));
  const isLog = h("input", {type: "checkbox", checked: parameters.get("x") !== "linear", change: () => {
    remember({x: isLog.checked ? "" : "linear"});
    draw();
  }});
  root.append(head, h("p", {class: "bar"}, h("label", {}, isLog, " logarithmic steps")), plots, notes, facts, below, output);
  let curves = [], defaults = null;

  function drawHead(run) {
    fill(head,
      h("h2", {}, `Run ${run.run}: ${run.experiment} `, status(run.status)),
      h("p", {class: "quiet"}, [run.started && `started ${time(run.started)} UTC`, run.stopped && `ended ${time(run.stopped)} UTC`,
        run.host.hostname && `on ${run.host.hostname}`].filter(Boolean).join(", "), run.sweep && [", of sweep ", sweepLink(run.sweep)]),
      progressOf(run), resultOf(run));
  }

  // ---- curves

  // The plots: accuracy, loss, then a group for each instrument (what stands before "/") and the other metrics.
  function plotsOf(names) {
    const groups = new Map(Object.entries(MAIN).map(([title, metrics]) => [title, metrics.filter(name => names.includes(name))]));
    for (const name of names) {
      if (Object.values(MAIN).flat().includes(name)) continue;
      const group = name.includes("/") ? name.slice(0, name.indexOf("/")) : name;
      groups.set(group, [...(groups.get(group) ?? []), name]);
    }
    for (const [group, all] of [...groups])  // more lines than a plot can tell apart are in several
      for (let i = 0; i < all.length; i += MOST_LINES)
        groups.set(i ? `${group}, part ${1 + i / MOST_LINES}` : group, all.slice(i, i + MOST_LINES));
    return groups;
  }

  function draw() {
    const groups = plotsOf(curves.map(one => one.name));
    for (const [title, names] of groups) {
      let figure = [...plots.querySelectorAll("figure")].find(one => one.dataset.group === title);
      if (!figure) figure = addFigure(title);
      const [caption, element] = figure.children;
      caption.textContent = `${words(title)}${names.length ? "" : ": not logged"}`;
      element.hidden = !names.length;
      if (figure.closest("details")?.open === false || !names.length) continue;
      const traces = curves.filter(one => names.includes(one.name)).map((one, i) =>
        curve(one.steps, one.values, isLog.checked, {name: label(words(one.name.slice(one.name.indexOf("/") + 1))),
          line: title in MAIN ? {color: one.name.startsWith("train") ? COLOURS[1] : COLOURS[0], width: 1.8} : lineStyle(i), showlegend: true}));
      const yaxis = title === "accuracy" ? {range: [-0.03, 1.03]} : title === "loss" ? {type: "log", exponentformat: "power"} : {};
      plot(element, traces, {xaxis: stepAxis(isLog.checked), yaxis: {title: {text: label(words(title))}, ...yaxis}});
    }
  }

  function addFigure(title) {
    const figure = h("figure", {"data-group": title}, h("figcaption"), h("div", {class: "plot", role: "img", "aria-label": `${words(title)} over steps`}));
    if (title in MAIN) {
      const two = plots.querySelector(".two") ?? plots.appendChild(h("div", {class: "two"}));
      two.append(figure);
    } else {
      const others = plots.querySelector("details") ?? plots.appendChild(h("details", {class: "instruments", toggle: draw},
        h("summary", {}, "instruments and other metrics"), h("div", {class: "two"})));
      others.querySelector(".two").append(figure);
      const count = others.querySelectorAll("figure").length;
      others.querySelector("summary").textContent = `instruments and other metrics: ${count}`;
    }
    return figure;
  }

  // ---- facts

  // Which keys differ from the experiment's defaults; where those are not known, which were set for the run.
  function drawFacts(run) {
    const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
    const differing = new Set(defaults ? Object.keys(run.config).filter(key => key !== "seed" && !same(run.config[key], defaults[key])) : run.updates);
    const keys = Object.keys(run.config).sort((a, b) => differing.has(b) - differing.has(a));
    const config = keys.map(key => [key, run.config[key], {class: differing.has(key) && "differs", title: defaults && differing.has(key) && `default: ${text(defaults[key] ?? "none")}`}]);
    fill(facts,
      section("Config", h("p", {class: "quiet"}, differing.size ? `marked: ${defaults ? "differs from the defaults" : "set for this run"}` : "all as the defaults",
        run.named_configs.length ? `; named configs: ${run.named_configs.join(", ")}` : ""), pairs(config)),
      h("div", {},
        section("Result", pairs(Object.entries(run.result).filter(([key]) => !HEADLINE.includes(key)))),
        run.claims.length > 0 && section("Claims of this run", pairs(run.claims.map(one => [one.claim, one.passed ? "✓ passed" : "✗ failed"]))),
        Object.keys(run.parents).length > 0 && section("Other runs", pairs(Object.entries(run.parents).map(([key, other]) =>
          [key.replaceAll("_", " "), other === null ? "not in this store" : runLink(other)]))),
        run.files.length > 0 && section("Files", h("p", {}, run.files.join(", "))),
        section("Environment", pairs([...Object.entries(run.environment), ...Object.entries(run.program)].map(([key, value]) => [key, value])))));
    fill(below,
      section("Commands", ...Object.entries(run.commands).map(([name, line]) => h("div", {class: "command"}, h("span", {class: "quiet"}, name), h("pre", {}, line), copyButton(line)))),
      run.trace && section("Error", h("pre", {class: "output"}, run.trace)));
  }

  function drawOutput(run) {  // it stays open while it grows
    output.hidden = !run.output;
    const shown = output.querySelector("pre");
    if (shown.textContent !== run.output) shown.textContent = run.output;
  }

  async function drawNotes(run) {
    if (!source.setNotes) {
      fill(notes, (run.tags.length || run.notes) && pairs([["tags", run.tags.join(", ")], ["notes", run.notes]]));
      return;
    }
    const isWritten = [...notes.querySelectorAll("input, textarea")].some(field => field.value !== field.defaultValue);
    if (isWritten || notes.contains(document.activeElement)) return;  // what is not saved yet stays
    const tags = h("input", {value: run.tags.join(", "), placeholder: "separated by commas", "aria-label": "tags"});
    const words = h("textarea", {rows: 2, "aria-label": "notes"}, run.notes);
    const said = h("span", {role: "status", class: "quiet"});
    fill(notes, h("form", {class: "notes", submit: async event => {
      event.preventDefault();
      try {
        await source.setNotes(run.run, tags.value.split(",").map(tag => tag.trim()).filter(Boolean), words.value);
        for (const field of [tags, words]) field.defaultValue = field.value;
        said.textContent = "saved";
      } catch (error) { said.textContent = error.message; }
    }}, h("label", {}, "tags ", tags), h("label", {}, "notes ", words), h("button", {}, "save"), said));
  }

  // ---- weights and representation: a matrix as colours, and the first two principal components of its rows

  const kept = h("details", {toggle: () => kept.open && !kept.dataset.isRead && drawKept().catch(error => fill(kept.lastElementChild, failure(error)))},
    h("summary", {}, "Weights and representation"), h("div"));

  async function drawKept() {
    kept.dataset.isRead = "yes";
    const body = kept.lastElementChild, found = await source.arrays(id);
    if (!found.length) { fill(body, h("p", {class: "quiet"}, "this run has kept no matrices (record_trajectory=True keeps them over time)")); return; }
    const choice = h("select", {change: () => { step.max = chosen().steps.length - 1; step.value = step.max; drawMatrix(); }},
      found.map((one, i) => h("option", {value: i}, `${one.name} (${one.shape.join(" x ")})${one.steps.length ? " over time" : ""}`)));
    const step = h("input", {type: "range", min: 0, "aria-label": "step", input: () => drawMatrix()}), at = h("span");
    const map = h("div", {class: "plot", role: "img", "aria-label": "the matrix"}), components = h("div", {class: "plot", role: "img", "aria-label": "principal components of its rows"});
    const chosen = () => found[choice.value];
    fill(body, h("p", {class: "bar"}, h("label", {}, "matrix ", choice), h("label", {}, step, " ", at)), h("div", {class: "two"}, h("figure", {}, map), h("figure", {}, components)));
    async function drawMatrix() {
      const one = chosen(), place = one.steps.length ? Number(step.value) : 0;
      step.parentElement.hidden = !one.steps.length;
      at.textContent = one.steps.length ? `step ${one.steps[place].toLocaleString("en")}` : "";
      const matrix = await source.matrix(id, one, place);
      if (!isCurrent() || chosen() !== one || (one.steps.length && Number(step.value) !== place)) return;
      const most = Math.max(...matrix.values.flat().map(value => Math.abs(value ?? 0)));
      plot(map, [{type: "heatmap", x: matrix.columns, y: matrix.rows, z: matrix.values, colorscale: "RdBu", zmin: -most, zmax: most, colorbar: {thickness: 12}}],
        {xaxis: {title: {text: "column"}}, yaxis: {title: {text: "row"}, autorange: "reversed"}}, 380);
      const percent = i => `component ${i + 1} (${Math.round(100 * matrix.explains[i])} %)`;
      components.hidden = !matrix.points.length;
      if (matrix.points.length) plot(components, [{type: "scatter", mode: "markers+text", x: matrix.points.map(([x]) => x), y: matrix.points.map(([, y]) => y),
        text: matrix.points.map((_, i) => matrix.points.length <= 130 ? String(i) : ""), textposition: "top center", marker: {size: 7, color: matrix.points.map((_, i) => i), colorscale: "Viridis"}}],
      {xaxis: {title: {text: percent(0)}}, yaxis: {title: {text: percent(1)}}}, 380);
    }
    choice.dispatchEvent(new Event("change"));
  }

  async function read() {
    curves = await source.curves({runs: [id]});
    if (isCurrent()) draw();
  }

  if (source.arrays) notes.before(kept);
  drawHead(run);
  drawNotes(run);
  drawFacts(run);
  drawOutput(run);
  await read();
  source.defaults(run.experiment).then(known => {
    defaults = known;
    if (isCurrent() && known) drawFacts(run);
  }, () => {});
  return {
    refresh: async change => {
      if (change.runs !== null && !change.runs.map(String).includes(id)) return;
      const run = await source.run(id);
      if (!isCurrent()) return;
      drawHead(run);
      drawNotes(run);
      if (!below.contains(document.activeElement)) drawFacts(run);
      drawOutput(run);
      await read();
    },
  };
}

function section(title, ...content) {
  return h("section", {}, h("h3", {}, title), ...content);
}

function progressOf({progress}) {
  if (!progress) return null;
  const {step, steps, rate, left} = progress;
  return h("p", {class: "progress"}, steps && h("progress", {max: steps, value: step, "aria-label": "progress"}),
    ` step ${step.toLocaleString("en")}${steps ? ` of ${steps.toLocaleString("en")}` : ""}`,
    rate ? `, ${rate >= 10 ? Math.round(rate).toLocaleString("en") : rate.toPrecision(2)} steps/s` : "",
    left !== undefined ? `, about ${duration(left)} left` : "");
}

function resultOf({result}) {
  const known = HEADLINE.filter(key => key in result);
  const shown = key => key === "phase" ? phase(result[key]) : key === "seconds" ? duration(result[key]) : result[key] === null ? "never" : text(result[key]);
  return known.length > 0 && h("dl", {class: "headline"}, known.map(key => h("div", {}, h("dt", {}, key === "seconds" ? "time" : words(key)), h("dd", {}, shown(key)))));
}
