"use strict";
// Requests /progress every second and shows it. Everything is set as text: payloads are untrusted.

const PERIOD_MS = 1000;
const PATIENCE_MS = 8000;
const BATCHES = 6;
const MANY = 100000;
// Of the wind speed, no least value is kept.
const METRICS = [
  { id: "temp", average: "avg_temp", least: "min_temp", greatest: "max_temp", name: "temperature" },
  { id: "humidity", average: "avg_humidity", least: "min_humidity", greatest: "max_humidity", name: "humidity" },
  { id: "wind", average: "avg_wind_speed", greatest: "max_wind_speed", name: "wind_speed" },
];

const byId = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const rate = (n) => (n > 0 && n < 10 ? n.toFixed(1) : whole.format(n));
const clock = (time) => (time ? time.slice(11, 19) : "–");
const words = (name) => name.replaceAll("_", " ");
const day = (time) => time.slice(0, 10);
const minute = (time) => time.slice(0, 16).replace("T", " ");

// A time of day; with its date where that is not today's.
function moment(time, now, precision) {
  if (!time) return "–";
  const clockTime = time.slice(11, precision === "minutes" ? 16 : 19);
  return day(time) === day(now) ? clockTime : `${day(time)} ${clockTime}`;
}

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

function showLines(history) {
  const minutes = (history.lag.length * history.step_seconds) / 60;
  const label = (what, values, format) =>
    `${what} in the last ${minutes.toFixed(0)} min: at most ${format(Math.max(0, ...values))}`;
  const line = (id, what, values, format) => sparkline(byId(id), values, label(what, values, format), 0);
  line("line-read", "readings read per second", history.read_per_second, rate);
  line("line-written", "readings written per second", history.written_per_second, rate);
  line("line-lag", "lag", history.lag, whole.format);
}

function showCharts(weather, now) {
  const { windows, units } = weather;
  const newest = windows[windows.length - 1];
  const open = windows.filter((w) => !w.is_final).length;
  setText("charts-note", `${windows.length} windows of ${span(weather.window_seconds)}, ${open} open, UTC`);
  for (const metric of METRICS) {
    const value = newest ? newest[metric.average] : null;
    setText(`now-${metric.id}`, value === null ? "–" : `${value.toFixed(2)} ${units[metric.name]}`);
    chart(byId(`chart-${metric.id}`), metric, units[metric.name], windows, now);
  }
  const number = (value, digits) => (value === null ? "–" : value.toFixed(digits));
  const columns = METRICS.flatMap((metric) => [
    { field: metric.average, head: `${metric.name.replace("_", " ")} ${units[metric.name]}`, digits: 3 },
    ...[metric.least, metric.greatest].filter(Boolean).map((field) => ({ field, head: field.slice(0, 3), digits: 1 })),
  ]);
  const rows = windows.slice().reverse().map((w) => [
    minute(w.start), ...columns.map(({ field, digits }) => number(w[field], digits)),
    whole.format(w.readings), w.is_final ? "final" : "open",
  ]);
  table("windows", ["window (UTC)", ...columns.map(({ head }) => head), "readings", ""], rows);
}

