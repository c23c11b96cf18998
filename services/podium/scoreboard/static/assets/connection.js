// The live connection: comes back by itself, by whatever way there is, and hands over only newer snapshots.
import { overEvents, overPolling, overWebSocket } from "./transports.js";

const WAYS = [overWebSocket, overEvents, overPolling];
const TRIES = [3, 1, 1]; // so often in a row a way may fail without a word before the next one is tried
const FIRST_BEST_MS = 5_000; // on another way than the best, when the best is tried again, at first and in the end
const LAST_BEST_MS = 120_000;

const OPEN_MS = 10_000; // how long the first message may take
const ANSWER_MS = 2_000; // how long a connection that slept may take to show that it lives
const SLEPT_MS = 3_000; // a clock that jumps so far was a machine or a tab that slept, and browsers do not always tell
const STABLE_MS = 5_000; // a connection that lived for so long was a good one: the next begins without much waiting
const FIRST_RETRY_MS = 500;
const MAX_RETRY_MS = 15_000;

/** Whether snapshot `a` is newer than `b`: a larger epoch, or within one a larger version. */
export function isNewer(a, b) {
  return !b || a.epoch > b.epoch || (a.epoch === b.epoch && a.version > b.version);
}

/** Milliseconds until the next try: exponential with full jitter; never before the server asked for, and spread a little. */
export function retryDelay(attempt, askedMs, random = Math.random) {
  if (askedMs !== undefined) return askedMs * (1 + random() / 2);
  return random() * Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** attempt);
}

/**
 * Keeps one board's newest snapshot flowing to `onSnapshot(snapshot)`; `onState()` is called when `state` changes:
 * connecting, live, reconnecting (at `retryAt`) or offline. All times in milliseconds, moments as of Date.now().
 */
export class LiveBoard {
  state = "connecting";
  retryAt = 0;
  heardAt = 0; // the last sign of the server: what is shown was the newest then

  #way = 0; #failures = 0; #attempt = 0; #bestTries = 0; #liveSince = 0;
  #link; #candidate; #newest; #told;
  #silence; #retry; #best;

  constructor(board, { heartbeatMs, onSnapshot, onState }) {
    this.board = board;
    this.silenceMs = 2 * heartbeatMs;
    this.onSnapshot = onSnapshot;
    this.onState = onState;
    // A laptop that wakes or a phone that finds its network again need not wait for timers.
    addEventListener("online", () => this.#wake());
    addEventListener("offline", () => this.#lost());
    addEventListener("pageshow", (event) => { if (event.persisted) this.#wake(); });
    document.addEventListener("resume", () => this.#wake());
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.#wake(); });
    let last = Date.now();
    setInterval(() => {
      const now = Date.now();
      if (now - last > SLEPT_MS && !document.hidden) this.#wake(); // timers of hidden tabs are late without any sleep
      last = now;
    }, 1_000);
  }

  /** By which way it is connected, or tries to be: 0 is the best. */
  get way() { return this.#way; }

  /** Begin, or begin anew at once. */
  connect() {
    this.#drop();
    this.#show("connecting");
    this.#expect(Math.min(OPEN_MS, this.silenceMs));
    this.#link = WAYS[this.#way](this.board, {
      onMessage: (message) => this.#hear(message),
      onEnd: (askedMs) => this.#lost(askedMs),
    });
  }

  #hear(message) {
    this.#expect(this.silenceMs);
    this.heardAt = Date.now();
    this.#failures = 0;
    this.#liveSince ||= this.heardAt;
    if (this.#way > 0) this.#best ??= setTimeout(() => this.#tryBest(), Math.min(LAST_BEST_MS, FIRST_BEST_MS * 2 ** this.#bestTries));
    else this.#bestTries = 0;
    if (message.type === "snapshot" && message.board === this.board && isNewer(message, this.#newest)) {
      this.#newest = message;
      this.onSnapshot(message);
    }
    this.#show("live");
  }

  #lost(askedMs) {
    const was = this.#liveSince;
    this.#drop();
    if (!was && ++this.#failures >= TRIES[this.#way]) {
      this.#failures = 0;
      this.#way = (this.#way + 1) % WAYS.length;
    }
    if (was && Date.now() - was >= STABLE_MS) this.#attempt = 0;
    const delay = retryDelay(this.#attempt++, askedMs);
    this.#retry = setTimeout(() => this.connect(), delay);
    this.retryAt = Date.now() + delay;
    this.#show("reconnecting");
  }

  /** Something changed for the better: do not wait, and do not trust a connection that may have died unnoticed. */
  #wake() {
    if (this.#retry) {
      this.#attempt = 0;
      this.connect();
    } else if (this.state === "live") {
      if (Date.now() - this.heardAt >= this.silenceMs) return this.#lost(0);
      if (this.#link.ask) {
        this.#expect(ANSWER_MS);
        this.#link.ask();
      }
      this.#tryBest();
    }
  }

  /** Open the best way beside the present one, and change over when it has said something. */
  #tryBest() {
    if (this.#candidate || this.#way === 0) return;
    this.#bestTries++;
    const candidate = this.#candidate = WAYS[0](this.board, {
      onMessage: (message) => {
        if (candidate === this.#candidate) {
          this.#candidate = undefined;
          this.#drop();
          this.#link = candidate;
          this.#way = 0;
        }
        this.#hear(message);
      },
      onEnd: (askedMs) => {
        if (candidate === this.#candidate) this.#candidate = this.#best = undefined;
        else this.#lost(askedMs);
      },
    });
  }

  #drop() {
    for (const timer of [this.#silence, this.#retry, this.#best]) clearTimeout(timer);
    this.#retry = this.#best = undefined;
    this.#liveSince = this.retryAt = 0;
    const links = [this.#link, this.#candidate];
    this.#link = this.#candidate = undefined;
    for (const link of links) link?.close();
  }

  #expect(withinMs) {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#lost(), withinMs);
  }

  #show(state) {
    const shown = state === "live" || navigator.onLine ? state : "offline";
    const told = `${shown} ${this.#way} ${this.retryAt}`;
    if (told === this.#told) return;
    this.#told = told;
    this.state = shown;
    this.onState();
  }
}
