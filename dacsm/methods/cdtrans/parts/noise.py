"""The Domain-Adaptive Transformer's beneficial noise: what the mix stream reads from the target is perturbed.

Written from the paper's abstract alone (arXiv 2603.17474): the equations are our reconstruction, see docs/method.md.
Nothing here touches the source or the target stream, so that inference is the plain network.
"""

from dataclasses import dataclass

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

    `progress` in 0..1 is how far training has come; the caller sets it at each step. Whatever is random in a layer is
    drawn before it, so that the layer itself is arithmetic alone, which compiles as a whole.
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

    def draw(self, layer: int, tokens: Tensor) -> "DrawnNoise":
        """The noise of a layer in one step; `tokens` are those that it reads, of the three streams, (3 B, N, D)."""
        of_one = tokens[: len(tokens) // 3]  # (B, N, D): the streams are of one shape
        source = target = logits = None
        if self.source_style is not None and layer < self.source_style.layers:
            source = self.source_style.draw(of_one, self.progress, self.generator)
        if self.style is not None:
            target = self.style[layer].draw(of_one, self.progress, self.generator)
        if self.logits is not None:
            logits = self.logits[layer].draw(of_one, self.generator)
        return DrawnNoise(self.dropout, source, target, logits)

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


@dataclass(frozen=True)
class DrawnNoise:
    """What the noise does to a layer in one step, all of it drawn.

    Both style translation of the target and noise on the logits act on the target's keys and values, after the layer
    has projected its tokens to them: so the mix stream needs no second projection, and the attention keeps its fused
    form.
    """

    dropout: float  # of the attention weights
    source: "Restyling | None"
    target: "Restyling | None"
    logits: tuple[Tensor, Tensor] | None  # the strength (D,), and draws (B, N, D)

    def restyle(self, tokens: Tensor) -> Tensor:
        """The three streams' tokens (3 B, N, D) with the source's in a style on the way to the target's."""
        if self.source is None:
            return tokens
        batch = len(tokens) // 3
        source, target = tokens[:batch], tokens[batch : 2 * batch]
        patches = self.source(source[:, 1:], style_of(source), style_of(target))
        return torch.cat([torch.cat([source[:, :1], patches], dim=1), tokens[batch:]])

    def perturb(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The keys and values (B, N, D) that the mix stream reads, from both streams' own, concatenated (B, N, 2 D)."""
        if self.target is None and self.logits is None:
            return target.chunk(2, dim=-1)
        style, read = style_of(target), target
        if self.target is not None:
            read = self.target(target, style, style_of(source))
        keys, values = read.chunk(2, dim=-1)
        if self.logits is not None:
            strength, draws = self.logits
            own = style[1].chunk(2, dim=-1)[0]  # the deviation of the image's own keys, (B, 1, D)
            keys = torch.addcmul(keys, (strength * own).to(keys.dtype), draws)
        return keys, values


@dataclass(frozen=True)
class Restyling:
    """Content that gets a style on the way to another, with random spread; a style is a mean and a deviation."""

    way: Tensor  # what fraction of it: of all images, (), or of each, (B, 1, 1)
    spread: float  # in units of the batch's own deviation of the styles
    draws: tuple[Tensor, Tensor] | None  # for means and deviations, (B, 1, D) each; None where nothing is spread

    def __call__(self, tokens: Tensor, own: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
        """Tokens (B, N, D) from their own style, (B, 1, D) twice, some of the way to another."""
        with torch.no_grad():
            mean, deviation = (torch.lerp(one, to, self.way) for one, to in zip(own, other, strict=True))
            if self.draws is not None:
                mean = mean + self.spread * (_batch_deviation(own[0]) * self.draws[0])
                # multiplied by an exponential, so that a deviation stays positive
                deviation = deviation * torch.exp(self.spread * (_batch_deviation(own[1].log()) * self.draws[1]))
            ratio = deviation / own[1]
            shift = mean - ratio * own[0]
        return torch.addcmul(shift.to(tokens.dtype), tokens, ratio.to(tokens.dtype))


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

    def draw(self, tokens: Tensor, progress: float, generator: torch.Generator) -> Restyling:
        """For tokens of this shape, (B, N, D), whose keys and values are restyled together."""
        way = torch.full((), self.reach * progress, device=tokens.device)
        return Restyling(way, self.spread, _style_draws(tokens, 2 * tokens.shape[2], self.spread, generator))


class SourceTranslation:
    """The source's content in a style on the way to its pair's, with random spread: what its label is learned from.

    As MixStyle (arXiv 2104.02008) and DSU (arXiv 2202.03958) do, but from one domain to the other, and progressively.
    """

    def __init__(self, settings: SourceStyle, depth: int):
        self.weight, self.spread, self.ramp = settings.weight, settings.spread, settings.ramp
        self.layers = max(1, round(settings.layers * depth))

    def draw(self, tokens: Tensor, progress: float, generator: torch.Generator) -> Restyling:
        """For tokens of this shape, (B, N, D)."""
        reach = self.weight * min(1.0, progress / self.ramp if self.ramp else 1.0)
        way = reach * part(torch.rand(whole(len(tokens)), 1, 1, generator=generator, device=tokens.device))
        return Restyling(way, self.spread, _style_draws(tokens, tokens.shape[2], self.spread, generator))


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

    def draw(self, tokens: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """For tokens of this shape, (B, N, D): the strength (D,), and a draw for each key (B, N, D)."""
        device = tokens.device.type
        precise = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else tokens.dtype  # the keys'
        shape = whole(len(tokens)), *tokens.shape[1:]
        draws = torch.randn(shape, generator=generator, device=tokens.device, dtype=precise)
        return self.weight * self.deviation(), part(draws)

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


def _style_draws(tokens: Tensor, width: int, spread: float, generator: torch.Generator) -> tuple[Tensor, Tensor] | None:
    """Standard normal, for the mean and the deviation of each image's style: (B, 1, width) each."""
    if not spread:
        return None
    shape = whole(len(tokens)), 1, width
    mean, deviation = (part(torch.randn(shape, generator=generator, device=tokens.device)) for _ in range(2))
    return mean, deviation


def _batch_deviation(statistic: Tensor) -> Tensor:
    """Of a statistic (B, 1, D) over the whole batch: (1, 1, D)."""
    return gathered(statistic).std(dim=0, keepdim=True)


def gaussian_divergence(deviation: Tensor, prior: float) -> Tensor:
    r"""Keeps noise from vanishing and from exploding: a mean over channels of the divergence from the prior.

    $$
    \mathrm{KL}\left(\mathcal{N}(0, s^2) \,\|\, \mathcal{N}(0, \sigma_0^2)\right)
    = \frac{1}{2}\left(\frac{s^2}{\sigma_0^2} - 1 - \log\frac{s^2}{\sigma_0^2}\right)
    $$
    """
    ratio = (deviation.float() / prior).square()
    return 0.5 * (ratio - 1 - torch.log(ratio + EPSILON)).mean()
