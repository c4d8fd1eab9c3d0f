// The runs that a report has in it, in the place of the server: the same questions, answered from its columns.
import {comparable, selector} from "grok/selection.js";

const POINT_STATES = {COMPLETED: "finished", RUNNING: "running", QUEUED: "running", INTERRUPTED: "stopped", DEAD: "stopped"};

async function unpack(id) {
  const text = document.getElementById(id).textContent;
  const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

export async function open() {
  const data = await unpack("summary");
  const {select, valueAt, whyNone} = selector(data);
  const decode = (column, row) => column && column.i[row] >= 0 ? column.v[column.i[row]] : undefined;
  const rowOfRun = new Map(data.runs.run.map((run, row) => [String(run), row]));
  const allRows = data.runs.run.map((_, row) => row);
  let details, last;

  const isMetric = column => column.startsWith("metric.");

  async function readLast() {
    last ??= await unpack("last");
  }

  function value(column, row) {
    if (["started", "sweep"].includes(column)) return data.runs[column][row] || null;
    if (column === "curve") return data.spark[row] || null;
    if (column === "notes" || column === "host") return decode(data[column], row) || null;
    if (isMetric(column)) {
      const name = column.slice("metric.".length);
      return Object.hasOwn(last[row], name) ? last[row][name] : null;
    }
    return valueAt(row, column) ?? null;
  }

  function rowsOf({filters = "", sweep = [], runs = []}) {
    const inSweep = row => !sweep.length || sweep.includes(data.runs.sweep[row]);
    const rows = runs.length ? runs.map(run => rowOfRun.get(String(run))).filter(row => row !== undefined) : allRows;
    const meets = select(filters);
    return rows.filter(row => meets(row) && inSweep(row));
  }

  // What has no value comes last, as do metrics that end with no number; NaN is less than numbers, and these than texts.
  function ordered(rows, sort, down) {
    const sign = down ? -1 : 1, kind = value => Number.isNaN(value) ? -1 : typeof value === "number" ? 0 : 1;
    const key = one => {
      const found = comparable(one);
      return isMetric(sort) && kind(found) !== 0 ? null : found;
    };
    const valued = rows.map(row => [row, key(value(sort, row))]);
    const compare = (a, b) => kind(a) - kind(b) || (a < b ? -1 : a > b ? 1 : 0);
    return valued.sort(([r, a], [s, b]) => (a === null) - (b === null) || (a === null ? 0 : sign * compare(a, b)) || r - s).map(([row]) => row);
  }

  function run(id) {
    const row = rowOfRun.get(String(id));
    if (row === undefined) throw new Error(`no run ${id} in this report`);
    const entries = columns => Object.fromEntries(Object.entries(columns).filter(([, column]) => column.i[row] >= 0).map(([key, column]) => [key, column.v[column.i[row]]]));
    const known = Object.entries(data.runs).filter(([name]) => data.resultColumns.includes(name)).map(([name, values]) => [name, values[row]]).filter(([, one]) => one !== "");
    return {
      run: data.runs.run[row], experiment: data.runs.experiment[row], status: data.runs.status[row], started: data.runs.started[row], stopped: null,
      sweep: data.runs.sweep[row], tags: [], named_configs: decode(data.tags, row) ?? [], notes: decode(data.notes, row) ?? "", config: entries(data.config), updates: [],
      result: {...Object.fromEntries(known), ...entries(data.results)}, environment: entries(data.environment), program: {}, host: {hostname: decode(data.host, row)},
      claims: (decode(data.claims, row) ?? []).map(text => ({claim: text.replace(/^-/, ""), passed: !text.startsWith("-")})),
      parents: JSON.parse(decode(data.parents, row)), commands: data.commands[row], output: "", trace: decode(data.trace, row) ?? "", files: [], metrics: [], progress: null,
    };
  }

  async function curves({runs, metrics = []}) {
    details ??= await unpack("details");
    const numbers = text => text.split(",").map(number => number === "" ? null : Number(number));
    return runs.flatMap(id => {
      const row = rowOfRun.get(String(id));
      return Object.entries(details.curves[row] ?? {}).filter(([name]) => !metrics.length || metrics.includes(name)).sort(([a], [b]) => a < b ? -1 : 1)
        .map(([name, [steps, values]]) => ({run: data.runs.run[row], name, steps: details.steps[steps], values: numbers(values)}));
    });
  }

  // Names that can be columns, of those of the runs that are wanted.
  async function keys(wanted = {}) {
    await readLast();
    const rows = rowsOf(wanted), names = columns => Object.keys(columns).filter(name => rows.some(row => columns[name].i[row] >= 0));
    const results = [...data.resultColumns.filter(name => rows.some(row => data.runs[name][row] !== "")), ...names(data.results)];
    const metrics = new Set(rows.flatMap(row => Object.keys(last[row])));
    return {run: data.columns, config: names(data.config).sort(), results: results.map(name => `result.${name}`).sort(), metrics: [...metrics].sort().map(name => `metric.${name}`)};
  }

  function groups({filters, by, columns}) {
    const found = new Map(), rows = rowsOf({filters});
    for (const row of rows) {
      const one = value(by, row), name = JSON.stringify(one);
      if (!found.has(name)) found.set(name, {value: one, count: 0, states: {}, rows: []});
      const group = found.get(name), state = data.runs.status[row];
      group.count += 1;
      group.states[state] = (group.states[state] ?? 0) + 1;
      group.rows.push(row);
    }
    const mean = values => values.length ? values.reduce((sum, one) => sum + one, 0) / values.length : null;
    return {total: rows.length, groups: [...found.values()].sort((a, b) => b.count - a.count).map(({rows, ...group}) => ({...group,
      means: Object.fromEntries(columns.map(column => [column, mean(rows.map(row => value(column, row)).filter(one => typeof one === "number"))]))}))};
  }

  function sweep(id) {
    const found = data.sweeps.find(one => one.id === id || one.name === id);
    if (!found) throw new Error(`no sweep ${id} in this report`);
    const points = rowsOf({sweep: [found.id]}).map(row => ({state: POINT_STATES[data.runs.status[row]] ?? "failed",
      values: Object.fromEntries(found.keys.map(key => [key, value(key, row)]))}));
    const states = {};
    for (const {state} of points) states[state] = (states[state] ?? 0) + 1;
    return {...found, points, states, agents: []};
  }

  return {
    isLive: false,
    about: async () => `${data.about.runs} runs of ${data.about.store}, made ${data.about.made} at commit ${data.about.commit}`,
    keys,
    runs: async ({columns, sort = "run", down = true, offset = 0, limit = 50, ...wanted}) => {
      if ([sort, ...columns].some(isMetric)) await readLast();
      const rows = ordered(rowsOf(wanted), sort, down);
      return {total: rows.length, ...(rows.length ? {} : {why: whyNone(wanted.filters ?? "")}), rows: rows.slice(offset, offset + limit).map(row => columns.map(column => value(column, row)))};
    },
    groups: async wanted => groups(wanted),
    run: async id => run(id),
    defaults: async experiment => Object.hasOwn(data.defaults, experiment) ? data.defaults[experiment] : null,
    curves,
    papers: async () => data.papers,
    sweeps: async () => data.sweeps.map(one => {
      const runs = {};
      for (const row of rowsOf({sweep: [one.id]})) runs[data.runs.status[row]] = (runs[data.runs.status[row]] ?? 0) + 1;
      return {...one, runs};
    }),
    sweep: async id => sweep(id),
    details: async id => sweep(id).details ?? {map: null, tasks: []},
    published: async () => null,
    subscribe: (told, said) => said("a report, not live"),
  };
}
