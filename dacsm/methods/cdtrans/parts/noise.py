"""The Domain-Adaptive Transformer's beneficial noise: what the mix stream reads from the target is perturbed.

Written from the paper's abstract alone (arXiv 2603.17474): the equations are our reconstruction, see docs/method.md.
Nothing here touches the source or the target stream, so that inference is the plain network.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dacsm.config.kinds.cdtrans import Noise, Settings, SourceStyle, Style
from dacsm.methods.cdtrans.batches import Batch
from dacsm.models.classifier import Classifier
from dacsm.models.three_stream import three_stream
from dacsm.runtime.together import gathered, part, whole

EPSILON = 1e-6
PACE = 10.0  # a step of AdamW moves a parameter by the learning rate at most, too little for a deviation in one run


class BeneficialNoise(nn.Module):
    """Style translation and noise on the logits for every layer's cross-attention; parts with weight 0 are not built.

    Both act on the target's keys and values, after the layer has projected its tokens to them: so the mix stream needs
    no second projection, and the attention keeps its fused form. `progress` in 0..1 is how far training has come; the
    caller sets it at each step.
    """

    def __init__(self, classifier: Classifier, settings: Settings, generator: torch.Generator):
        super().__init__()
        blocks = classifier.backbone.blocks
        self.generator = generator
        self.progress = 0.0
        self.dropout = settings.attention_dropout
        self.style = self.logits = None  # a part with weight 0 is not built: no parameters, no draws
        if settings.style.weight:
            depths = [(layer + 1) / len(blocks) for layer in range(len(blocks))]
            self.style = [StyleTranslation(depth, settings.style) for depth in depths]
        self.source_style = None
        if settings.source_style.weight or settings.source_style.spread:
            self.source_style = SourceTranslation(settings.source_style, len(blocks))
        if settings.noise.weight:
            width = classifier.backbone.embed_dim
            self.logits = nn.ModuleList(LogitNoise(width, settings.noise) for _ in blocks)

    def perturb(self, layer: int, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The keys and values (B, N, D) that the mix stream reads, from both streams' own, concatenated (B, N, 2 D)."""
        if self.style is None and self.logits is None:
            return target.chunk(2, dim=-1)
        style, read = style_of(target), target
        if self.style is not None:
            read = self.style[layer](style_of(source), style, target, self.progress, self.generator)
        keys, values = read.chunk(2, dim=-1)
        if self.logits is not None:
            keys = self.logits[layer](keys, style[1].chunk(2, dim=-1)[0], self.generator)
        return keys, values

    def restyle(self, layer: int, tokens: Tensor) -> Tensor:
        """The three streams' tokens (3 B, N, D) with the source's in a style on the way to the target's."""
        if self.source_style is None or layer >= self.source_style.layers:
            return tokens
        batch = len(tokens) // 3
        source, target = tokens[:batch], tokens[batch : 2 * batch]
        return torch.cat([self.source_style(source, target, self.progress, self.generator), tokens[batch:]])

    def divergence(self) -> Tensor | None:
        """KL divergence of the learned noise from its prior, averaged over layers; None where nothing is learned."""
        learned = [layer.divergence() for layer in self.logits or () if layer.learned]
        return torch.stack(learned).mean() if learned else None

    def strengths(self) -> list[float]:
        """Each layer's deviation of the noise, in units of the keys' own: the root mean square over channels."""
        return [layer.overall() for layer in self.logits or ()]

    @torch.no_grad()
    def gain(self, classifier: Classifier, batch: Batch) -> float:
        r"""Task entropy of the mix stream without the noise less that with it, in nats, on a batch.

        Positive means that the noise helps the task: $I(T; E) = H(T) - H(T \mid E)$, as in arXiv 2212.09541.
        """
        classifier.eval()
        streams = (three_stream(classifier, batch.source, batch.target, noise) for noise in (None, self))
        plain, noisy = (F.cross_entropy(each.mix_logits, batch.labels) for each in streams)
        classifier.train()
        return (plain - noisy).item()


class StyleTranslation:
    r"""The target's content in a style on the way to the source's, with random spread.

    $$
    \tilde{\mu} = (1 - \lambda)\,\mu_t + \lambda\,\mu_s + g\,\Sigma_{\mu}\,\varepsilon_1, \qquad
    \tilde{\sigma} = \left((1 - \lambda)\,\sigma_t + \lambda\,\sigma_s\right)
    \exp\left(g\,\Sigma_{\log\sigma}\,\varepsilon_2\right)
    $$

    Style is the channel mean and deviation over the patch tokens, as in DSU (arXiv 2202.03958); content is what is left
    when it is taken out. The way travelled is depth · progress · weight. The spread is in units of the batch's own
    deviation of the styles. No gradient flows through a style: it is where the content is put, not what is learned.
    """

    def __init__(self, depth: float, settings: Style):
        self.reach, self.spread = depth * settings.weight, settings.spread

    def __call__(
        self,
        source_style: tuple[Tensor, Tensor],
        target_style: tuple[Tensor, Tensor],
        target: Tensor,
        progress: float,
        generator: torch.Generator,
    ) -> Tensor:
        """Tokens (B, N, D) to the same in translated style; a style is a mean and a deviation, (B, 1, D) each."""
        return _restyled(target, target_style, source_style, self.reach * progress, self.spread, generator)


