"""Running cells: the numerics they run under, and what one cell does."""
