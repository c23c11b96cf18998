"""The auth service: OAuth token endpoint, sessions, key sets, and restrictions of users."""