class SourceTranslation:
    """The source's content in a style on the way to its pair's, with random spread: what its label is learned from.

    As MixStyle (arXiv 2104.02008) and DSU (arXiv 2202.03958) do, but from one domain to the other, and progressively.
    """

    def __init__(self, settings: SourceStyle, depth: int):
        self.weight, self.spread, self.ramp = settings.weight, settings.spread, settings.ramp
        self.layers = max(1, round(settings.layers * depth))

    def __call__(self, source: Tensor, target: Tensor, progress: float, generator: torch.Generator) -> Tensor:
        """Tokens (B, N, D) of both domains to the source's, whose patches have another style."""
        reach = self.weight * min(1.0, progress / self.ramp if self.ramp else 1.0)
        way = reach * part(torch.rand(whole(len(source)), 1, 1, generator=generator, device=source.device))
        patches = _restyled(source[:, 1:], style_of(source), style_of(target), way, self.spread, generator)
        return torch.cat([source[:, :1], patches], dim=1)


class LogitNoise(nn.Module):
    r"""Gaussian noise on the attention logits, of a strength learned by reparameterisation.

    Key $j$ is moved by $s \odot d \odot \varepsilon_j$, where $d$ is the deviation of the image's own keys. So the
    logit of query $i$ gets noise of deviation $\| q_i \odot s \odot d \| / \sqrt{d_h}$, which depends on what the query
    looks for. Moving all keys alike would change nothing, as softmax cancels it; here each has a draw of its own.
    """

    def __init__(self, width: int, settings: Noise):
        super().__init__()
        self.weight, self.prior, self.learned = settings.weight, settings.prior, settings.learned
        self.register_parameter("strength", nn.Parameter(torch.zeros(width)) if settings.learned else None)
        self.register_buffer("fixed", None if settings.learned else torch.full((width,), settings.prior))

    def deviation(self) -> Tensor:
        """sigma (D,), in units of the keys' own deviation."""
        return self.prior * torch.exp(PACE * self.strength) if self.learned else self.fixed

    def forward(self, keys: Tensor, own: Tensor, generator: torch.Generator) -> Tensor:
        """Keys (B, N, D) and their own deviation (B, 1, D) to the keys with noise."""
        scale = (self.weight * self.deviation() * own).to(keys.dtype)  # (B, 1, D)
        shape = whole(len(keys)), *keys.shape[1:]
        draw = torch.randn(shape, generator=generator, device=keys.device, dtype=keys.dtype)
        return torch.addcmul(keys, scale, part(draw))

    def divergence(self) -> Tensor:
        """Mean over channels of KL(N(0, sigma²) || N(0, prior²))."""
        return gaussian_divergence(self.deviation(), self.prior)

    @torch.no_grad()
    def overall(self) -> float:
        """The root mean square of sigma over channels, times the weight."""
        return self.weight * self.deviation().square().mean().sqrt().item()


@torch.no_grad()
def style_of(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (B, 1, D) over the patch tokens of (B, 1 + n, D)."""
    patches = tokens[:, 1:].float()
    mean = patches.mean(dim=1, keepdim=True)
    # by hand: torch.std_mean over this dimension takes forty times as long on a CPU
    variance = patches.square().mean(dim=1, keepdim=True) - mean.square()
    return mean, (variance.clamp(min=0) + EPSILON).sqrt()


def _restyled(
    tokens: Tensor,
    own: tuple[Tensor, Tensor],
    other: tuple[Tensor, Tensor],
    way: float | Tensor,
    spread: float,
    generator: torch.Generator,
) -> Tensor:
    """Tokens (B, N, D) from their own style some of the way to another, with random spread.

    A style is a mean and a deviation, (B, 1, D) each; `way` is a fraction, or one for each image, (B, 1, 1).
    """
    with torch.no_grad():
        mean, deviation = (torch.lerp(one, to, way) for one, to in zip(own, other, strict=True))
        if spread:
            mean = mean + spread * _draw(own[0], generator)
            # multiplied by an exponential, so that a deviation stays positive
            deviation = deviation * torch.exp(spread * _draw(own[1].log(), generator))
        ratio = deviation / own[1]
        shift = mean - ratio * own[0]
    return torch.addcmul(shift.to(tokens.dtype), tokens, ratio.to(tokens.dtype))


def _draw(statistic: Tensor, generator: torch.Generator) -> Tensor:
    """Noise (B, 1, D) with the batch's own deviation of a statistic (B, 1, D)."""
    spread, shape = gathered(statistic).std(dim=0, keepdim=True), (whole(len(statistic)), *statistic.shape[1:])
    return spread * part(torch.randn(shape, generator=generator, device=statistic.device))


def gaussian_divergence(deviation: Tensor, prior: float) -> Tensor:
    r"""Keeps noise from vanishing and from exploding: a mean over channels of the divergence from the prior.

    $$
    \mathrm{KL}\left(\mathcal{N}(0, s^2) \,\|\, \mathcal{N}(0, \sigma_0^2)\right)
    = \frac{1}{2}\left(\frac{s^2}{\sigma_0^2} - 1 - \log\frac{s^2}{\sigma_0^2}\right)
    $$
    """
    ratio = (deviation.float() / prior).square()
    return 0.5 * (ratio - 1 - torch.log(ratio + EPSILON)).mean()
