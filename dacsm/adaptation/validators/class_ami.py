"""Agreement of the predicted classes with clusters of the features (arXiv 2208.07360)."""

from torch.nn import functional as F

from dacsm.evaluation.outputs import Outputs


def score(epoch: Outputs) -> float:
    """Adjusted mutual information of the predicted classes and as many k-means clusters."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_mutual_info_score
    from threadpoolctl import threadpool_limits

    features = F.normalize(epoch.features.float(), dim=1).numpy()
    predicted = epoch.logits[: len(features)].argmax(dim=1).numpy()
    clusters = min(epoch.logits.shape[1], len(features))
    with threadpool_limits(1):  # threads add up in the order in which they finish
        found = KMeans(clusters, n_init=1, random_state=0).fit_predict(features)
    return float(adjusted_mutual_info_score(predicted, found))
