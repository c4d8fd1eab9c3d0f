// The language of grok/store/selection.py, where it is described, over the runs of this page. Both are
// tested with tests/store/selection_cases.json.

const NAMED_VALUES = {none: null, null: null, never: null, true: true, false: false,
  inf: Infinity, "-inf": -Infinity, nan: NaN};
const NUMBER = /^[+-]?(0+|[1-9][\d_]*|\d+\.\d*|\.\d+|\d+(?=e))(e[+-]?\d+)?$/i;
const MOMENT = /^(\d{4}-\d\d-\d\d)(?:T(\d\d)(:\d\d(?::\d\d(?:\.\d+)?)?)?(Z|[+-]\d\d:\d\d)?)?$/;
const QUOTED = /^(?:'[^']*'|"[^"]*")$/;
const TOKEN = /'[^']*'|"[^"]*"|\[[^[\]]*\]|[^]/g;
const WORD = /(?:[^\s'"]|'[^']*'|"[^"]*")+|['"]/g;  // a quote that is not closed is no filter

function parseValue(text) {
  if (NUMBER.test(text)) return Number(text.replaceAll("_", ""));
  const quoted = text.match(/^(['"])(.*)\1$/);
  if (quoted) return quoted[2];
  const name = text.toLowerCase();
  return Object.hasOwn(NAMED_VALUES, name) ? NAMED_VALUES[name] : text;
}

// Milliseconds since 1970 of a date, or a date and time, in UTC unless it names another time zone.
function parseMoment(key, text) {
  const [match, date, hour = "00", rest = ":00", zone = "Z"] = text.match(MOMENT) ?? [];
  const moment = match === undefined ? NaN : Date.parse(`${date}T${hour}${rest}${zone}`);
  if (Number.isNaN(moment)) throw new Error(`${key}=${text}: expected a date, as 2026-11-21T12:00`);
  return moment;
}

// ---- values

// JSON has no infinities, so the page's data holds them as text.
export function comparable(value) {
  return value === "inf" || value === "-inf" || value === "nan" ? NAMED_VALUES[value] : value;
}

// ---- tests of a value; each answers like MongoDB, which compares values of equal types only

function equals(value, wanted) {
  if (Array.isArray(wanted))
    return Array.isArray(value) && value.length === wanted.length && wanted.every((one, i) => equals(value[i], one));
  return value === wanted || (Number.isNaN(value) && Number.isNaN(wanted));
}

// The parts between commas outside of quotes and brackets.
function split(text) {
  const parts = [""];
  for (const token of text.match(TOKEN) ?? [])
    if (token === ",") parts.push("");
    else parts[parts.length - 1] += token;
  return parts;
}

function isRange(text) {
  return text.includes("..") && !text.includes("/") && !QUOTED.test(text);
}

function conditionOf(text) {
  if (text.startsWith("[") && text.endsWith("]")) {
    const wanted = text.length > 2 ? split(text.slice(1, -1)).map(parseValue) : [];
    return value => equals(value, wanted);
  }
  if (!isRange(text)) {
    const wanted = parseValue(text);
    return value => equals(value, wanted);
  }
  const dots = text.indexOf("..");
  const [low, high] = [text.slice(0, dots), text.slice(dots + 2)].map(end => end === "" ? null : parseValue(end));
  const alike = (value, end) => end === null || typeof value === typeof end;
  return value => (low !== null || high !== null) && alike(value, low) && alike(value, high)
    && (low === null || value >= low) && (high === null || value <= high);
}

function meets(value, condition) {
  return condition(comparable(value)) || (Array.isArray(value) && value.some(one => condition(comparable(one))));
}

// Functions for the runs of a report: `valueAt(row, key)`, and `select(text)`, whether a row meets all filters.
export function selector(data) {
  const decode = (column, row) => column && column.i[row] >= 0 ? column.v[column.i[row]] : undefined;

  function valueAt(row, key) {
    if (["run", "experiment", "status"].includes(key)) return data.runs[key][row];
    if (key === "tag") return decode(data.tags, row);
    if (!key.startsWith("result.")) return decode(data.config[key.replace(/^config\./, "")], row);
    const name = key.slice("result.".length);
    const value = name in data.runs ? data.runs[name][row] : decode(data.results[name], row);
    return value === "" ? undefined : value;  // the table's columns hold "" where a run has no result
  }

  // ---- filters: functions of a row of the table

  function filterOf(word) {
    const [key, value] = [word.slice(0, word.indexOf("=")), word.slice(word.indexOf("=") + 1)];
    if (!word.includes("=") || !key) throw new Error(`${word}: expected KEY=VALUE, as experiment=liu_toy or p=10`);
    if (key === "since" || key === "until") return timeFilter(key, parseMoment(key, value));
    if (key === "claim") return claimFilter(value.replace(/^-/, ""), !value.startsWith("-"));
    if (key === "status" && split(value).some(isRange)) throw new Error("status= takes names, no range");
    if (key === "sweep") return sweepFilter(value);
    const conditions = split(value).map(conditionOf);
    return row => conditions.some(condition => meets(valueAt(row, key), condition));
  }

  function timeFilter(key, moment) {
    return row => {
      const start = data.runs.start_time[row];
      return start !== null && (key === "since" ? start >= moment : start < moment);
    };
  }

  function claimFilter(claim, passed) {
    const isMeant = finding => finding.claim === claim && finding.passed === passed;
    const seeds = new Map(data.sweeps.map(sweep => [sweep.id, sweep.findings.filter(isMeant).map(finding => finding.seed)]));
    return row => {
      if ((decode(data.claims, row) ?? []).some(text => text === (passed ? claim : `-${claim}`))) return true;
      const ofSweep = seeds.get(data.runs.sweep[row]) ?? [];
      return ofSweep.includes(null) || ofSweep.includes(data.runs.seed[row]);
    };
  }

  // Sweeps by id, or by their file's name, which means the latest of it; data.sweeps begins with the latest.
  function sweepFilter(text) {
    if (split(text).some(isRange)) throw new Error("sweep= takes names or ids, no range");
    const ids = split(text).map(name => {
      const sweep = data.sweeps.find(sweep => sweep.id === name || sweep.name === name);
      if (!sweep && !data.runs.sweep.includes(name)) throw new Error(`no sweep ${name}`);
      return sweep ? sweep.id : name;
    });
    return row => ids.includes(data.runs.sweep[row]);
  }

  // Error if one of the words is no filter.
  function select(text) {
    const filters = (text.match(WORD) ?? []).map(filterOf);
    return row => filters.every(filter => filter(row));
  }

  // Why filters select no run, as `select_nonempty` says it in Python.
  function whyNone(text) {
    const words = text.match(WORD) ?? [];
    const first = words.find(word => !data.runs.run.some((_, row) => filterOf(word)(row)));
    return first ? `no run with ${first}` : words.length ? `no run with all of ${words.join(" ")}` : "none of the chosen runs";
  }

  return {select, valueAt, whyNone};
}
