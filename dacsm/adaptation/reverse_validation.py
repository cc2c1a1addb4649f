"""Reverse validation: pseudo labels of the target are judged by how well they bring the source's own labels back."""

from statistics import fmean

from torch import Tensor

from dacsm.adaptation.pairing import closest_class, labelled_centres


def reverse_accuracy(
    target: Tensor, pseudo_labels: Tensor, source: Tensor, source_labels: Tensor, classes: int
) -> float:
    """Mean per-class accuracy on the source, by the centres of the target's pseudo-labelled images.

    From features (T, D) with labels (T,) to features (S, D) with labels (S,). Source images go to the closest centre;
    a class that no target image is labelled as is never predicted. This is circular validation (Bruzzone and
    Marconcini, TPAMI 2010; Zhong et al., ECML 2010) with a classifier that needs no training. It reads no label of the
    target.
    """
    centres = labelled_centres(target, pseudo_labels, classes)
    right = closest_class(source, centres, pseudo_labels.unique()) == source_labels
    images, found = (labels.bincount(minlength=classes).tolist() for labels in (source_labels, source_labels[right]))
    return fmean(recalled / total for recalled, total in zip(found, images, strict=True) if total)
