"""One file a command of ``secateur``; ``flows/cli.py`` names them all."""
