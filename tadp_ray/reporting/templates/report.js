// Draws charts when they come into sight, sorts tables, and opens entries. All texts are set by the page, none here.
"use strict";
const INK = "var(--ink)", SOFT = "var(--soft)", LINE = "var(--line)";
// Colours are the page's own variables, so that charts follow it into the dark and onto paper.
const THEME = {
  background: "transparent", font: "system-ui, sans-serif", view: {stroke: null},
  axis: {labelColor: SOFT, titleColor: SOFT, gridColor: LINE, domainColor: LINE, tickColor: LINE, labelFontSize: 12,
         titleFontSize: 12, titleFontWeight: "normal", titlePadding: 8},
  legend: {labelColor: INK, titleColor: SOFT, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", symbolStrokeWidth: 2.5},
  title: {color: SOFT, fontSize: 12, fontWeight: "normal"}, text: {color: INK}, rule: {color: SOFT},
};

function draw(holder) {
  if (holder.dataset.drawn) return;
  holder.dataset.drawn = "yes";
  const place = holder.dataset.curve;
  const spec = place ? curveOf(place) : JSON.parse(holder.querySelector("script").textContent);
  const inside = document.createElement("div");
  inside.className = "vega";
  inside.style.minWidth = holder.dataset.width + "px";
  holder.append(inside);
  return vegaEmbed(inside, spec, {actions: false, renderer: "svg", config: THEME}).then(({view}) => {
    view.addEventListener("click", (event, item) => { if (item && item.datum && item.datum.place) show(item.datum.place); });
  });
}

// Beside a wide page the contents are open, above a narrow one they are folded.
const beside = matchMedia("(min-width: 82rem)"), contents = document.querySelector(".contents details");
const unfold = () => { contents.open = beside.matches; };
beside.addEventListener("change", unfold);
unfold();

const seen = new IntersectionObserver(entries => {
  for (const entry of entries) if (entry.isIntersecting) { seen.unobserve(entry.target); draw(entry.target); }
}, {rootMargin: "400px"});
const charts = root => root.querySelectorAll(".chart");
charts(document).forEach(own => seen.observe(own));
// A section lies where it will stay only when every chart above it has its height.
const land = () => Promise.all([...charts(document)].map(draw)).then(() => document.querySelector(":target")?.scrollIntoView());
addEventListener("hashchange", land);
if (location.hash) land();
addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach(own => { own.open = true; });
  charts(document).forEach(draw);
});

// The curves of a table's entries are held once beside it, with the chart that shows one of them.
function curveOf(place) {
  const {spec, curves} = JSON.parse(document.getElementById("curves-" + place.replace(/-\d+-\d+$/, "")).textContent);
  return {...spec, data: {values: curves[place]}};
}

const dialog = document.getElementById("entry");
function show(place) {
  const template = document.getElementById("entry-" + place);
  if (!template) return;
  dialog.querySelector(".body").replaceChildren(template.content.cloneNode(true));
  dialog.showModal();
  dialog.scrollTop = 0;
  charts(dialog).forEach(draw);
}

const order = new Intl.Collator(undefined, {numeric: true});
function sort(head) {
  const table = head.closest("table"), body = table.tBodies[0], column = head.cellIndex;
  const rising = head.getAttribute("aria-sort") === "descending";
  table.querySelectorAll("th[aria-sort]").forEach(own => own.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", rising ? "ascending" : "descending");
  const value = row => row.cells[column].dataset.value;
  const rows = [...body.rows].sort((left, right) => {
    const a = value(left), b = value(right);
    // What is missing stays below.
    if (a === "" || b === "") return (a === "") - (b === "");
    const gap = isNaN(a) || isNaN(b) ? order.compare(a, b) : a - b;
    return rising ? gap : -gap;
  });
  body.append(...rows);
}

document.addEventListener("click", event => {
  const opener = event.target.closest("[data-open]"), head = event.target.closest("th button");
  if (opener) show(opener.dataset.open);
  else if (head) sort(head.closest("th"));
  else if (event.target === dialog || event.target.closest(".close")) dialog.close();
});
