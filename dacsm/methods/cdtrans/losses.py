"""The losses of CDTrans (arXiv 2109.06165), in float32."""

from torch import Tensor
from torch.nn import functional as F

from dacsm.models.three_stream import Streams


def cdtrans_losses(
    streams: Streams, source_labels: Tensor, pseudo_labels: Tensor, detached: bool = False
) -> dict[str, Tensor]:
    r"""Cross-entropy on both domains and distillation from the mix stream; labels are (B,), each loss a scalar.

    $\mathrm{CE}(z_s, y)$, $\mathrm{CE}(z_t, \hat{y})$ and $H(\mathrm{softmax}(z_m), \mathrm{softmax}(z_t))$, for the
    logits of the source, target and mix stream.
    """
    teacher = streams.mix_logits.detach() if detached else streams.mix_logits
    return {
        "source": F.cross_entropy(streams.source_logits, source_labels),
        "target": F.cross_entropy(streams.target_logits, pseudo_labels),
        "distillation": distillation(teacher, streams.target_logits),
    }


def distillation(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    r"""Cross-entropy from the teacher's to the student's prediction, (B, K) each, to a scalar.

    $-\sum_k\,p_k \log q_k$, with $p$ the teacher's probabilities and $q$ the student's, as a mean over the batch.
    The gradient flows into both, as in the public CDTrans: the teacher is not detached.
    """
    return -(F.softmax(teacher_logits, dim=1) * F.log_softmax(student_logits, dim=1)).sum(dim=1).mean()
