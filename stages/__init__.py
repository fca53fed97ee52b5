"""The work itself: one module per stage, the machine below them, the science at the ground."""
