"""scikit-learn's grid search on all CPUs of the cluster: `python grid_search.py`. It needs `pip install scikit-learn joblib`.

Whatever uses joblib runs on servers by two lines: `dispycos.register_joblib()`, and the backend's name where the work is done.
The data goes to each server once. Runs alone; where `dispycos node` runs on this or other machines, those are used, if
scikit-learn is installed there.
"""

import sys
import time

import click

import dispycos

try:
    import joblib
    from sklearn.datasets import make_classification
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC
except ImportError as missing:
    sys.exit(f"skipped: {missing}; pip install scikit-learn joblib")


@click.command()
@click.option("--samples", default=600, show_default=True, help="Rows of the data.")
def command(samples: int) -> None:
    """Find the best parameters of a classifier."""
    data, labels = make_classification(n_samples=samples, n_features=20, random_state=1)
    grid = {"C": [0.1, 1, 10], "gamma": [0.001, 0.01, 0.1]}
    search = GridSearchCV(SVC(), grid, cv=4)
    dispycos.register_joblib()
    began = time.perf_counter()
    with joblib.parallel_config(backend="dispycos"):
        search.fit(data, labels)
    seconds = time.perf_counter() - began
    print(f"{len(search.cv_results_['params']) * 4} fits in {seconds:.1f} s")
    print(f"best: {search.best_params_}, right in {search.best_score_:.1%} of the cases")


if __name__ == "__main__":
    command()
