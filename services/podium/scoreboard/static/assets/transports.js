// The ways to a board's snapshots, the best first. Each begins at once and returns {close, ask}; until `close()` it calls
// `onMessage(message)` for every message ({} is a mere sign of life) and `onEnd(askedMs)` once, when it is over.
// `ask()`, where there is one, makes the server say something soon, if it is there.

const POLL_MS = 2_000;

/** Messages of the WebSocket. */
export function overWebSocket(board, { onMessage, onEnd }) {
  const url = new URL("/ws/scoreboard", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url, ["podium.v1"]);
  const say = (message) => { if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message)); };
  socket.onopen = () => { if (board !== "default") say({ type: "subscribe", boards: [board] }); };
  socket.onmessage = (event) => onMessage(JSON.parse(event.data));
  socket.onclose = (event) => onEnd(askedByReason(event.reason));
  return {
    ask: () => say({ type: "ping" }),
    close() {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    },
  };
}

/** Server-Sent Events, read with fetch: EventSource would hide the heartbeats, which are comments. */
export function overEvents(board, { onMessage, onEnd }) {
  return untilAborted(onEnd, async (signal) => {
    const answer = await fetch(`/api/v1/scoreboard/stream?board=${encodeURIComponent(board)}`, { cache: "no-store", signal });
    if (!answer.ok) return askedByHeader(answer);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    let asked;
    for (;;) {
      const { done, value } = await reader.read();
      if (done || signal.aborted) return asked;
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) {
        const fields = new Map(event.split("\n").map((line) => line.split(/: ?(.*)/s, 2)));
        if (fields.has("retry")) asked = Number(fields.get("retry"));
        onMessage(fields.has("data") ? JSON.parse(fields.get("data")) : {});
      }
    }
  });
}

/** GET again and again; the browser's cache asks with the ETag of what it has, so most answers are empty. */
export function overPolling(board, { onMessage, onEnd }) {
  let wake;
  const link = untilAborted(onEnd, async (signal) => {
    for (;;) {
      const answer = await fetch(`/api/v1/scoreboard?board=${encodeURIComponent(board)}`, { cache: "no-cache", signal });
      if (!answer.ok) return askedByHeader(answer);
      onMessage({ type: "snapshot", ...(await answer.json()) });
      await new Promise((resolve) => { wake = resolve; setTimeout(resolve, POLL_MS * (0.75 + Math.random() / 2)); });
      if (signal.aborted) return undefined;
    }
  });
  return { ...link, ask: () => wake?.() };
}

/** A link that lasts as long as `work(signal)`; it answers the time that the server asked for, or fails. */
function untilAborted(onEnd, work) {
  const aborting = new AbortController();
  const end = (askedMs) => { if (!aborting.signal.aborted) onEnd(askedMs); };
  work(aborting.signal).then(end, () => end());
  return { close: () => aborting.abort() };
}

/** `retryAfterMs` from the reason of a close frame, or undefined. */
function askedByReason(reason) {
  try {
    const asked = JSON.parse(reason).retryAfterMs;
    return Number.isFinite(asked) ? asked : undefined;
  } catch {
    return undefined;
  }
}

/** `Retry-After` in milliseconds, or undefined. */
function askedByHeader(answer) {
  const seconds = Number.parseFloat(answer.headers.get("retry-after"));
  return Number.isFinite(seconds) ? seconds * 1000 : undefined;
}
