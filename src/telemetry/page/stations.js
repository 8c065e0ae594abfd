"use strict";
// The table of stations, of /stations: searched and sorted by the server, which sends a bounded number of rows.

const STATIONS_PERIOD_MS = 5000;
const TYPING_MS = 300;
const HISTORY_CELL = 6;

const stations = { sort: "station", order: "asc", timer: null, asked: 0, units: {}, now: "" };

// What cannot be seen, or turns the text around it, as its code.
function visible(name) {
  const hidden = /[\u0000-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;
  return name.replace(hidden, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function stationName(name) {
  if (name === "") return { text: "(without a name)", className: "name special" };
  if (name === "*") return { text: "(all others)", className: "name special" };
  return { text: visible(name), className: "name" };
}

function showStations(list) {
  const number = (value, digits) => (value === null ? "–" : value.toFixed(digits));
  const rows = list.stations.map((s) => {
    const line = row([
      stationName(s.station), number(s.avg_temp, 2),
      { text: s.min_temp === null ? "–" : `${s.min_temp.toFixed(1)} to ${s.max_temp.toFixed(1)}`, className: "least" },
      number(s.avg_humidity, 1), number(s.avg_wind_speed, 2), whole.format(s.readings), "",
      moment(s.window, stations.now, "minutes"),
    ], "td");
    const svg = make("svg", { class: "spark temp", role: "img" });
    sparkline(svg, s.temperatures, `temperature in ${list.history_windows} windows`);
    line.cells[HISTORY_CELL].replaceChildren(svg);
    return line;
  });
  if (rows.length === 0) rows.push(row([{ text: "none", className: "nothing" }], "td"));
  byId("station-rows").replaceChildren(...rows);
  const more = list.matching > list.stations.length ? `the first ${whole.format(list.stations.length)} of ` : "";
  const noun = list.matching === 1 ? "station" : "stations";
  setText("stations-shown", `${more}${whole.format(list.matching)} ${noun} in the newest two windows`);
  setText("stations-history", `temperature, last ${list.history_windows} windows`);
}

async function updateStations() {
  clearTimeout(stations.timer);
  const asked = (stations.asked += 1);
  const query = new URLSearchParams({ search: byId("search").value, sort: stations.sort, order: stations.order });
  try {
    const response = await fetch(`stations?${query}`, { signal: AbortSignal.timeout(PATIENCE_MS), cache: "no-store" });
    const text = await response.text();
    // Somebody has typed on since.
    if (asked !== stations.asked) return;
    if (response.ok) showStations(JSON.parse(text));
    else setText("stations-shown", text.trim());
  } catch (error) {
    if (asked === stations.asked) setText("stations-shown", "no response; retrying");
  }
  if (asked === stations.asked) stations.timer = setTimeout(whenVisible, STATIONS_PERIOD_MS, updateStations);
}

function sortStations(button) {
  const { sort } = button.dataset;
  const isSame = sort === stations.sort;
  // Names begin with the first, numbers with the greatest.
  const first = sort === "station" ? "asc" : "desc";
  stations.order = isSame ? (stations.order === "asc" ? "desc" : "asc") : first;
  stations.sort = sort;
  markOrder();
  updateStations();
}

function markOrder() {
  for (const button of document.querySelectorAll("#stations button")) {
    const isSorted = button.dataset.sort === stations.sort;
    button.parentElement.setAttribute("aria-sort", isSorted ? `${stations.order}ending` : "none");
  }
}

// Totals come with each /progress; the table is asked for once there are any stations.
function showStationTotals(weather, now) {
  const totals = weather.stations;
  stations.now = now;
  const section = byId("stations");
  if (totals === null) return;
  const overflow = totals.overflow > 0 ? `, ${whole.format(totals.overflow)} readings beyond --max-stations` : "";
  setText("stations-note", `${whole.format(totals.newest)} here now, ${whole.format(totals.written)} rows written, ` +
    `${whole.format(totals.unwritten)} waiting${overflow}; ` +
    `${weather.units.temperature}, ${weather.units.humidity}, ${weather.units.wind_speed}`);
  if (!section.hidden) return;
  section.hidden = false;
  markOrder();
  for (const button of section.querySelectorAll("button")) button.addEventListener("click", () => sortStations(button));
  byId("search").addEventListener("input", () => {
    clearTimeout(stations.timer);
    stations.timer = setTimeout(updateStations, TYPING_MS);
  });
  updateStations();
}
