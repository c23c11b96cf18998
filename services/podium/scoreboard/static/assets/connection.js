// The live connection: one WebSocket that comes back by itself and hands over only newer snapshots.

const SILENCE_MS = 60_000; // two heartbeats and some: a connection that says nothing for so long is dead
const FIRST_RETRY_MS = 500;
const MAX_RETRY_MS = 15_000;

/** Whether snapshot `a` is newer than `b`: a larger epoch, or within one a larger version. */
export function isNewer(a, b) {
  return !b || a.epoch > b.epoch || (a.epoch === b.epoch && a.version > b.version);
}

/** Milliseconds until the next try: exponential with full jitter, or what the server asked for, spread a little. */
export function retryDelay(attempt, askedMs, random = Math.random) {
  if (askedMs !== undefined) return askedMs * (0.75 + random() * 0.5);
  return random() * Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** attempt);
}

/** Keeps one board's newest snapshot flowing to `onSnapshot(snapshot)`; `onState` hears connecting, live, offline. */
export class LiveBoard {
  #newest; #socket; #watchdog; #timer; #attempt = 0;

  constructor(board, { onSnapshot, onState }) {
    this.board = board;
    this.onSnapshot = onSnapshot;
    this.onState = onState;
    // A laptop that wakes or a phone that finds its network again need not wait for the timer.
    addEventListener("online", () => this.#reconnectNow());
    addEventListener("offline", () => this.#lost());
    document.addEventListener("visibilitychange", () => { if (!document.hidden && !this.#isOpen()) this.#reconnectNow(); });
  }

  connect() {
    clearTimeout(this.#timer);
    this.onState("connecting");
    const url = new URL("/ws/scoreboard", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = new WebSocket(url, ["podium.v1"]);
    this.#socket = socket;
    this.#watch();
    socket.onopen = () => {
      if (this.board !== "default") socket.send(JSON.stringify({ type: "subscribe", boards: [this.board] }));
    };
    socket.onmessage = (event) => { if (socket === this.#socket) this.#receive(JSON.parse(event.data)); };
    socket.onclose = (event) => { if (socket === this.#socket) this.#lost(askedDelay(event.reason)); };
  }

  #receive(message) {
    this.#watch();
    this.#attempt = 0;
    this.onState("live");
    if (message.type !== "snapshot" || message.board !== this.board || !isNewer(message, this.#newest)) return;
    this.#newest = message;
    this.onSnapshot(message);
  }

  #lost(askedMs) {
    this.#drop();
    const delay = retryDelay(this.#attempt++, askedMs);
    this.onState("offline", delay);
    this.#timer = setTimeout(() => this.connect(), delay);
  }

  #reconnectNow() {
    this.#drop();
    this.#attempt = 0;
    this.connect();
  }

  #drop() {
    clearTimeout(this.#timer);
    clearTimeout(this.#watchdog);
    const socket = this.#socket;
    this.#socket = undefined;
    if (socket && socket.readyState <= WebSocket.OPEN) socket.close();
  }

  #watch() {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => this.#lost(), SILENCE_MS);
  }

  #isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }
}

/** `retryAfterMs` from the reason of a close frame, or undefined. */
function askedDelay(reason) {
  try {
    const asked = JSON.parse(reason).retryAfterMs;
    return Number.isFinite(asked) ? asked : undefined;
  } catch {
    return undefined;
  }
}
