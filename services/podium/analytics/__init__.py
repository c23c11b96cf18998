"""The analytics service: counts updates, keeps ScoreboardAnalytics, reports; administers boards and dead letters."""
