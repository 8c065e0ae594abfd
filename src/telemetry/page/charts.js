"use strict";
// Lines over time, drawn as SVG.

const SVG = "http://www.w3.org/2000/svg";
const CHART = { left: 38, right: 8, top: 8, bottom: 20 };

function make(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

// A small line of numbers at even steps, from `low` up; null is a gap.
function sparkline(svg, values, label, low) {
  const width = 100;
  const height = 24;
  const known = values.filter((value) => value !== null);
  const top = Math.max(...known, low === undefined ? -Infinity : low);
  const bottom = low === undefined ? Math.min(...known) : low;
  const x = (at) => (values.length > 1 ? (at / (values.length - 1)) * width : width);
  const y = (value) => (top > bottom ? 2 + ((top - value) / (top - bottom)) * (height - 4) : low === undefined ? height / 2 : height - 2);
  const parts = runs(values, (value) => value !== null).map((run) => {
    const points = run.map((at) => `${x(at).toFixed(1)},${y(values[at]).toFixed(1)}`);
    // A line of one point is a dot.
    return make("polyline", { points: (points.length > 1 ? points : [points[0], points[0]]).join(" "), class: "line" });
  });
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-label", label);
  svg.replaceChildren(...parts, make("title", {}, label));
}

// The places of neighbours that are all good, one list for each run of them.
function runs(values, isGood) {
  const found = [];
  let run = [];
  values.forEach((value, at) => {
    if (isGood(value)) {
      run.push(at);
    } else if (run.length > 0) {
      found.push(run);
      run = [];
    }
  });
  if (run.length > 0) found.push(run);
  return found;
}

// Averages of windows as a line, their extremes as a band around it; open windows are marked.
function chart(svg, metric, unit, windows, now) {
  const { left, right, top, bottom } = CHART;
  const { clientWidth: width, clientHeight: height } = svg;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const points = windows.filter((w) => w[metric.average] !== null).map((w) => ({
    from: Date.parse(w.start), to: Date.parse(w.end), value: w[metric.average], open: !w.is_final,
    // Where the least value is not kept, the band begins at the average.
    low: metric.least ? w[metric.least] : w[metric.average], high: w[metric.greatest],
  }));
  if (points.length === 0) {
    svg.replaceChildren(make("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "no windows yet"));
    return;
  }
  const first = points[0].from;
  const last = points[points.length - 1].to;
  const hasBand = (p) => p.low !== null && p.high !== null;
  let low = Math.min(...points.map((p) => (hasBand(p) ? p.low : p.value)));
  let high = Math.max(...points.map((p) => (hasBand(p) ? p.high : p.value)));
  const margin = Math.max((high - low) * 0.05, 0.5);
  low -= margin;
  high += margin;
  const x = (ms) => left + ((ms - first) / (last - first)) * (width - left - right);
  const y = (value) => top + ((high - value) / (high - low)) * (height - top - bottom);
  const middle = (point) => x((point.from + point.to) / 2);
  const at = (point, value) => `${middle(point).toFixed(1)},${y(value).toFixed(1)}`;
  const parts = [];
  for (const point of points.filter((p) => p.open)) {
    const area = { x: x(point.from), y: top, width: Math.max(x(point.to) - x(point.from), 2), height: height - top - bottom };
    parts.push(make("rect", { ...area, class: "open-window" }));
  }
  for (const run of runs(points, hasBand)) {
    const upper = run.map((i) => at(points[i], points[i].high));
    const lower = run.map((i) => at(points[i], points[i].low)).reverse();
    parts.push(make("polygon", { points: [...upper, ...lower].join(" "), class: `band ${metric.id}` }));
  }
  for (const share of [0, 0.5, 1]) {
    const value = low + (high - low) * share;
    parts.push(make("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), class: "grid" }));
    parts.push(make("text", { x: left - 5, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(1)));
  }
  parts.push(make("polyline", { points: points.map((p) => at(p, p.value)).join(" "), class: `line ${metric.id}` }));
  for (const point of points.length > 24 ? points.slice(-1) : points) {
    parts.push(make("circle", { cx: middle(point), cy: y(point.value), r: 3, class: `dot ${metric.id}` }));
  }
  const label = (ms) => moment(new Date(ms).toISOString(), now, "minutes");
  parts.push(make("text", { x: left, y: height - 4 }, label(first)));
  parts.push(make("text", { x: width - right, y: height - 4, "text-anchor": "end" }, label(last)));
  svg.replaceChildren(...parts);
  const newest = points[points.length - 1];
  svg.setAttribute("aria-label", `${points.length} windows, the newest ${newest.value.toFixed(2)} ${unit}`);
}
