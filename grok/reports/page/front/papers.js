// The papers: their claims with findings, and their figures.
import {duration, fill, grid, h} from "grok/dom.js";

const MARKS = {passed: "✓", mostly: "✓", failed: "✗"};
const CLASSES = {passed: "good", mostly: "good", failed: "bad"};

export async function show(root, {source, isCurrent}) {
  const body = h("div", {}, h("p", {class: "quiet"}, "reading the papers ..."));
  root.append(body);

  async function draw() {
    const papers = await source.papers();
    if (!isCurrent()) return;
    const open = new Set([...body.querySelectorAll("details[open]")].map(one => one.dataset.paper));
    fill(body, h("p", {class: "bar"}, papers.map(paper => h("a", {href: "#papers", click: event => {
      event.preventDefault();
      body.querySelector(`[data-name="${CSS.escape(paper.name)}"]`).scrollIntoView();
    }}, paper.name))), papers.map(paper => {
      const claims = paper.claims.filter(claim => !claim.control);
      const passed = claims.filter(claim => claim.verdict === "passed" || claim.verdict === "mostly").length;
      return h("section", {"data-name": paper.name}, h("h2", {}, `${paper.name} `, h("span", {class: "quiet"},
        [claims.length && `${passed} of ${claims.length} claims passed`, paper.seconds && `in ${duration(paper.seconds)}`].filter(Boolean).join(", "))),
      h("p", {}, paper.description),
      paper.claims.length > 0 && h("details", {"data-paper": paper.name, open: open.has(paper.name)}, h("summary", {}, "claims and findings"),
        grid(["claim", "statement", "verdict", "seeds", "measured"], paper.claims.map(claim => [claim.id, claim.statement,
          h("span", {class: CLASSES[claim.verdict] ?? "quiet"}, `${MARKS[claim.verdict] ?? ""} ${claim.detail}${claim.control ? ", our own" : ""}`), claim.seeds, claim.measured]), {class: "claims"})),
      paper.figures.length > 0 && h("details", {"data-paper": `${paper.name} figures`, open: open.has(`${paper.name} figures`)}, h("summary", {}, `figures: ${paper.figures.length}`),
        h("div", {class: "pictures"}, paper.figures.map(figure => h("figure", {}, h("a", {href: figure.address, download: `${figure.name}.png`},
          h("img", {src: figure.address, alt: figure.name, loading: "lazy"})), h("figcaption", {}, figure.name))))));
    }));
  }

  await draw();
  return {refresh: change => change.sweeps?.length === 0 ? null : draw()};
}
