"""How far does the text backbone that ships inside go? Writes benchmarks/text_embedded.md.

    python benchmarks/text_embedded.py

Frozen features and a logistic head: the embedded backbone, the mean of GloVe's vectors of the same texts, and TF-IDF of
words and pairs of words with scikit-learn's logistic regression. Needs THAWLINE_REAL_DATA (text/trec6, text/sst2,
text/sms_spam, text/banking77) and THAWLINE_REAL_WEIGHTS (text/glove_6b_50d_20k).
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

import thawline as tl
from thawline.backbones.names import DEFAULT_TEXT_MODEL
from thawline.features.extract import extract_features
from thawline.heads import fit_head
from thawline.proportions import wilson
from thawline.randomness import generator
from thawline.runs.reporting import environment
from thawline.store import FeatureStore

DATA = {"trec6": "trec6", "sst2": "sst2", "sms_spam": "sms_spam/all.csv", "banking77": "banking77"}
FEW, SEEDS = 8, (0, 1, 2)
"""Texts of each class that are learned from, beside all of them; each seed draws its own."""
METHODS = ("embedded/words", "GloVe mean, 50 numbers", "TF-IDF")
C = 10.0
"""Of scikit-learn's logistic regression on TF-IDF."""
Rows = NDArray[np.int64]


def opened(name: str) -> tl.Dataset:
    return tl.open_data(Path(os.environ["THAWLINE_REAL_DATA"]) / "text" / DATA[name])


def features_of(data: tl.Dataset) -> dict[str, Any]:
    """What each method reads of all texts."""
    texts = [str(data.source.read(row)) for row in range(len(data))]
    return {
        METHODS[0]: extract_features(data, tl.open_backbone(DEFAULT_TEXT_MODEL)).values,
        METHODS[1]: glove(texts),
        METHODS[2]: texts,
    }


def texts_per_second(name: str) -> float:
    """Texts that the embedded backbone reads in a second of processor time, from texts to features."""
    data, backbone, spent = opened(name), tl.open_backbone(DEFAULT_TEXT_MODEL), []
    for _ in range(2):  # in the first run, imports and the graph take time
        with tempfile.TemporaryDirectory() as empty:
            started = time.process_time()
            extract_features(data, backbone, store=FeatureStore(Path(empty)))
            spent.append(time.process_time() - started)
    return len(data) / spent[-1]


def glove(texts: list[str]) -> NDArray[np.float32]:
    """The mean of the vectors of the words of each text that have one, (N, 50)."""
    folder = Path(os.environ["THAWLINE_REAL_WEIGHTS"]) / "text"
    vectors = load_file(folder / "glove_6b_50d_20k.safetensors")["vectors"].astype(np.float32)
    words = (folder / "glove_6b_50d_20k.words.txt").read_text("utf-8").split("\n")
    place = {word: row for row, word in enumerate(words[: len(vectors)])}
    rows = [[place[word] for word in re.findall(r"\w+|[^\w\s]", text.lower()) if word in place] for text in texts]
    return np.stack([vectors[row].mean(0) if row else np.zeros(vectors.shape[1], np.float32) for row in rows])


def probabilities(method: str, features: Any, labels: Rows, train: Rows, test: Rows, n: int) -> NDArray[np.float64]:
    """Fit on some rows, and return what is said of others, (len(test), n)."""
    if method == "TF-IDF":
        reader = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        model = LogisticRegression(C=C, max_iter=300)
        model.fit(reader.fit_transform([features[row] for row in train]), labels[train])
        said = np.zeros((len(test), n))
        said[:, model.classes_] = model.predict_proba(reader.transform([features[row] for row in test]))
        return said
    return fit_head("logistic", features[train], labels[train], n).head.predict_proba(features[test])


def measure(name: str) -> str:
    """Return the row of a data set, without the speed."""
    data = opened(name)
    split, n = tl.split_data(data), len(data.classes)
    features = features_of(data)
    cells = []
    for method in METHODS:
        said = probabilities(method, features[method], data.labels, split.train, split.test, n)
        right = int((said.argmax(1) == data.labels[split.test]).sum())
        few = []
        for seed in SEEDS:
            drawn = generator(seed, "benchmark", name).permutation(split.train)
            rows = np.concatenate([drawn[data.labels[drawn] == label][:FEW] for label in range(n)])
            said = probabilities(method, features[method], data.labels, rows, split.test, n)
            few.append(float((said.argmax(1) == data.labels[split.test]).mean()))
        low, high = wilson(right, len(split.test))
        cells.append(f"{right / len(split.test):.3f} ({low:.3f} to {high:.3f}) | {np.mean(few):.3f}")
        print(name, method, cells[-1], flush=True)
    return f"| {name} | {len(split.train):,} | {len(split.test):,} | {' | '.join(cells)}"


def main() -> None:
    """Measure, and write the page."""
    missing = [name for name in ("THAWLINE_REAL_DATA", "THAWLINE_REAL_WEIGHTS") if not os.environ.get(name)]
    if missing:
        print(f"{' and '.join(missing)} must be set: benchmarks/text_embedded.py needs real data and weights.")
        return
    rows = [f"{measure(name)} | {texts_per_second(name):,.0f} |" for name in DATA]
    titles = " | ".join(f"{method} | {FEW} a class" for method in METHODS)
    page = [
        "# The text backbone that ships inside",
        "",
        f"Written by `python benchmarks/text_embedded.py` on {time.strftime('%Y-%m-%d')}; "
        f"{', '.join(f'{key} {value}' for key, value in environment().items())}.",
        "",
        "Accuracy on the test set (95 % interval) of frozen features with a logistic head, which learned from all",
        f"training texts, and from {FEW} of each class (mean of {len(SEEDS)} draws). TF-IDF is of words and pairs of",
        "words, with scikit-learn's logistic regression. The last column: texts that `embedded/words` reads in a",
        "second of processor time, from texts to features.",
        "",
        f"| data | training | test | {titles} | texts/s |",
        f"|---|{'---:|' * (3 + 2 * len(METHODS))}",
        *rows,
    ]
    Path(__file__).with_suffix(".md").write_text("\n".join(page) + "\n", "utf-8")


if __name__ == "__main__":
    main()
