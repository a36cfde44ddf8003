"""What an expert tries before any network: TF-IDF of words and characters, then a logistic regression.

    .venvs/text/bin/python text_tfidf.py DATA ENCODER

Single words and pairs, and pieces of two to five characters within words, each with sublinear counts. C = 10 suits
sparse rows of length one better than scikit-learn's 1; nothing is searched. ENCODER is not read.
"""

from __future__ import annotations

import job as benchmark
import text_job
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union


def main() -> None:
    job = text_job.parse(__doc__)
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    pieces = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    model = make_pipeline(make_union(words, pieces), LogisticRegression(C=10, max_iter=1000))
    model.fit(job.train.texts, job.train.labels)
    accuracy = float(model.score(job.test.texts, job.test.labels))
    benchmark.report("tfidf", accuracy, len(job.test.texts), ("scikit-learn",))


if __name__ == "__main__":
    main()
