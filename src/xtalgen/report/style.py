"""Colours and style of all figures."""

# Okabe and Ito's palette, distinguishable with every type of colour blindness.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#595959"
STYLE = {
    "svg.hashsalt": "xtalgen",
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "legend.frameon": False,
}
