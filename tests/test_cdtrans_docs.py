"""The snippets of docs/cdtrans.md run as they stand, and give what the restatement gives."""

import re
from pathlib import Path

import cdtrans_pairs_reference as pairs_reference
import cdtrans_reference as reference
import pytest
import torch

PAGE = Path(__file__).parents[1] / "docs" / "cdtrans.md"


def test_the_snippets(tmp_path, monkeypatch):
    state = reference.random_state(0, width=16, side=4)
    torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "official.pth")
    generator = torch.Generator().manual_seed(1)
    xs, xt = torch.randn(2, 6, 3, 16, 16, generator=generator)
    ys, yt = torch.randint(0, 5, (2, 6), generator=generator)
    source_features, target_features = (torch.randn(n, 8, generator=generator) for n in (20, 15))
    target_logits = torch.randn(15, 5, generator=generator)
    source_labels = torch.randint(0, 5, (20,), generator=generator)
    names = {
        "xs": xs,
        "xt": xt,
        "ys": ys,
        "yt": yt,
        "source_features": source_features,
        "target_features": target_features,
        "target_logits": target_logits,
        "source_labels": source_labels,
    }
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(snippets) == 7
    for snippet in snippets:
        exec(snippet, names)

    state, before = reference.float64(state), state["base.pos_embed"]
    layers = reference.three_streams(state, 4, xs.double(), xt.double())
    near(names["mix"], layers[1]["mix"])
    for found, stream in zip(names["class_tokens"], reference.STREAMS, strict=True):
        near(found, reference.norm(state, "base.norm", layers[-1][stream])[:, 0])
    features = reference.neck_in_evaluation(state, reference.plain(state, 4, xt.double()))
    near(names["features"], features)
    near(names["logits"], features @ state["classifier.weight"].T)
    uniform = reference.draws(torch.Generator().manual_seed(1234), 6)
    dropped = reference.three_streams(state, 4, xs.double(), xt.double(), 0.1, uniform)[-1]["mix"]
    near(names["dropped"].detach(), reference.norm(state, "base.norm", dropped))

    trained = reference.trained(state)
    for name in trained:
        state[name].requires_grad_()
    last = reference.three_streams(state, 4, xs.double(), xt.double())[-1]
    loss = sum(reference.losses(reference.training_logits(state, last), ys, yt).values())
    gradients = dict(zip(trained, torch.autograd.grad(loss, [state[name] for name in trained]), strict=True))
    assert names["gradients"].keys() == gradients.keys()
    with torch.no_grad():
        reference.sgd_step(state, gradients, {}, 0.008, epoch=1, epochs=40)
    for name, value in names["after"].items():
        near(value, state[name].detach())
    assert names["rates"] == pytest.approx([reference.rate(0.008, epoch, 40) for epoch in range(1, 41)])
    assert names["bias_rates"] == pytest.approx([reference.rate(0.008, epoch, 40, bias=True) for epoch in range(1, 41)])

    pseudo = pairs_reference.pseudo_labels(target_features, target_logits)
    assert names["pseudo_labels"].tolist() == pseudo
    expected = pairs_reference.pairs(
        *pairs_reference.nearest(source_features, target_features), source_labels.tolist(), pseudo
    )
    assert names["rows"] == expected
    near(names["resized"], pairs_reference.resized(before, (4, 4), (6, 5)))


def near(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found.double(), expected.double(), rtol=1e-4, atol=3e-5)
