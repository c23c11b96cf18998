// The page: draws snapshots, animates what moved, shows the state of the connection.
import { LiveBoard } from "./connection.js";

const board = new URLSearchParams(location.search).get("board") || "default";
const list = document.getElementById("ranking");
const state = document.getElementById("state");
const numbers = new Intl.NumberFormat();
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const LABELS = { connecting: "Connecting", live: "Live", reconnecting: "Reconnecting", offline: "Offline" };
const MOVE_MS = 600;

const rows = new Map(); // userId -> {element, rank, score}
let lastUpdated;

function makeRow(userId) {
  const element = document.createElement("li");
  element.dataset.user = userId;
  for (const name of ["bar", "rank", "name", "score"]) {
    const part = document.createElement("span");
    part.className = name;
    element.append(part);
  }
  return { element, rank: undefined, score: 0 };
}

function fill(row, entry, best) {
  const [bar, rank, name, score] = row.element.children;
  row.element.dataset.rank = entry.rank;
  bar.style.setProperty("--share", best > 0 ? Math.max(entry.score, 0) / best : 0);
  rank.textContent = entry.rank;
  name.textContent = entry.username;
  name.title = entry.userId;
  if (row.rank !== undefined && row.rank !== entry.rank) {
    const move = document.createElement("span");
    const up = entry.rank < row.rank;
    move.className = up ? "move up" : "move down";
    move.textContent = `${up ? "▲" : "▼"} ${Math.abs(entry.rank - row.rank)}`;
    name.append(move);
  }
  countTo(score, row.score, entry.score);
  if (row.rank !== undefined && row.score !== entry.score) {
    row.element.classList.remove("changed");
    requestAnimationFrame(() => row.element.classList.add("changed"));
  }
  row.rank = entry.rank;
  row.score = entry.score;
}

function countTo(element, from, to) {
  const token = (element.dataset.run = String(performance.now()));
  if (calm.matches || document.hidden || from === to) {
    element.textContent = numbers.format(to);
    return;
  }
  const started = performance.now();
  const step = (now) => {
    if (element.dataset.run !== token) return;
    const part = Math.min(1, (now - started) / MOVE_MS);
    element.textContent = numbers.format(Math.round(from + (to - from) * part));
    if (part < 1) requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

function draw(snapshot) {
  const before = new Map([...rows].map(([id, row]) => [id, row.element.getBoundingClientRect().top]));
  const best = snapshot.rankings[0]?.score ?? 0;
  const seen = new Set();
  for (const entry of snapshot.rankings) {
    seen.add(entry.userId);
    if (!rows.has(entry.userId)) rows.set(entry.userId, makeRow(entry.userId));
    const row = rows.get(entry.userId);
    fill(row, entry, best);
    list.append(row.element); // append moves: the DOM order is the ranking
  }
  for (const [id, row] of rows) {
    if (!seen.has(id)) {
      row.element.remove();
      rows.delete(id);
    }
  }
  if (!calm.matches && !document.hidden) animateMoves(before);
  document.getElementById("empty").hidden = snapshot.rankings.length > 0;
  const version = document.getElementById("version");
  [version.dataset.epoch, version.dataset.version] = [snapshot.epoch, snapshot.version];
  version.textContent = `epoch ${snapshot.epoch} · version ${snapshot.version}`;
  lastUpdated = Date.parse(snapshot.lastUpdated);
  showTimes();
}

/** FLIP: each row starts where it was and slides to where it is. */
function animateMoves(before) {
  for (const [id, { element }] of rows) {
    const was = before.get(id);
    const moved = was === undefined ? 0 : was - element.getBoundingClientRect().top;
    if (was === undefined) element.animate([{ opacity: 0, transform: "translateY(1rem)" }, {}], { duration: MOVE_MS, easing: "ease-out" });
    else if (moved) element.animate([{ transform: `translateY(${moved}px)` }, {}], { duration: MOVE_MS, easing: "cubic-bezier(.2,.8,.2,1)" });
  }
}

/** What grows old by itself: since the last change, since the ranking was known to be the newest, until the next try. */
function showTimes() {
  const live = connection.state === "live";
  if (lastUpdated) document.getElementById("updated").textContent = `Last change ${ago(lastUpdated)}`;
  document.getElementById("age").textContent = live || !connection.heardAt ? "" : `As it was ${ago(connection.heardAt)}`;
  const left = Math.max(0, Math.ceil((connection.retryAt - Date.now()) / 1000));
  document.getElementById("wait").textContent = connection.state === "reconnecting" ? `in ${left} s` : "";
}

function ago(moment) {
  const seconds = Math.max(0, Math.round((Date.now() - moment) / 1000));
  if (seconds < 2) return "just now";
  return seconds < 90 ? `${seconds} s ago` : new Date(moment).toLocaleString();
}

function showState() {
  state.dataset.state = connection.state;
  state.dataset.way = connection.way;
  const label = state.querySelector("b");
  if (label.textContent !== LABELS[connection.state]) label.textContent = LABELS[connection.state]; // announced once
  list.classList.toggle("stale", connection.state !== "live");
  showTimes();
}

document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("podium-theme", root.dataset.theme);
});
const theme = localStorage.getItem("podium-theme");
if (theme) document.documentElement.dataset.theme = theme;
document.getElementById("board").textContent = board;
const connection = new LiveBoard(board, {
  heartbeatMs: Number(document.documentElement.dataset.heartbeatMs),
  onSnapshot: draw,
  onState: showState,
});
setInterval(showTimes, 1000);
connection.connect();
