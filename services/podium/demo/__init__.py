"""Players who earn signed points, so that a scoreboard moves."""
