"""What ``ltbench new`` writes: a working component of each kind, whose class is named Example here, and the files around it."""
