"""How good a model's forecasts of recordings are, as the daemon would publish them. It imports nothing from here."""
