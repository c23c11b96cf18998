"""The scoreboard service: the ranking as HTTP, WebSocket and SSE, and the projector that keeps it in Redis."""
