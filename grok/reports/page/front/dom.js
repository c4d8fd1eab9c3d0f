// Elements and texts. Texts of runs become text nodes here, never markup.

const SVG = "http://www.w3.org/2000/svg";
const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

// An element with attributes (a function becomes a listener) and children: elements, texts, lists of them.
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...present(children));
  return element;
}

const present = children => children.flat(3).filter(child => child != null && child !== false && child !== "");

// Puts these children into an element in the place of those that it has.
export function fill(element, ...children) {
  element.replaceChildren(...present(children));
}

const CLICK = 50;  // milliseconds within which the click follows the release
const waiting = [];
let isPressed = false;
const goOn = () => { if (!isPressed) waiting.splice(0).forEach(go => go()); };
// The last four tell of a release that no pointer event does: over a menu, a list, or another window.
for (const kind of ["pointerdown", "pointermove", "pointerup", "pointercancel", "blur", "change", "contextmenu", "keydown"])
  addEventListener(kind, event => {
    isPressed = event.buttons > 0 && kind !== "contextmenu";
    if (!isPressed && waiting.length) setTimeout(goOn, CLICK);
  }, {capture: true, passive: true});

// Waits while a button is pressed: an element that is replaced between press and release gets no click.
export function released() {
  return isPressed ? new Promise(go => { waiting.push(go); }) : undefined;
}

// A value as text: numbers with four digits, lists in brackets.
export function text(value) {
  if (value === null || value === undefined) return "";
  if (Array.isArray(value)) return `[${value.map(one => one === null ? "none" : text(one)).join(", ")}]`;
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(4)));
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

export function duration(seconds) {
  if (typeof seconds !== "number") return "";
  const whole = Math.round(seconds);
  if (whole < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (whole < 36000) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.round(seconds / 3600)} h`;
}

// A time in UTC, to the minute.
export function time(iso) {
  return typeof iso === "string" ? `${iso.slice(0, 10)} ${iso.slice(11, 16)}` : "";
}

export const words = name => name.replace(/^(config|result|metric)\./, "").replaceAll("_", " ");

// The address of a page: its path and parameters; empty ones are left out.
export function address(path, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "" && value != null);
  const query = new URLSearchParams(given).toString();
  return `#${path.map(encodeURIComponent).join("/")}${query ? `?${query}` : ""}`;
}

export function decoded(part) {
  try { return decodeURIComponent(part); } catch { return part; }  // a single % is no escape
}

// Several names as one parameter, and back: a name may have a comma in it.
export const joined = names => names.map(encodeURIComponent).join(",");
export const parted = text => text.split(",").map(decoded);

export const runLink = id => h("a", {href: address(["run", id])}, String(id));
export const sweepLink = (id, label = id) => h("a", {href: address(["sweep", id])}, label);

// Letters and colours of the phases; the colours are Wong's, which the colour-blind can tell apart.
export const PHASES = {
  comprehension: {colour: "#009e73", letter: "C"},
  grokking: {colour: "#0072b2", letter: "G"},
  memorization: {colour: "#e69f00", letter: "M"},
  confusion: {colour: "#8a8a8a", letter: "X"},
};

const STATES = {COMPLETED: "✓", RUNNING: "▶", FAILED: "✗", INTERRUPTED: "❙❙", DEAD: "✗"};

export function status(value) {
  return h("span", {class: `status ${String(value).toLowerCase().replace(/\W/g, "")}`},
    `${Object.hasOwn(STATES, value) ? `${STATES[value]} ` : ""}${text(value).toLowerCase()}`);
}

export function phase(value) {
  if (!Object.hasOwn(PHASES, value)) return text(value);
  return h("span", {class: "phase"}, h("i", {class: `swatch ${value}`, "aria-hidden": "true"}), value);
}

// A small curve of accuracies, which are letters of 64 heights.
export function spark(letters) {
  if (!letters) return "";
  const points = [...letters].map((c, i) => `${i * 4},${(21 - ALPHABET.indexOf(c) / 3.2).toFixed(1)}`).join(" ");
  return svg("svg", {width: 96, height: 22, class: "spark", role: "img", "aria-label": "test accuracy over steps"},
    svg("polyline", {points, fill: "none", "stroke-width": 1.3}));
}

// A table of two columns.
export function pairs(entries) {
  return h("table", {class: "pairs"}, h("tbody", {}, entries.map(([key, value, attributes = {}]) =>
    h("tr", attributes, h("th", {scope: "row"}, key), h("td", {}, value instanceof Node ? value : text(value ?? "none"))))));
}

export function grid(headings, rows, attributes = {}) {
  return h("div", {class: "scroll"}, h("table", attributes,
    h("thead", {}, h("tr", {}, headings.map(heading => h("th", {scope: "col"}, heading)))),
    h("tbody", {}, rows.map(row => h("tr", {}, row.map(cell => h("td", {class: typeof cell === "number" && "number"},
      cell instanceof Node || Array.isArray(cell) ? cell : text(cell))))))));
}

export function copyButton(content) {
  const button = h("button", {type: "button", class: "small", click: async () => {
    await navigator.clipboard.writeText(typeof content === "function" ? content() : content);
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  }}, "copy");
  return button;
}

export function failure(error) {
  return h("p", {class: "error", role: "alert"}, error.message);
}
