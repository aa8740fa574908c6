"""How models are made: synthetic signals, fitting, evaluation on recordings. The daemon imports nothing from here."""
