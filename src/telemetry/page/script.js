"use strict";
// Requests /progress every second and shows it. Everything is set as text: payloads are untrusted.

const PERIOD_MS = 1000;
const PATIENCE_MS = 8000;
const SVG = "http://www.w3.org/2000/svg";
const CHART = { left: 38, right: 8, top: 8, bottom: 20 };
const BATCHES = 6;
const METRICS = [
  { id: "temp", field: "avg_temp", name: "temperature" },
  { id: "humidity", field: "avg_humidity", name: "humidity" },
  { id: "wind", field: "avg_wind_speed", name: "wind_speed" },
];

const byId = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const rate = (n) => (n > 0 && n < 10 ? n.toFixed(1) : whole.format(n));
const clock = (time) => (time ? time.slice(11, 19) : "–");
const minute = (time) => time.slice(0, 16).replace("T", " ");

function setText(id, text) {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text;
}

function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.0995) return `${(seconds * 1000).toFixed(seconds < 0.00995 ? 1 : 0)} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(seconds < 1 ? 2 : 1)} s`;
  if (seconds < 120) return `${seconds.toFixed(0)} s`;
  if (seconds < 7200) return `${(seconds / 60).toFixed(0)} min`;
  if (seconds < 172800) return `${(seconds / 3600).toFixed(0)} h`;
  return `${(seconds / 86400).toFixed(0)} d`;
}