function showTotals(totals) {
  const rejected = Object.entries(totals.rejected);
  const count = (name, n, className) => [{ text: name, className: className || "" }, whole.format(n)];
  const leftOut = Object.entries(totals.left_out).flatMap(([metric, causes]) =>
    Object.entries(causes).filter(([, n]) => n > 0)
      .map(([cause, n]) => count(words(`${metric} ${cause}`), n, "indent")));
  table("totals", null, [
    count("read", totals.records),
    count("aggregated", totals.aggregated),
    ...leftOut,
    count("duplicate", totals.duplicates),
    count("rejected", rejected.reduce((sum, [, n]) => sum + n, 0)),
    ...rejected.map(([reason, n]) => count(words(reason), n, "indent")),
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

function showPartitions(weather, now) {
  const owned = weather.partitions.length;
  const all = Object.keys(weather.owners).length;
  setText("owned", `${owned} of ${all} here, ${weather.processes} process${weather.processes === 1 ? "" : "es"}`);
  const rows = weather.partitions.map((p) => [
    String(p.partition), whole.format(p.next_offset), { text: whole.format(p.lag), className: p.lag > MANY ? "warn" : "" },
    p.unflushed === null ? "–" : whole.format(p.unflushed), moment(p.watermark, now),
    String(p.open_windows), whole.format(p.late), span(p.checkpoint_age_seconds),
    p.problem ? { text: p.problem, className: "text warn" } : { text: p.idle ? "idle" : "", className: "text" },
  ]);
  const head = ["partition", "next offset", "lag", "not written", "watermark (UTC)", "open windows", "late", "checkpoint age", ""];
  table("partitions", head, rows);
}

function showDeadLetters(weather) {
  const deadLetters = weather.dead_letters;
  setText("dead-letters-note", deadLetters.length ? "" : "none since start");
  const counts = weather.readmittable.map((of) => `${of.or_more ? "at least " : ""}${whole.format(of.count)} ${words(of.reason)}`);
  byId("readmit").hidden = counts.length === 0;
  setText("readmit-counts", counts.join(", "));
  setText("readmit-command", weather.readmit || "");
  const rows = deadLetters.slice().reverse().map((letter) => [
    words(letter.reason), `${letter.partition} / ${letter.offset}`, whole.format(letter.payload_bytes),
    { text: letter.payload === null ? "(no value)" : letter.payload, className: "payload" },
  ]);
  table("dead-letters", ["reason", "partition / offset", "bytes", { text: "payload", className: "text" }], rows);
}

function showBatches(batches, now) {
  const rows = batches.slice(-BATCHES).reverse().map((batch) => [
    whole.format(batch.id), moment(batch.at, now), whole.format(batch.records), String(batch.rows),
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
  byId("refused").hidden = weather.advice.length === 0;
  setText("read-rate", rate(weather.read_per_second));
  setText("written-rate", rate(weather.written_per_second));
  setText("lag", whole.format(weather.lag));
  showLines(weather.history);
  showWatermark(weather.watermark, progress.timestamp);
  setText("last-write", weather.last_write ? span(Math.max(ago(weather.last_write), 0)) : "–");
  setText("flushes", `ago, ${whole.format(weather.flushes)} flushes`);
  setText("visible", weather.latency.append_to_visible.count ? span(weather.latency.append_to_visible.p99) : "–");
  showCharts(weather, progress.timestamp);
  showStationTotals(weather, progress.timestamp);
  showTotals(weather.totals);
  showLatency(weather.latency);
  showPartitions(weather, progress.timestamp);
  showDeadLetters(weather);
  showBatches(weather.batches, progress.timestamp);
  const usage = weather.usage ? `, ${(weather.usage.resident_bytes / 1048576).toFixed(1)} MiB, ` +
    `${weather.usage.cpu_seconds.toFixed(1)} CPU-s` : "";
  setText("footer", `weather ${weather.version}, ${weather.process}, up ${span(weather.uptime_seconds)}${usage}, ` +
    `${progress.sink.description}; as of ${minute(progress.timestamp)}${progress.timestamp.slice(16, 19)} UTC`);
}

function showWatermark(watermark, now) {
  setText("watermark", clock(watermark));
  const behind = watermark ? `${span((Date.parse(now) - Date.parse(watermark)) / 1000)} behind the clock` : "";
  const date = watermark && day(watermark) !== day(now) ? `${day(watermark)}, ` : "";
  setText("watermark-age", date + behind);
}

// Texts; what is between backquotes is something to type.
function showList(id, texts) {
  const list = byId(id);
  list.hidden = texts.length === 0;
  list.replaceChildren(...texts.map((text) => {
    const item = document.createElement("li");
    text.split("`").forEach((part, at) => {
      const element = document.createElement(at % 2 === 1 ? "code" : "span");
      element.textContent = part;
      item.append(element);
    });
    return item;
  }));
}

// A hidden page asks for nothing; it updates as soon as it is shown again.
function whenVisible(work) {
  if (document.hidden) document.addEventListener("visibilitychange", () => work(), { once: true });
  else work();
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
  if (document.hidden) whenVisible(update);
  else setTimeout(update, PERIOD_MS);
}

update();
