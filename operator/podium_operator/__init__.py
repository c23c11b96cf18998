"""The operator: turns a Scoreboard resource into running stores, services and a gateway."""
