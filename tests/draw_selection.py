"""Draw what `measure_selection.py` measured on several data sets as one figure, and lay its tables together.

    python tests/draw_selection.py --out data/selection_study NAME=RUN/study/table.csv ...

Writes OUT.png (by how much each way to choose exceeds random synthetic tiles of the same pool and start) and OUT.csv.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

TITLES = {"convnet3": "ConvNet-3", "resnet18": "ResNet-18"}


def draw(frame: pd.DataFrame, path: Path) -> None:
    """A panel for each data set: differences to random synthetic tiles with their intervals."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    sets = list(dict.fromkeys(frame["set"]))
    drawn, axes = plt.subplots(1, len(sets), figsize=(5.5 * len(sets), 3.4), layout="constrained", sharey=True)
    for axis, name in zip(np.atleast_1d(axes), sets, strict=True):
        of = frame[(frame["set"] == name) & frame["more_value"].notna()]
        columns = list(dict.fromkeys(zip(of["network"], of["per_class"], strict=True)))
        methods = list(dict.fromkeys(of["method"]))
        for number, method in enumerate(methods):
            rows = of[of["method"] == method]
            at = [
                columns.index((r.network, r.per_class)) + 0.15 * (number - (len(methods) - 1) / 2)
                for r in rows.itertuples()
            ]
            value, low, high = (rows[f"more_{key}"].to_numpy(np.float64) for key in ("value", "low", "high"))
            axis.errorbar(
                at, value, [value - low, high - value], fmt="o", ms=4, capsize=2, color=f"C{number}", label=method
            )
        axis.axhline(0, color="0.5", lw=0.8)
        axis.set_xticks(range(len(columns)), [f"{TITLES[network]}\n{count} a class" for network, count in columns])
        axis.set_title(name)
    np.atleast_1d(axes)[0].set_ylabel("balanced accuracy, more than random")
    np.atleast_1d(axes)[0].legend(fontsize=8)
    drawn.savefig(path, dpi=130, metadata={"Software": None})


def main() -> None:
    """Read, draw, write."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--out", type=Path, required=True, help="without suffix")
    words.add_argument("tables", nargs="+", metavar="NAME=TABLE.csv")
    given = words.parse_args()
    named = [word.partition("=")[::2] for word in given.tables]
    frame = pd.concat([pd.read_csv(path).assign(set=name) for name, path in named], ignore_index=True)
    draw(frame, given.out.with_suffix(".png"))
    frame.round(6).to_csv(given.out.with_suffix(".csv"), index=False)


if __name__ == "__main__":
    main()
