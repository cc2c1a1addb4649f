"""The Domain-Adaptive Transformer's beneficial noise: what the mix stream reads from the target is perturbed.

Only the paper's abstract is public (arXiv 2603.17474); the equations here are our reconstruction, see docs/method.md.
Nothing here touches the source or the target stream, so that inference is the plain network.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dacsm.models.classifier import Classifier
from dacsm.params import Method, Noise, Style

EPSILON = 1e-6


class BeneficialNoise(nn.Module):
    """Style translation and learned logit noise for every layer's cross-attention; parts with weight 0 are not built.

    `progress` in 0..1 is how far training has come; the caller sets it at each step.
    """

    def __init__(self, classifier: Classifier, method: Method, generator: torch.Generator):
        super().__init__()
        blocks = classifier.backbone.blocks
        self.generator = generator
        self.progress = 0.0
        self.style = self.logits = None  # a part with weight 0 is not built: no parameters, no draws
        if method.style.weight:
            depths = [(layer + 1) / len(blocks) for layer in range(len(blocks))]
            self.style = nn.ModuleList(StyleTranslation(depth, method.style) for depth in depths)
        if method.noise.weight:
            self.logits = nn.ModuleList(
                LogitNoise(block.attn.num_heads, block.attn.head_dim, method.noise) for block in blocks
            )

    def translate(self, layer: int, source: Tensor, target: Tensor) -> Tensor | None:
        return None if self.style is None else self.style[layer](source, target, self.progress, self.generator)

    def bias(self, layer: int, queries: Tensor, keys: Tensor) -> Tensor | None:
        return None if self.logits is None else self.logits[layer](queries, keys, self.generator)

    def divergences(self) -> dict[str, Tensor]:
        """KL divergence from the prior, of each part's noise in the last forward, averaged over layers."""
        parts = {"style": self.style, "noise": self.logits}
        return {
            name: torch.stack([layer.divergence for layer in layers]).mean()
            for name, layers in parts.items()
            if layers is not None
        }


class StyleTranslation(nn.Module):
    """The target's content in a style on the way to the source's, with random spread.

    Style is the channel mean and deviation over the patch tokens, as in DSU (arXiv 2202.03958); content is what is left
    when it is taken out. The way travelled is depth · progress · weight. The spread is a learned gate times the batch's
    own deviation of the styles.
    """

    def __init__(self, depth: float, settings: Style):
        super().__init__()
        self.reach, self.prior = depth * settings.weight, settings.spread
        self.gate = nn.Parameter(_inverse_softplus(torch.full((2,), settings.spread))) if settings.spread else None
        self.divergence = torch.zeros(())

    def forward(self, source: Tensor, target: Tensor, progress: float, generator: torch.Generator) -> Tensor:
        """Normed tokens (B, N, D) of both streams to the tokens (B, N, D) that the mix stream reads."""
        way = self.reach * progress
        source_mean, source_deviation = _style(source)
        target_mean, target_deviation = _style(target)
        mean = torch.lerp(target_mean, source_mean, way)
        deviation = torch.lerp(target_deviation, source_deviation, way)
        if self.gate is not None:
            gate = F.softplus(self.gate)
            self.divergence = gaussian_divergence(gate, self.prior)
            mean = mean + gate[0] * self._draw(target_mean, generator)
            # multiplied by an exponential, so that a deviation stays positive
            deviation = deviation * torch.exp(gate[1] * self._draw(target_deviation.log(), generator))
        content = (target - target_mean) / target_deviation
        return deviation * content + mean

    @staticmethod
    def _draw(statistic: Tensor, generator: torch.Generator) -> Tensor:
        """Noise (B, 1, D) with the batch's own deviation of a statistic (B, 1, D)."""
        with torch.no_grad():
            spread = statistic.std(dim=0, keepdim=True)
            return spread * torch.randn(statistic.shape, generator=generator, device=statistic.device)


class LogitNoise(nn.Module):
    """Gaussian noise on the attention logits, of a deviation learned from query and key by reparameterisation.

    sigma_ij = softplus(a · q_i + b · k_j + c) for each head. Adding the same number to a row would change nothing, as
    softmax cancels it.
    """

    def __init__(self, heads: int, head_dim: int, settings: Noise):
        super().__init__()
        self.weight, self.prior = settings.weight, settings.prior
        self.query = nn.Parameter(torch.zeros(heads, head_dim))
        self.key = nn.Parameter(torch.zeros(heads, head_dim))
        self.offset = nn.Parameter(_inverse_softplus(torch.full((heads,), settings.prior)))
        self.divergence = torch.zeros(())

    def deviation(self, queries: Tensor, keys: Tensor) -> Tensor:
        """sigma (B, heads, N, N) for queries and keys (B, heads, N, D / heads)."""
        rows = (queries * self.query[:, None]).sum(-1) + self.offset[:, None]  # (B, heads, N)
        columns = (keys * self.key[:, None]).sum(-1)
        return F.softplus(rows[..., :, None] + columns[..., None, :])

    def forward(self, queries: Tensor, keys: Tensor, generator: torch.Generator) -> Tensor:
        """The term (B, heads, N, N) for the logits."""
        sigma = self.deviation(queries, keys)
        self.divergence = gaussian_divergence(sigma, self.prior)
        return self.weight * sigma * torch.randn(sigma.shape, generator=generator, device=sigma.device)


def _style(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (B, 1, D) over the patch tokens of (B, 1 + n, D)."""
    patches = tokens[:, 1:].float()
    mean = patches.mean(dim=1, keepdim=True)
    # by hand: torch.std_mean over this dimension takes forty times as long on a CPU
    variance = patches.square().mean(dim=1, keepdim=True) - mean.square()
    return mean, (variance.clamp(min=0) + EPSILON).sqrt()


def gaussian_divergence(deviation: Tensor, prior: float) -> Tensor:
    """Mean KL(N(0, deviation²) || N(0, prior²)): keeps noise from vanishing and from exploding."""
    ratio = (deviation.float() / prior).square()
    return 0.5 * (ratio - 1 - torch.log(ratio + EPSILON)).mean()


def _inverse_softplus(value: Tensor) -> Tensor:
    return value + torch.log(-torch.expm1(-value))
