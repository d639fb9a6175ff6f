"""Leaderboards: records to tables. Nothing is trained here, and nothing here knows torch."""