function make(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

// A cell is a text, or { text, className }.
function row(cells, tag) {
  const line = document.createElement("tr");
  for (const cell of cells) {
    const { text, className } = typeof cell === "object" ? cell : { text: cell, className: "" };
    const element = document.createElement(tag);
    element.textContent = text;
    if (className) element.className = className;
    line.append(element);
  }
  return line;
}

function table(id, head, rows) {
  const lines = rows.map((cells) => row(cells, "td"));
  if (head && rows.length > 0) lines.unshift(row(head, "th"));
  if (rows.length === 0) lines.push(row([{ text: "none yet", className: "nothing" }], "td"));
  byId(id).replaceChildren(...lines);
}

function chart(svg, metric, unit, windows) {
  const { left, right, top, bottom } = CHART;
  const { clientWidth: width, clientHeight: height } = svg;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const points = windows
    .filter((w) => w[metric.field] !== null)
    .map((w) => ({ from: Date.parse(w.start), to: Date.parse(w.end), value: w[metric.field], open: !w.is_final }));
  if (points.length === 0) {
    svg.replaceChildren(make("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "no windows yet"));
    return;
  }
  const first = points[0].from;
  const last = points[points.length - 1].to;
  let low = Math.min(...points.map((p) => p.value));
  let high = Math.max(...points.map((p) => p.value));
  const margin = Math.max((high - low) * 0.1, 0.5);
  low -= margin;
  high += margin;
  const x = (ms) => left + ((ms - first) / (last - first)) * (width - left - right);
  const y = (value) => top + ((high - value) / (high - low)) * (height - top - bottom);
  const parts = [];
  for (const point of points.filter((p) => p.open)) {
    const at = { x: x(point.from), y: top, width: Math.max(x(point.to) - x(point.from), 2), height: height - top - bottom };
    parts.push(make("rect", { ...at, class: "open-window" }));
  }
  for (const share of [0, 0.5, 1]) {
    const value = low + (high - low) * share;
    parts.push(make("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), class: "grid" }));
    parts.push(make("text", { x: left - 5, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(1)));
  }
  const middle = (point) => x((point.from + point.to) / 2);
  const line = points.map((p) => `${middle(p).toFixed(1)},${y(p.value).toFixed(1)}`).join(" ");
  parts.push(make("polyline", { points: line, class: `line ${metric.id}` }));
  for (const point of points.length > 24 ? points.slice(-1) : points) {
    const dot = make("circle", { cx: middle(point), cy: y(point.value), r: 3, class: `dot ${metric.id}` });
    parts.push(dot);
  }
  const label = (ms) => new Date(ms).toISOString().slice(last - first > 86400000 ? 5 : 11, 16).replace("T", " ");
  parts.push(make("text", { x: left, y: height - 4 }, label(first)));
  parts.push(make("text", { x: width - right, y: height - 4, "text-anchor": "end" }, label(last)));
  svg.replaceChildren(...parts);
  const newest = points[points.length - 1];
  svg.setAttribute("aria-label", `${points.length} windows, the newest ${newest.value.toFixed(2)} ${unit}`);
}

function showCharts(weather) {
  const { windows, units } = weather;
  const newest = windows[windows.length - 1];
  const open = windows.filter((w) => !w.is_final).length;
  setText("charts-note", `${windows.length} windows of ${span(weather.window_seconds)}, ${open} open, UTC`);
  for (const metric of METRICS) {
    const value = newest ? newest[metric.field] : null;
    setText(`now-${metric.id}`, value === null ? "–" : `${value.toFixed(2)} ${units[metric.name]}`);
    chart(byId(`chart-${metric.id}`), metric, units[metric.name], windows);
  }
  const average = (value) => (value === null ? "–" : value.toFixed(3));
  const rows = windows.slice().reverse().map((w) => [
    minute(w.start), average(w.avg_temp), average(w.avg_humidity), average(w.avg_wind_speed),
    whole.format(w.readings), w.is_final ? "final" : "open",
  ]);
  table("windows", ["window", ...METRICS.map((metric) => units[metric.name]), "readings", ""], rows);
}

function showTotals(totals) {
  const rejected = Object.entries(totals.rejected);
  const count = (name, n, className) => [{ text: name, className: className || "" }, whole.format(n)];
  const leftOut = Object.entries(totals.left_out).flatMap(([metric, causes]) =>
    Object.entries(causes).filter(([, n]) => n > 0)
      .map(([cause, n]) => count(`${metric} ${cause}`.replaceAll("_", " "), n, "indent")));
  table("totals", null, [
    count("read", totals.records),
    count("aggregated", totals.aggregated),
    ...leftOut,
    count("duplicate", totals.duplicates),
    count("rejected", rejected.reduce((sum, [, n]) => sum + n, 0)),
    ...rejected.map(([reason, n]) => count(reason.replaceAll("_", " "), n, "indent")),
    count("counted, not stored", totals.sampled_out, "indent"),
    [{ text: "lost", className: "" }, { text: whole.format(totals.lost), className: totals.lost > 0 ? "warn" : "" }],
  ]);
}

function showLatency(latency) {
  const line = (name, l) =>
    [name, ...(l.count ? [l.p50, l.p90, l.p99, l.p999, l.max].map(span) : ["–", "–", "–", "–", "–"]), whole.format(l.count)];
  table("latency", ["", "p50", "p90", "p99", "p99.9", "max", "count"], [
    line("append to table", latency.append_to_visible),
    line("flush", latency.flush),
    line("checkpoint", latency.checkpoint),
  ]);
}

function showPartitions(weather) {
  const owned = weather.partitions.length;
  const all = Object.keys(weather.owners).length;
  setText("owned", `${owned} of ${all} here, ${weather.processes} process${weather.processes === 1 ? "" : "es"}`);
  const rows = weather.partitions.map((p) => [
    String(p.partition), whole.format(p.next_offset), { text: whole.format(p.lag), className: p.lag > 100000 ? "warn" : "" },
    whole.format(p.unflushed), p.watermark ? minute(p.watermark).slice(5) + p.watermark.slice(16, 19) : "–",
    String(p.open_windows), whole.format(p.late), span(p.checkpoint_age_seconds),
    p.problem ? { text: p.problem, className: "text warn" } : { text: p.idle ? "idle" : "", className: "text" },
  ]);
  const head = ["partition", "next offset", "lag", "not written", "watermark", "open", "late", "checkpoint", ""];
  table("partitions", head, rows);
}

function showDeadLetters(deadLetters) {
  setText("dead-letters-note", deadLetters.length ? "" : "none since start");
  const rows = deadLetters.slice().reverse().map((letter) => [
    letter.reason.replaceAll("_", " "), `${letter.partition} / ${letter.offset}`, whole.format(letter.payload_bytes),
    { text: letter.payload === null ? "(no value)" : letter.payload, className: "payload" },
  ]);
  table("dead-letters", ["reason", "partition / offset", "bytes", { text: "payload", className: "text" }], rows);
}

function showBatches(batches) {
  const rows = batches.slice(-BATCHES).reverse().map((batch) => [
    whole.format(batch.id), clock(batch.at), whole.format(batch.records), String(batch.rows),
    String(batch.dead_letters), span(batch.seconds), span(batch.visible_after_seconds),
  ]);
  table("batches", ["batch", "at (UTC)", "records", "rows", "dead letters", "took", "visible after"], rows);
}

function show(progress) {
  const weather = progress.weather;
  const now = Date.parse(progress.timestamp);
  const ago = (time) => (now - Date.parse(time)) / 1000;
  setText("topic", progress.name);
  const state = byId("state");
  setText("state", weather.ready ? weather.phase : `${weather.phase}, not ready`);
  state.className = weather.ready ? "good" : "bad";
  showList("problems", weather.problems);
  showList("advice", weather.advice);
  setText("read-rate", rate(weather.read_per_second));
  setText("written-rate", rate(weather.written_per_second));
  setText("lag", whole.format(weather.lag));
  setText("watermark", clock(weather.watermark));
  setText("watermark-age", weather.watermark ? `${span(ago(weather.watermark))} behind the clock` : "");
  setText("last-write", weather.last_write ? `${span(Math.max(ago(weather.last_write), 0))}` : "–");
  setText("flushes", `ago, ${whole.format(weather.flushes)} flushes`);
  setText("visible", weather.latency.append_to_visible.count ? span(weather.latency.append_to_visible.p99) : "–");
  showCharts(weather);
  showTotals(weather.totals);
  showLatency(weather.latency);
  showPartitions(weather);
  showDeadLetters(weather.dead_letters);
  showBatches(weather.batches);
  const usage = weather.usage ? `, ${(weather.usage.resident_bytes / 1048576).toFixed(1)} MiB, ` +
    `${weather.usage.cpu_seconds.toFixed(1)} CPU-s` : "";
  setText("footer", `weather ${weather.version}, ${weather.process}, up ${span(weather.uptime_seconds)}${usage}, ` +
    `${progress.sink.description}; as of ${clock(progress.timestamp)} UTC`);
}

function showList(id, texts) {
  const list = byId(id);
  list.hidden = texts.length === 0;
  list.replaceChildren(...texts.map((text) => {
    const item = document.createElement("li");
    item.textContent = text;
    return item;
  }));
}

async function update() {
  try {
    const response = await fetch("progress", { signal: AbortSignal.timeout(PATIENCE_MS), cache: "no-store" });
    if (!response.ok) throw new Error(`status ${response.status}`);
    const text = await response.text();
    show(JSON.parse(text));
    // For tests: what is shown now.
    window.shown = text;
  } catch (error) {
    byId("state").className = "bad";
    setText("state", "no response; retrying");
  }
  // A hidden page does not poll; it updates as soon as it is shown again.
  if (document.hidden) {
    document.addEventListener("visibilitychange", update, { once: true });
  } else {
    setTimeout(update, PERIOD_MS);
  }
}

update();
