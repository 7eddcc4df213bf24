"""How far an answer can be trusted: probe targets, the fit, the calibrated score."""
