"""`reqplane bench`: how fast requests, answers and streams are on the chosen plane, here."""
