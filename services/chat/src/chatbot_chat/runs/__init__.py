"""A run is a turn being answered: its events, its log in Redis, and everybody who watches."""
